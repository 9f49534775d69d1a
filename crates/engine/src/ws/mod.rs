//! WebSocket endpoints for services of the protocols `ws` and `wss` (RFC 6455).
//!
//! `handshake.rs` is what makes a request a WebSocket, on both sides; `frame.rs` the frames on the wire; `session.rs` what
//! plugins see and say about a connection; `relay.rs` moves messages between the two sides until both are closed. A
//! WebSocket through an `http` or `https` service does not come here: it is a tunnel of bytes.
//!
//! The frame codec is our own because both sides are moved by one task over `Transport`: the usual crates own the
//! stream, answer pings and assemble messages by themselves, where a gateway passes control frames on, refuses a frame by
//! its header before its payload is read, validates text as it arrives and writes payloads without a copy.
//!
//! `deflate.rs` is `permessage-deflate`, agreed on with each side by itself where the operator wants it: plugins see plain
//! messages whatever the wire has. Nothing else is negotiated.

pub mod deflate;
pub mod frame;
pub mod handshake;
pub mod relay;
pub mod session;
