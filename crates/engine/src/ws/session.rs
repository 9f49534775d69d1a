//! What plugins see and say about one WebSocket connection; part of its `Exchange`.

use bytes::{Bytes, BytesMut};

use crate::ws::deflate::Deflate;
use crate::ws::frame::{Kind, Message};

/// One end of a connection through the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who asked.
    Client,
    /// Who was asked.
    Upstream,
}

/// How a side is told that the connection is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Farewell {
    /// Status of the close frame.
    pub status: u16,
    /// Its reason, UTF-8, at most `frame::REASON_BYTES`.
    pub reason: Bytes,
}

impl Farewell {
    /// As a close frame.
    #[must_use]
    pub fn into_message(self) -> Message {
        Message {
            kind: Kind::Close,
            data: BytesMut::from(&self.reason[..]),
            status: Some(self.status),
        }
    }

    /// A status with a fixed reason.
    #[must_use]
    pub const fn new(status: u16, reason: &'static str) -> Self {
        Self {
            status,
            reason: Bytes::from_static(reason.as_bytes()),
        }
    }
}

/// State of one connection between its phases.
#[derive(Debug)]
pub struct Session {
    /// `Sec-WebSocket-Accept` that the client expects.
    pub client_accept: String,
    /// `Sec-WebSocket-Key` that the upstream gets.
    pub upstream_key: String,
    /// `permessage-deflate` is offered to the upstream.
    pub offers_deflate: bool,
    /// How messages to the client are compressed, when both agree.
    pub client_deflate: Option<Deflate>,
    /// The same to the upstream.
    pub upstream_deflate: Option<Deflate>,
    /// Largest message of the client.
    pub client_limit_bytes: usize,
    /// Largest message of the upstream.
    pub upstream_limit_bytes: usize,
    /// The message that is in its phase.
    pub message: Option<Message>,
    /// That message is not passed on.
    pub is_dropped: bool,
    /// A plugin ends the connection: what the client and what the upstream are told.
    pub farewells: Option<(Farewell, Farewell)>,
}

impl Session {
    /// A frame handler failed: nothing it should have looked at may pass.
    pub fn fail(&mut self) {
        self.farewells = Some((
            Farewell::new(1011, "An unexpected error occurred"),
            Farewell::new(1001, ""),
        ));
    }

    /// How messages to `side` are compressed, and may be by it.
    #[must_use]
    pub const fn deflate(&self, side: Side) -> Option<Deflate> {
        match side {
            Side::Client => self.client_deflate,
            Side::Upstream => self.upstream_deflate,
        }
    }

    /// Largest message that `side` may send.
    #[must_use]
    pub const fn limit_bytes(&self, side: Side) -> usize {
        match side {
            Side::Client => self.client_limit_bytes,
            Side::Upstream => self.upstream_limit_bytes,
        }
    }
}
