//! The byte-moving half of Headgate: listeners, TLS, HTTP, routing, upstreams. No Python in it.
//!
//! First files to read: `server.rs` (how the parts are wired), `pipeline.rs` (the stages of a request), `runner.rs` (the
//! boundary to plugins), `plan.rs` (what the engine is told).

pub mod change;
pub mod error;
pub mod exchange;
pub mod explain;
pub mod gateway;
pub mod http;
pub mod listener;
pub mod live;
pub mod phase;
pub mod pipeline;
pub mod plan;
pub mod router;
pub mod runner;
pub mod server;
pub mod settings;
pub mod stream;
pub mod telemetry;
pub mod timer;
pub mod tls;
pub mod upstream;
pub mod ws;
