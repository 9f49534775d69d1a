//! Streams: connections and datagrams that are no HTTP, from their first byte to their log line.
//!
//! `tcp.rs` and `udp.rs` are the two ways in; `session.rs` has the stages both share (route, preread, log), `connect.rs`
//! finds the upstream, `relay.rs` copies bytes. A session is an `Exchange` without a request: phases, log queue and what
//! plugins set for the upstream are those of HTTP.

pub mod client_hello;
pub mod connect;
pub mod datagrams;
pub mod relay;
pub mod session;
pub mod tcp;
pub mod udp;
pub mod udp_table;
