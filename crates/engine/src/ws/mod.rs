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
//! Extensions are not negotiated on either side: `permessage-deflate` would hide messages from plugins or make every
//! message cost a decompression whose size no header tells.

pub mod frame;
pub mod handshake;
pub mod relay;
pub mod session;
