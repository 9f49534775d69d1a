//! HTTP/1.0 and HTTP/1.1: heads, bodies, buffered byte streams. Used for clients (`server.rs`) and upstreams
//! (`upstream::connection`).

pub mod body;
pub mod parse;
pub mod server;
pub mod transport;
