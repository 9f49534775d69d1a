//! The phases the engine runs, as bits.
//!
//! A copy of `headgate.phases.Phase` for the phases that concern the engine; `tests/invariants` compares the two.

/// One phase of a request's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Phase {
    /// A certificate is being chosen for a TLS handshake.
    Certificate = 1 << 1,
    /// The request head has arrived, no route is known.
    Rewrite = 1 << 3,
    /// The route is known, nothing was sent upstream.
    Access = 1 << 4,
    /// The whole upstream response is in memory (buffered routes only).
    Response = 1 << 6,
    /// The response head is about to be sent.
    HeaderFilter = 1 << 8,
    /// A chunk of the response body is about to be sent.
    BodyFilter = 1 << 9,
    /// The last byte is out, or the client has gone.
    Log = 1 << 10,
    /// A WebSocket handshake of a `ws` or `wss` service, in place of access.
    WsHandshake = 1 << 15,
    /// A WebSocket message of the client is about to be passed on.
    WsClientFrame = 1 << 16,
    /// A WebSocket message of the upstream is about to be passed on.
    WsUpstreamFrame = 1 << 17,
    /// A request to a `ws` or `wss` service is over, in place of log.
    WsClose = 1 << 18,
    /// A stream's route is known, nothing was sent upstream.
    Preread = 1 << 11,
}

impl Phase {
    /// All phases of the engine, in the order of a request.
    pub const ALL: [Self; 12] = [
        Self::Certificate,
        Self::Rewrite,
        Self::Access,
        Self::Response,
        Self::HeaderFilter,
        Self::BodyFilter,
        Self::Log,
        Self::WsHandshake,
        Self::WsClientFrame,
        Self::WsUpstreamFrame,
        Self::WsClose,
        Self::Preread,
    ];

    /// The phase's bit in masks.
    #[must_use]
    pub const fn bit(self) -> u32 {
        self as u32
    }

    /// The name that plugins and texts use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Rewrite => "rewrite",
            Self::Access => "access",
            Self::Response => "response",
            Self::HeaderFilter => "header_filter",
            Self::BodyFilter => "body_filter",
            Self::Log => "log",
            Self::WsHandshake => "ws_handshake",
            Self::WsClientFrame => "ws_client_frame",
            Self::WsUpstreamFrame => "ws_upstream_frame",
            Self::WsClose => "ws_close",
            Self::Preread => "preread",
        }
    }
}
