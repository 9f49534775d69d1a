//! Request and response heads, whatever protocol brought them.

pub use http::Method;

use crate::http::headers::{HeaderBlock, Known, Span};

/// HTTP version of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2
    Http2,
}

impl Version {
    /// As in `Via` (RFC 9110, section 7.6.3): without the protocol name.
    #[must_use]
    pub const fn via(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }

    /// As plugins see it.
    #[must_use]
    pub const fn number(self) -> f64 {
        match self {
            Self::Http10 => 1.0,
            Self::Http11 => 1.1,
            Self::Http2 => 2.0,
        }
    }
}

/// Method, target and fields of a request.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// Method, as sent.
    pub method: Method,
    /// Request target as sent, a span of `headers`.
    pub target: Span,
    /// Version of the message.
    pub version: Version,
    /// Fields in order.
    pub headers: HeaderBlock,
}

impl RequestHead {
    /// The request target, untouched.
    #[must_use]
    pub fn target(&self) -> &[u8] {
        self.headers.text(self.target)
    }

    /// Host of the request: of an absolute target, else the Host field; with port as sent, empty when there is none.
    #[must_use]
    pub fn authority(&self) -> &[u8] {
        let target = self.target();
        if !target.starts_with(b"/") {
            if let Some(authority) = target.split(|byte| *byte == b'/').nth(2) {
                return authority
                    .split(|byte| matches!(byte, b'?' | b'#'))
                    .next()
                    .unwrap_or_default();
            }
        }
        self.headers.known(Known::Host).unwrap_or_default()
    }
}

/// Status and fields of a response.
#[derive(Debug, Clone, Default)]
pub struct ResponseHead {
    /// Status code.
    pub status: u16,
    /// Fields in order.
    pub headers: HeaderBlock,
}

/// The host of an authority without its port, brackets kept.
#[must_use]
pub fn host_without_port(authority: &[u8]) -> &[u8] {
    if authority.starts_with(b"[") {
        return match authority.iter().position(|byte| *byte == b']') {
            Some(end) => authority.get(..=end).unwrap_or(authority),
            None => authority,
        };
    }
    authority.split(|byte| *byte == b':').next().unwrap_or_default()
}
