//! Process settings of one engine: listeners, limits, timeouts, header switches.
//!
//! Owns the JSON form that `headgate.engine` writes from the node's settings (reference: configuration). All defaults
//! live on the Python side (`headgate.config`): a missing field here is an error, so no default exists twice.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;

/// Everything that is fixed for the life of a worker.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineSettings {
    /// `kong/<version>`-style token for `Via` and `Server`.
    pub server_token: String,
    /// Sockets to accept on.
    pub listeners: Vec<ListenerSettings>,
    /// Peers whose forwarded headers are believed.
    pub trusted_ips: Vec<IpNet>,
    /// Lower-case name of the header with the client's address.
    pub real_ip_header: String,
    /// Walk the header from the right over trusted addresses.
    pub real_ip_recursive: bool,
    /// (listening port, port that clients see).
    pub port_maps: Vec<(u16, u16)>,
    /// Which headers the gateway adds to responses.
    pub response_headers: ResponseHeaders,
    /// Send `X-Kong-Request-Id` to the upstream.
    pub upstream_request_id: bool,
    /// Answer `Kong-Debug: 1` with the ids of route and service.
    pub allow_debug_header: bool,
    /// Content type of the engine's own error pages without Accept or Content-Type.
    pub error_default_type: String,
    /// `websocket_compression`.
    pub websocket_compression: WebSocketCompression,
    /// Custom error templates with `%s` slots for message and request id.
    pub error_templates: ErrorTemplates,
    /// Limits on what a client can make us hold.
    pub limits: Limits,
    /// Waiting times towards clients.
    pub client_timeouts: ClientTimeouts,
    /// Keep-alive pools towards upstreams.
    pub upstream_keepalive: UpstreamKeepalive,
    /// TLS of the listeners and towards upstreams.
    pub tls: TlsSettings,
    /// Name resolution.
    pub dns: DnsSettings,
    /// File for the access log in combined format; None is off.
    pub access_log: Option<PathBuf>,
    /// File for the access log of streams; None is off.
    pub stream_access_log: Option<PathBuf>,
}

/// One listening socket, bound and inherited from the supervisor.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerSettings {
    /// File descriptor of the bound, listening socket.
    pub fd: i32,
    /// Address as bound.
    pub address: IpAddr,
    /// Port as bound.
    pub port: u16,
    /// TLS on this port.
    pub ssl: bool,
    /// HTTP/2: by ALPN with TLS, by prior knowledge without.
    pub http2: bool,
    /// Connections begin with a PROXY protocol head.
    pub proxy_protocol: bool,
    /// Streams instead of HTTP.
    pub stream: bool,
    /// Datagrams (streams only).
    pub udp: bool,
}

/// With whom `permessage-deflate` is negotiated on WebSocket services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WebSocketCompression {
    /// With nobody.
    Off,
    /// With clients that offer it.
    Client,
    /// It is offered to upstreams as well.
    Both,
}

/// The `headers` setting, one switch per header.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResponseHeaders {
    /// `Server` on the gateway's own and server-less responses.
    pub server: bool,
    /// `Via` on proxied responses.
    pub via: bool,
    /// `X-Kong-Proxy-Latency`.
    pub proxy_latency: bool,
    /// `X-Kong-Upstream-Latency`.
    pub upstream_latency: bool,
    /// `X-Kong-Response-Latency`.
    pub response_latency: bool,
    /// `X-Kong-Upstream-Status`.
    pub upstream_status: bool,
    /// `X-Kong-Request-Id`.
    pub request_id: bool,
}

/// Texts of custom error templates, None where the built-in one is used.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorTemplates {
    /// `error_template_html`.
    pub html: Option<String>,
    /// `error_template_json`.
    pub json: Option<String>,
    /// `error_template_xml`.
    pub xml: Option<String>,
    /// `error_template_plain`.
    pub plain: Option<String>,
}

/// Bounds on what a client or an upstream can make a worker hold.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Longest request line (one `large_client_header_buffers` buffer); above: 414.
    pub request_line_bytes: usize,
    /// Longest single header line (one buffer); above: 494, sent as 400.
    pub header_line_bytes: usize,
    /// Whole request head (all buffers); above: 494, sent as 400.
    pub request_head_bytes: usize,
    /// Most header fields in one head; above: 494, sent as 400.
    pub request_header_count: usize,
    /// Whole response head of an upstream; above: 502.
    pub response_head_bytes: usize,
    /// `client_max_body_size`; 0 is no limit; above: 413.
    pub request_body_bytes: u64,
    /// `client_body_buffer_size`: body kept in memory for plugins and retries.
    pub request_body_buffer_bytes: usize,
    /// Most a plugin may ask to have read into memory.
    pub request_body_memory_bytes: usize,
    /// Largest response a buffered route may collect; above: 502.
    pub response_buffer_bytes: usize,
    /// Most of a response that is read before the client takes it, on routes with `response_buffering`.
    pub response_read_ahead_bytes: usize,
    /// Requests on one client connection; 0 is no limit.
    pub keepalive_requests: u64,
    /// Open client connections of this worker; 0 is no limit.
    pub connections: usize,
    /// HTTP/2 streams a client may have open on one connection.
    pub http2_concurrent_streams: u32,
    /// Largest WebSocket message of a client unless a plugin says otherwise; above: closed with 1009.
    pub websocket_client_payload_bytes: usize,
    /// The same of an upstream.
    pub websocket_upstream_payload_bytes: usize,
    /// UDP sessions open in this worker; above: the one that was idle for longest ends.
    pub udp_sessions: usize,
    /// Bytes of datagrams of this worker that wait for their session's upstream; above: dropped.
    pub udp_waiting_bytes: usize,
}

/// Waiting times towards clients, milliseconds.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientTimeouts {
    /// From the first byte to the end of a head; above: 408.
    pub header_ms: u64,
    /// Between two reads of a body; above: 408.
    pub body_ms: u64,
    /// Between two writes of a response.
    pub send_ms: u64,
    /// Idle connection between two requests.
    pub keepalive_ms: u64,
    /// TLS handshake.
    pub handshake_ms: u64,
    /// How long a draining engine leaves connections open that no answer ends: WebSockets, upgraded ones, streams.
    pub drain_ms: u64,
}

/// Idle connections towards upstreams.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamKeepalive {
    /// Idle connections per pool; 0 disables.
    pub pool_size: usize,
    /// Requests on one connection; 0 is no limit.
    pub max_requests: u64,
    /// Idle time before a connection is closed; 0 is for ever.
    pub idle_timeout_ms: u64,
}

/// TLS of listeners and upstream connections.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// Default certificates (PEM chain, PEM key), one per key type.
    pub default_certificates: Vec<(String, String)>,
    /// Among `TLSv1.2` and `TLSv1.3`.
    pub protocols: Vec<String>,
    /// Suites of TLS 1.2 by their IANA names, first preferred; those of TLS 1.3 are always offered.
    pub cipher_suites: Vec<String>,
    /// The order of the suites is the server's, not the client's.
    pub prefers_server_order: bool,
    /// Hand out session tickets.
    pub session_tickets: bool,
    /// How long a session can be resumed.
    pub session_timeout_s: u64,
    /// Sessions that this worker stores for clients without tickets.
    pub session_cache_entries: usize,
    /// 32 bytes as hex digits, shared by the workers of the node, from which ticket keys are derived.
    pub session_ticket_secret: String,
    /// The period that the secret belongs to: Unix time divided by `session_timeout_s`.
    pub session_ticket_period: u64,
    /// PEM bundle for verifying upstreams; empty: none.
    pub trusted_certificates: String,
    /// Longest upstream chain accepted unless the service says otherwise.
    pub verify_depth: u8,
    /// Client certificate for upstreams when the service has none.
    pub client_certificate: Option<(String, String)>,
}

/// One step of the order of record kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DnsOrder {
    /// The kind that answered the last time for this name.
    Last,
    /// SRV.
    Srv,
    /// A.
    A,
    /// AAAA.
    Aaaa,
}

/// Name resolution.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsSettings {
    /// `ip` or `ip:port`; empty: the system's.
    pub resolvers: Vec<String>,
    /// Which records are asked for, in this order; never empty.
    pub order: Vec<DnsOrder>,
    /// File of fixed names.
    pub hosts_file: Option<PathBuf>,
    /// Overrides the records' time to live.
    pub valid_ttl_ms: Option<u64>,
    /// How long an expired answer is served while it is asked for anew.
    pub stale_ttl_ms: u64,
    /// How long a missing name is remembered.
    pub not_found_ttl_ms: u64,
    /// How long another failure is remembered.
    pub error_ttl_ms: u64,
    /// Most names kept.
    pub cache_size: usize,
}
