//! Why a request ends without the upstream's response, and the one table from reason to answer.
//!
//! Every way in which the gateway itself answers is a variant of `Refusal`; `Refusal::answer` is exhaustive, so a new
//! reason does not compile before it has a status, a public text and a decision about the connection. Texts: routing
//! reference, sections 9 and 14. Causes are for the log, never for the client.

use std::borrow::Cow;

use crate::http::h1::parse::HeadFault;

/// Who picks the content type of the error body (routing reference 14.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Producer {
    /// Like `kong.response.error`: from Accept, JSON by default.
    Gateway,
    /// Like the HTTP server's error pages: from Accept, else Content-Type, else `error_default_type`.
    Server,
}

/// What the client is told.
#[derive(Debug)]
pub struct PublicAnswer {
    /// Status code.
    pub status: u16,
    /// Text of the body.
    pub message: Cow<'static, str>,
    /// Whose rules pick the body's type.
    pub producer: Producer,
    /// The connection cannot be used for another request.
    pub closes: bool,
    /// Fields to add.
    pub headers: Vec<(&'static str, Vec<u8>)>,
    /// Redirects carry no body.
    pub has_body: bool,
}

/// A reason to answer from here.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The head is malformed or beyond a limit.
    #[error("{0}")]
    Head(#[from] HeadFault),
    /// The client did not finish its head or body in time.
    #[error("client timed out while sending the request")]
    ClientTimeout,
    /// The body's framing is broken, or the client stopped sending it.
    #[error("request body: {0}")]
    Body(&'static str),
    /// The body exceeds `client_max_body_size`.
    #[error("request body larger than client_max_body_size")]
    BodyTooLarge,
    /// No route matched.
    #[error("no Route matched with those values")]
    NoRoute,
    /// The route has no service and no plugin answered.
    #[error("no Service found with those values")]
    NoService,
    /// An https-only route was asked over plain http.
    #[error("plain request to an https-only route")]
    HttpsRequired,
    /// The same, on a route that redirects.
    #[error("redirect to https")]
    HttpsRedirect {
        /// 301, 302, 307 or 308.
        status: u16,
        /// The https URL.
        location: Vec<u8>,
    },
    /// A gRPC route was asked over HTTP/1.
    #[error("gRPC over HTTP/1")]
    Http2Required,
    /// A gRPC route was asked for something else.
    #[error("not gRPC on a gRPC route")]
    NotGrpc,
    /// A grpcs-only route was asked over a plain connection.
    #[error("plain gRPC request to a grpcs-only route")]
    GrpcsRequired,
    /// A WebSocket route was asked for something else.
    #[error("no WebSocket handshake on a WebSocket route")]
    WebSocketRequired,
    /// A WebSocket of another version than 13.
    #[error("WebSocket handshake of another version than 13")]
    WebSocketVersion,
    /// A WebSocket handshake that cannot be answered.
    #[error("WebSocket handshake with {0}")]
    WebSocketHandshake(&'static str),
    /// The upstream has no target that may be used.
    #[error("failure to get a peer from the ring-balancer")]
    NoPeer,
    /// The upstream has `max_connections` requests on their way and as many waiting as it may.
    #[error("upstream at its limit of connections and pending requests")]
    UpstreamBusy,
    /// The service's name does not exist.
    #[error("name resolution failed for '{host}'")]
    NameNotFound {
        /// The name.
        host: String,
    },
    /// The name could not be looked up.
    #[error("failed the initial dns/balancer resolve for '{host}' with: {cause}")]
    NameLookup {
        /// The name.
        host: String,
        /// What the resolver said.
        cause: String,
    },
    /// No connection to any target, or an invalid answer.
    #[error("upstream {address}: {cause}")]
    UpstreamFailed {
        /// Last address tried.
        address: String,
        /// What happened.
        cause: String,
    },
    /// The last attempt took too long.
    #[error("upstream {address} timed out while {during}")]
    UpstreamTimeout {
        /// Last address tried.
        address: String,
        /// Connecting, sending or reading.
        during: &'static str,
    },
    /// A retry found no target.
    #[error("no peer left for a retry")]
    NoPeerForRetry,
    /// A buffered response exceeds its limit.
    #[error("upstream response larger than response_buffer_bytes")]
    ResponseTooLarge,
    /// A fault of the gateway.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Refusal {
    /// The client's side of it.
    #[must_use]
    pub fn answer(&self) -> PublicAnswer {
        use Producer::{Gateway, Server};
        let (status, message, producer, closes): (u16, &'static str, Producer, bool) = match self {
            Self::Head(HeadFault::Malformed(_)) => (400, text_of(400), Server, true),
            Self::Head(HeadFault::TargetTooLong) => (414, text_of(414), Server, true),
            // 494 of the server behind the contract goes out as 400.
            Self::Head(HeadFault::HeaderTooLarge) => (400, text_of(494), Server, true),
            Self::Head(HeadFault::UnknownTransferCoding) => (501, text_of(501), Server, true),
            Self::Head(HeadFault::UnsupportedVersion) => (505, text_of(505), Server, true),
            Self::Head(HeadFault::MethodNotAllowed) => (405, text_of(405), Server, true),
            Self::ClientTimeout => (408, text_of(408), Server, true),
            Self::Body(_) => (400, text_of(400), Server, true),
            Self::BodyTooLarge => (413, text_of(413), Server, true),
            Self::NoRoute => (404, "no Route matched with those values", Gateway, false),
            Self::NoService => (503, "no Service found with those values", Gateway, false),
            Self::HttpsRequired => (426, "Please use HTTPS protocol", Gateway, false),
            Self::HttpsRedirect { status, .. } => (*status, "", Gateway, false),
            Self::Http2Required => (426, "Please use HTTP2 protocol", Gateway, false),
            Self::NotGrpc => (415, "Non-gRPC request matched gRPC route", Gateway, false),
            Self::GrpcsRequired => (200, "", Gateway, false),
            Self::WebSocketRequired | Self::WebSocketVersion => {
                (426, "Please use the WebSocket protocol, version 13", Gateway, false)
            }
            Self::WebSocketHandshake(_) => (400, text_of(400), Gateway, false),
            Self::NoPeer => (503, "failure to get a peer from the ring-balancer", Gateway, false),
            Self::UpstreamBusy => (503, "too many requests to the upstream", Gateway, false),
            Self::NameNotFound { .. } => (503, "name resolution failed", Gateway, false),
            Self::NameLookup { .. } | Self::Internal(_) => (500, text_of(500), Gateway, false),
            Self::UpstreamFailed { .. } | Self::ResponseTooLarge => (502, text_of(502), Server, false),
            Self::UpstreamTimeout { .. } => (504, text_of(504), Server, false),
            Self::NoPeerForRetry => (503, text_of(503), Server, false),
        };
        let headers = match self {
            Self::HttpsRequired => {
                vec![
                    ("Connection", b"Upgrade".to_vec()),
                    ("Upgrade", b"TLS/1.2, HTTP/1.1".to_vec()),
                ]
            }
            Self::HttpsRedirect { location, .. } => vec![("Location", location.clone())],
            Self::Http2Required => vec![("Connection", b"Upgrade".to_vec()), ("Upgrade", b"HTTP/2".to_vec())],
            Self::WebSocketRequired | Self::WebSocketVersion => vec![
                ("Connection", b"Upgrade".to_vec()),
                ("Upgrade", b"websocket".to_vec()),
                ("Sec-WebSocket-Version", b"13".to_vec()),
            ],
            Self::GrpcsRequired => vec![
                ("Content-Type", b"application/grpc".to_vec()),
                ("grpc-status", b"1".to_vec()),
                ("grpc-message", b"gRPC request matched gRPCs route".to_vec()),
            ],
            _ => Vec::new(),
        };
        let has_body = !matches!(self, Self::HttpsRedirect { .. } | Self::GrpcsRequired);
        PublicAnswer {
            status,
            message: Cow::Borrowed(message),
            producer,
            closes,
            headers,
            has_body,
        }
    }

    /// True for what the operator should see in the log at error level; the rest are clients' matters.
    #[must_use]
    pub fn is_operators_matter(&self) -> bool {
        matches!(
            self,
            Self::NoPeer
                | Self::UpstreamBusy
                | Self::NameNotFound { .. }
                | Self::NameLookup { .. }
                | Self::UpstreamFailed { .. }
                | Self::UpstreamTimeout { .. }
                | Self::NoPeerForRetry
                | Self::ResponseTooLarge
                | Self::Internal(_)
        )
    }

    /// True when something unexpected happened, as `kong.response.get_source` counts it.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        self.is_operators_matter()
    }
}

/// Default texts by status (PDK reference 8.4).
pub const TEXTS: &[(u16, &str)] = &[
    (400, "Bad request"),
    (401, "Unauthorized"),
    (402, "Payment required"),
    (403, "Forbidden"),
    (404, "Not found"),
    (405, "Method not allowed"),
    (406, "Not acceptable"),
    (407, "Proxy authentication required"),
    (408, "Request timeout"),
    (409, "Conflict"),
    (410, "Gone"),
    (411, "Length required"),
    (412, "Precondition failed"),
    (413, "Payload too large"),
    (414, "URI too long"),
    (415, "Unsupported media type"),
    (416, "Range not satisfiable"),
    (417, "Expectation failed"),
    (418, "I'm a teapot"),
    (421, "Misdirected request"),
    (422, "Unprocessable entity"),
    (423, "Locked"),
    (424, "Failed dependency"),
    (425, "Too early"),
    (426, "Upgrade required"),
    (428, "Precondition required"),
    (429, "Too many requests"),
    (431, "Request header fields too large"),
    (451, "Unavailable for legal reasons"),
    (494, "Request header or cookie too large"),
    (500, "An unexpected error occurred"),
    (501, "Not implemented"),
    (502, "An invalid response was received from the upstream server"),
    (503, "The upstream server is currently unavailable"),
    (504, "The upstream server is timing out"),
    (505, "HTTP version not supported"),
    (506, "Variant also negotiates"),
    (507, "Insufficient storage"),
    (508, "Loop detected"),
    (510, "Not extended"),
    (511, "Network authentication required"),
];

/// The default text of an error status; empty for others.
#[must_use]
pub fn text_of(status: u16) -> &'static str {
    TEXTS
        .iter()
        .find(|(code, _)| *code == status)
        .map_or("", |(_, text)| text)
}
