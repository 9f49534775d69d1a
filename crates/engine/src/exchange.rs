//! One request on its way through the gateway, as data.
//!
//! Owns everything that phases read and write about a request: heads, body in memory, the chosen route, what plugins
//! overrode, the answer, timings. It does no I/O and runs no phase; `pipeline.rs` moves it from stage to stage and hands it
//! to the `PhaseRunner` by value, so that whoever has it may change it without locks.

use std::any::Any;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};

use crate::http::h1::parse::Framing;
use crate::http::head::{host_without_port, RequestHead, ResponseHead};
use crate::http::headers::HeaderBlock;
use crate::listener::proxy_protocol::Proxied;
use crate::live::Live;
use crate::phase::Phase;
use crate::router;
use crate::stream::session::Session as StreamSession;
use crate::tls::client::TlsChanges;
use crate::ws::session::Session;

/// What is known of a client connection; shared by its requests.
#[derive(Debug)]
pub struct ClientConnection {
    /// Address of the direct peer.
    pub peer: SocketAddr,
    /// `peer`'s address as text.
    pub peer_ip_text: String,
    /// The peer is in `trusted_ips`.
    pub is_trusted: bool,
    /// Local address that accepted the connection.
    pub local: SocketAddr,
    /// `local`'s port after `port_maps`.
    pub mapped_port: u16,
    /// TLS facts; None on a plain connection.
    pub tls: Option<ClientTls>,
    /// What a trusted balancer said in its PROXY protocol head.
    pub proxied: Option<Proxied>,
}

impl ClientConnection {
    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() {
            "https"
        } else {
            "http"
        }
    }
}

/// TLS facts of a client connection.
#[derive(Debug, Clone)]
pub struct ClientTls {
    /// Name asked for by the client, lower case.
    pub server_name: Option<String>,
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// Suite name, OpenSSL's.
    pub cipher: String,
    /// Certificates that the client presented, DER, leaf first; not verified.
    pub client_certificates: Vec<Vec<u8>>,
}

/// The route that matched.
#[derive(Debug)]
pub struct Matched {
    /// Position in the plan's routes.
    pub route: usize,
    /// Length of the matched path text, when a path matched.
    pub prefix_bytes: Option<usize>,
    /// Captures of a regex path with groups.
    pub captures: Option<router::Captures>,
}

/// The client's body, as far as it was read.
#[derive(Debug)]
pub struct RequestBody {
    /// What the head announced.
    pub framing: Framing,
    /// Bytes in memory.
    pub held: BytesMut,
    /// `held` is the whole body.
    pub is_complete: bool,
    /// The last reading stopped at its limit.
    pub is_over_limit: bool,
    /// Bytes went to the upstream without being kept.
    pub is_gone: bool,
    /// Trailers that followed the body.
    pub trailers: Option<HeaderBlock>,
    /// A plugin replaced the body.
    pub is_replaced: bool,
}

impl RequestBody {
    /// A body of which nothing was read.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        Self {
            framing,
            held: BytesMut::new(),
            is_complete: framing == Framing::None,
            is_over_limit: false,
            is_gone: false,
            trailers: None,
            is_replaced: false,
        }
    }
}

/// Asked for another target before each retry: host and port, None to keep the target, or why there is none.
pub type RetryTarget = Arc<dyn Fn() -> Result<Option<(String, u16)>, String> + Send + Sync>;

/// What plugins set for the upstream side.
#[derive(Default)]
pub struct UpstreamOverrides {
    /// `kong.service.request.set_scheme`.
    pub is_tls: Option<bool>,
    /// `kong.service.request.set_path`, escaped.
    pub path: Option<Vec<u8>>,
    /// `kong.service.request.set_raw_query`; `Some(None)` removes it.
    pub query: Option<Option<Vec<u8>>>,
    /// Host header set by a plugin; wins over all rules.
    pub host: Option<Vec<u8>>,
    /// `kong.service.set_target` or `set_upstream`: host and, for a target, port.
    pub target: Option<(String, Option<u16>)>,
    /// Attempts after the first.
    pub retries: Option<u32>,
    /// (connect, write, read) in milliseconds.
    pub timeouts_ms: Option<(u64, u64, u64)>,
    /// `kong.service.set_tls_*`.
    pub tls: Option<TlsChanges>,
    /// `kong.service.set_target_retry_callback`.
    pub retry_target: Option<RetryTarget>,
}

/// A recorded answer of the gateway or a plugin.
#[derive(Debug)]
pub struct Answer {
    /// Body to send; the head is in `Exchange::response`.
    pub body: Bytes,
    /// Close the connection afterwards (the request could not be read to its end).
    pub closes: bool,
}

/// One try at a target, for the log.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Unix nanoseconds at which the target was asked for.
    pub balancer_start_ns: u128,
    /// Time to pick the target.
    pub balancer_latency: Duration,
    /// Address tried.
    pub address: SocketAddr,
    /// None while it is the last one or succeeded; else the status it counts as.
    pub failure: Option<u16>,
}

/// TLS facts of the connection to the upstream.
#[derive(Debug, Clone)]
pub struct UpstreamTls {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// Suite name, OpenSSL's.
    pub cipher: String,
    /// The upstream's own certificate, DER.
    pub certificate: Option<Vec<u8>>,
}

/// A chunk of the response body in body_filter.
#[derive(Debug, Default)]
pub struct ResponseChunk {
    /// The bytes.
    pub data: Bytes,
    /// Nothing follows.
    pub is_last: bool,
}

/// Points in time of an exchange.
#[derive(Debug)]
pub struct Timings {
    /// First byte of the head was there.
    pub started: Instant,
    /// The same as Unix milliseconds.
    pub started_unix_ms: u64,
    /// Looking for the route began and ended.
    pub routing: Option<(Instant, Instant)>,
    /// The request was handed to the upstream.
    pub proxied: Option<Instant>,
    /// The upstream's head was complete.
    pub upstream_head: Option<Instant>,
    /// The upstream's last byte was there.
    pub upstream_end: Option<Instant>,
    /// The gateway's own answer was ready.
    pub answered: Option<Instant>,
    /// The last byte left.
    pub finished: Option<Instant>,
}

impl Timings {
    /// Start now.
    #[must_use]
    pub fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            started: Instant::now(),
            started_unix_ms: unix.as_millis() as u64,
            routing: None,
            proxied: None,
            upstream_head: None,
            upstream_end: None,
            answered: None,
            finished: None,
        }
    }
}

/// One request with all that belongs to it.
pub struct Exchange {
    /// Request id, 32 lower-case hex digits.
    pub id: [u8; 32],
    /// The configuration in force for this request, taken at its start.
    pub live: Arc<Live>,
    /// The connection it came on.
    pub connection: Arc<ClientConnection>,
    /// Current phase.
    pub phase: Phase,
    /// Bits of the phases that have handlers for this request.
    pub phases: u32,
    /// Request head; fields and method as changed by plugins, target as sent.
    pub request: RequestHead,
    /// Method as sent, when a plugin changed it.
    pub original_method: Option<http::Method>,
    /// Normalised path.
    pub path: Vec<u8>,
    /// Client address after real-IP processing, with its port.
    pub forwarded_client: (IpAddr, u16),
    /// The matched route.
    pub matched: Option<Matched>,
    /// Request body.
    pub body: RequestBody,
    /// What plugins set for the upstream side.
    pub overrides: UpstreamOverrides,
    /// Id of the consumer, else of the credential, as `hash_on: consumer` has it.
    pub balancing_identity: Option<String>,
    /// Collect the upstream's whole response before answering.
    pub wants_buffering: bool,
    /// Status and fields for the client.
    pub response: ResponseHead,
    /// An answer that replaces proxying, or the response body.
    pub answer: Option<Answer>,
    /// A plugin called exit or error.
    pub is_exited: bool,
    /// An unexpected error happened.
    pub is_failed: bool,
    /// The request reached the proxying step.
    pub is_proxied: bool,
    /// Status of each attempt that got one.
    pub upstream_statuses: Vec<u16>,
    /// HTTP/2 was spoken with the upstream.
    pub is_http2_upstream: bool,
    /// Names that the upstream sent.
    pub upstream_names: Vec<Vec<u8>>,
    /// State of a WebSocket to a `ws` or `wss` service; None for other requests.
    pub websocket: Option<Box<Session>>,
    /// The upstream's whole body in buffered mode.
    pub buffered: Option<Bytes>,
    /// Chunk in body_filter.
    pub chunk: ResponseChunk,
    /// Path and query sent upstream.
    pub upstream_uri: Vec<u8>,
    /// Keep `upstream_tls` (`kong.service.enable_recording_upstream_ssl`).
    pub records_upstream_tls: bool,
    /// TLS facts of the connection that the last attempt used, where they are kept.
    pub upstream_tls: Option<Arc<UpstreamTls>>,
    /// Tries at targets.
    pub attempts: Vec<Attempt>,
    /// Points in time.
    pub timings: Timings,
    /// Bytes received for this request.
    pub request_bytes: u64,
    /// Bytes sent for this request.
    pub response_bytes: u64,
    /// `kong.client.tls.set_client_verify`.
    pub client_verify: Option<String>,
    /// The client left before the end.
    pub is_client_gone: bool,
    /// A body filter failed: cut the response instead of sending something else.
    pub must_cut: bool,
    /// What is known of a stream; None for HTTP.
    pub session: Option<Box<StreamSession>>,
    /// The runner's own state.
    pub runner_state: Option<Box<dyn Any + Send + Sync>>,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Exchange")
            .field("id", &self.id_text())
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl Exchange {
    /// An exchange at its start.
    #[must_use]
    pub fn new(
        id: [u8; 32],
        live: Arc<Live>,
        connection: Arc<ClientConnection>,
        request: RequestHead,
        framing: Framing,
    ) -> Box<Self> {
        let phases = live.global_phases;
        let forwarded_client = (connection.peer.ip(), connection.peer.port());
        Box::new(Self {
            id,
            live,
            connection,
            phase: Phase::Rewrite,
            phases,
            request,
            original_method: None,
            path: Vec::new(),
            forwarded_client,
            matched: None,
            body: RequestBody::new(framing),
            overrides: UpstreamOverrides::default(),
            balancing_identity: None,
            wants_buffering: false,
            response: ResponseHead::default(),
            answer: None,
            is_exited: false,
            is_failed: false,
            is_proxied: false,
            upstream_statuses: Vec::new(),
            is_http2_upstream: false,
            upstream_names: Vec::new(),
            websocket: None,
            buffered: None,
            chunk: ResponseChunk::default(),
            upstream_uri: Vec::new(),
            records_upstream_tls: false,
            upstream_tls: None,
            attempts: Vec::new(),
            timings: Timings::start(),
            request_bytes: 0,
            response_bytes: 0,
            client_verify: None,
            is_client_gone: false,
            must_cut: false,
            session: None,
            runner_state: None,
        })
    }

    /// The request id as text.
    #[must_use]
    pub fn id_text(&self) -> &str {
        std::str::from_utf8(&self.id).unwrap_or_default()
    }

    /// True when handlers of this phase exist for the request.
    #[must_use]
    pub fn has(&self, phase: Phase) -> bool {
        self.phases & phase.bit() != 0
    }

    /// Method as the client sent it.
    #[must_use]
    pub fn sent_method(&self) -> &http::Method {
        self.original_method.as_ref().unwrap_or(&self.request.method)
    }

    /// What is known of the client's certificate: `NONE`, `SUCCESS` or `FAILED:<reason>`.
    ///
    /// The engine asks for certificates and judges none, so a presented one is not verified until a plugin says so.
    #[must_use]
    pub fn client_verify(&self) -> &str {
        match (&self.client_verify, &self.connection.tls) {
            (Some(verdict), _) => verdict,
            (None, Some(tls)) if !tls.client_certificates.is_empty() => "FAILED:certificate was not verified",
            _ => "NONE",
        }
    }

    /// Host of the request, lower case, without port.
    #[must_use]
    pub fn host(&self) -> Vec<u8> {
        host_without_port(self.request.authority()).to_ascii_lowercase()
    }

    /// The query in force: as sent, or as plugins changed it.
    #[must_use]
    pub fn query(&self) -> Option<&[u8]> {
        match &self.overrides.query {
            Some(query) => query.as_deref(),
            None => router::path::split_target(self.request.target()).query,
        }
    }

    /// A target that was asked for at `asked` has been picked: the attempt goes into the log, and from the first one on
    /// the request counts as proxied.
    pub fn begin_attempt(&mut self, asked: Instant, address: SocketAddr) {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.attempts.push(Attempt {
            balancer_start_ns: unix.saturating_sub(asked.elapsed()).as_nanos(),
            balancer_latency: asked.elapsed(),
            address,
            failure: None,
        });
        if !self.is_proxied {
            self.is_proxied = true;
            self.timings.proxied = Some(Instant::now());
        }
    }

    /// The text that `strip_path` removes, when it is known.
    #[must_use]
    pub fn stripped_prefix(&self) -> Option<&[u8]> {
        let matched = self.matched.as_ref()?;
        let route = self.live.routes.get(matched.route)?;
        if !route.plan.strip_path {
            return None;
        }
        let prefix = self.path.get(..matched.prefix_bytes?)?;
        (prefix != b"/").then_some(prefix)
    }

    /// Who made the response (PDK reference 8.1).
    #[must_use]
    pub fn source(&self) -> &'static str {
        if self.is_failed {
            "error"
        } else if self.is_exited {
            "exit"
        } else if self.is_proxied {
            "service"
        } else {
            "error"
        }
    }

    /// Begin and end of looking for the route, Unix nanoseconds.
    #[must_use]
    pub fn routing_ns(&self) -> Option<(u128, u128)> {
        let (from, to) = self.timings.routing?;
        let unix = |point: Instant| {
            let elapsed = point.saturating_duration_since(self.timings.started);
            u128::from(self.timings.started_unix_ms) * 1_000_000 + elapsed.as_nanos()
        };
        Some((unix(from), unix(to)))
    }

    /// (kong, proxy or -1, request, receive) in milliseconds, as the log record has them.
    #[must_use]
    pub fn latencies_ms(&self) -> (i64, i64, i64, i64) {
        let timings = &self.timings;
        let millis = |from: Instant, to: Instant| to.saturating_duration_since(from).as_millis() as i64;
        let end = timings.finished.unwrap_or_else(Instant::now);
        let request = millis(timings.started, end);
        match (timings.proxied, timings.upstream_head) {
            (Some(proxied), head) => {
                let kong = millis(timings.started, proxied);
                let proxy = head.map_or(-1, |head| millis(proxied, head));
                let receive = match (head, timings.upstream_end) {
                    (Some(head), Some(upstream_end)) => millis(head, upstream_end),
                    _ => 0,
                };
                (kong, proxy, request, receive)
            }
            (None, _) => {
                let kong = timings.answered.map_or(0, |answered| millis(timings.started, answered));
                (kong, -1, request, 0)
            }
        }
    }
}
