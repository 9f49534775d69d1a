//! What passes through: request heads to the upstream, response heads to the client.
//!
//! Owns the rules about hop-by-hop fields, forwarded headers and the gateway's own fields (routing reference, sections
//! 11 to 13). Heads are not rebuilt: fields are copied from one buffer to the other, with exceptions.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::exchange::{ClientConnection, Exchange};
use crate::http::h1::parse::{parse_length, Framing};
use crate::http::h1::transport::WriteQueue;
use crate::http::head::{host_without_port, Method, RequestHead, ResponseHead};
use crate::http::headers::{list_has_token, HeaderBlock, Known};
use crate::router;
use crate::settings::EngineSettings;
use crate::ws::deflate;

/// Takes the fields of a request to an upstream.
pub trait FieldSink {
    /// One field; its value is the parts behind each other.
    fn field(&mut self, name: &[u8], value: &[&[u8]]);
}

impl FieldSink for WriteQueue {
    fn field(&mut self, name: &[u8], value: &[&[u8]]) {
        self.push_slice(name);
        self.push_slice(b": ");
        for part in value {
            self.push_slice(part);
        }
        self.push_slice(b"\r\n");
    }
}

impl FieldSink for http::HeaderMap {
    fn field(&mut self, name: &[u8], value: &[&[u8]]) {
        let value = value.concat();
        if let (Ok(name), Ok(value)) = (
            http::HeaderName::from_bytes(name),
            http::HeaderValue::from_bytes(&value),
        ) {
            self.append(name, value);
        }
    }
}

/// Queue the HTTP/1.1 head of the request to an upstream.
///
/// `host` is the value of Host, `uri` path and query, `framing` what body will follow.
pub fn queue_request_head(queue: &mut WriteQueue, exchange: &Exchange, host: &[u8], uri: &[u8], framing: Framing) {
    let request = &exchange.request;
    queue.push_slice(request.method.as_str().as_bytes());
    queue.push_slice(b" ");
    queue.push_slice(uri);
    queue.push_slice(b" HTTP/1.1\r\nHost: ");
    queue.push_slice(host);
    queue.push_slice(
        if exchange.websocket.is_some() || is_websocket_upgrade(&request.headers) {
            b"\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
        } else {
            b"\r\nConnection: keep-alive\r\n"
        },
    );
    forward_fields(queue, exchange);
    match framing {
        Framing::Length(length) => {
            queue.push_slice(b"Content-Length: ");
            queue.push_number(length);
            queue.push_slice(b"\r\n");
        }
        Framing::Chunked => queue.push_slice(b"Transfer-Encoding: chunked\r\n"),
        // A method that usually has a body says so when it has none (RFC 9110, section 8.6).
        Framing::None if matches!(request.method, Method::POST | Method::PUT | Method::PATCH) => {
            queue.push_slice(b"Content-Length: 0\r\n");
        }
        Framing::None | Framing::UntilClose => {}
    }
    queue.push_slice(b"\r\n");
}

/// Give `sink` every field that goes upstream: the client's that may pass, then the gateway's own.
///
/// Not among them: Host, Connection, Upgrade and what frames the body; they belong to the protocol spoken.
pub fn forward_fields(sink: &mut impl FieldSink, exchange: &Exchange) {
    let settings = &exchange.live.settings;
    let headers = &exchange.request.headers;
    let named = ConnectionTokens::of(headers);
    let is_own_handshake = exchange.websocket.is_some();
    for (known, name, value) in headers.iter() {
        match known {
            Known::Host
            | Known::Connection
            | Known::KeepAlive
            | Known::Proxy
            | Known::ProxyConnection
            | Known::TransferEncoding
            | Known::ContentLength
            | Known::Expect
            | Known::Upgrade
            | Known::Te
            | Known::XRealIp
            | Known::XForwardedFor
            | Known::XForwardedHost
            | Known::XForwardedPath
            | Known::XForwardedPort
            | Known::XForwardedPrefix
            | Known::XForwardedProto
            | Known::Via => continue,
            Known::SecWebsocketKey | Known::SecWebsocketVersion | Known::SecWebsocketExtensions if is_own_handshake => {
                continue
            }
            Known::XKongRequestId if settings.upstream_request_id => continue,
            Known::Other if named.has(name) => continue,
            _ => sink.field(name, &[value]),
        }
    }
    if let Some(session) = &exchange.websocket {
        sink.field(b"Sec-WebSocket-Key", &[session.upstream_key.as_bytes()]);
        sink.field(b"Sec-WebSocket-Version", &[b"13"]);
        if session.offers_deflate {
            sink.field(b"Sec-WebSocket-Extensions", &[deflate::OFFER.as_bytes()]);
        }
    }
    forward_origin(sink, exchange);
    if headers
        .known_values(Known::Te)
        .any(|value| list_has_token(value, b"trailers"))
    {
        sink.field(b"TE", &[b"trailers"]);
    }
    let mut via = list_of(headers, Known::Via);
    via.extend([
        exchange.request.version.via().as_bytes(),
        b" ",
        settings.server_token.as_bytes(),
    ]);
    sink.field(b"Via", &via);
    if settings.upstream_request_id {
        sink.field(b"X-Kong-Request-Id", &[&exchange.id]);
    }
}

/// The fields that tell where the request came from (routing reference, section 12).
fn forward_origin(sink: &mut impl FieldSink, exchange: &Exchange) {
    let headers = &exchange.request.headers;
    let connection = &exchange.connection;
    let is_trusted = connection.is_trusted;
    let same_client = exchange.forwarded_client.0 == connection.peer.ip();
    let forwarded_text;
    let client_text = if same_client {
        connection.peer_ip_text.as_bytes()
    } else {
        forwarded_text = exchange.forwarded_client.0.to_string();
        forwarded_text.as_bytes()
    };
    sink.field(b"X-Real-IP", &[client_text]);
    let mut chain = list_of(headers, Known::XForwardedFor);
    chain.push(if chain.is_empty() {
        client_text
    } else {
        connection.peer_ip_text.as_bytes()
    });
    sink.field(b"X-Forwarded-For", &chain);
    let believed = |known: Known| if is_trusted { headers.known(known) } else { None };
    let scheme = believed(Known::XForwardedProto).unwrap_or(connection.scheme().as_bytes());
    sink.field(b"X-Forwarded-Proto", &[scheme]);
    match believed(Known::XForwardedHost) {
        Some(host) => sink.field(b"X-Forwarded-Host", &[host]),
        None => sink.field(b"X-Forwarded-Host", &[&exchange.host()]),
    }
    match believed(Known::XForwardedPort) {
        Some(port) => sink.field(b"X-Forwarded-Port", &[port]),
        None => sink.field(b"X-Forwarded-Port", &[connection.mapped_port.to_string().as_bytes()]),
    }
    let raw_path = router::path::split_target(exchange.request.target()).path;
    sink.field(
        b"X-Forwarded-Path",
        &[believed(Known::XForwardedPath).unwrap_or(raw_path)],
    );
    if let Some(prefix) = believed(Known::XForwardedPrefix).or_else(|| exchange.stripped_prefix()) {
        sink.field(b"X-Forwarded-Prefix", &[prefix]);
    }
}

/// The values of a list field, each with a comma behind it; empty without one.
fn list_of(headers: &HeaderBlock, known: Known) -> Vec<&[u8]> {
    headers.known_values(known).flat_map(|value| [value, b", "]).collect()
}

/// True for a request that asks to become a WebSocket.
#[must_use]
pub fn is_websocket_upgrade(headers: &HeaderBlock) -> bool {
    headers
        .known(Known::Upgrade)
        .is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"))
        && headers
            .known_values(Known::Connection)
            .any(|value| list_has_token(value, b"upgrade"))
}

/// Field names that a Connection field makes hop-by-hop.
struct ConnectionTokens<'a> {
    names: Vec<&'a [u8]>,
}

impl<'a> ConnectionTokens<'a> {
    fn of(headers: &'a HeaderBlock) -> Self {
        let mut names = Vec::new();
        for value in headers.known_values(Known::Connection) {
            for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                let is_option = [&b"close"[..], b"keep-alive", b"upgrade"]
                    .iter()
                    .any(|o| token.eq_ignore_ascii_case(o));
                if !token.is_empty() && !is_option {
                    names.push(token);
                }
            }
        }
        Self { names }
    }

    fn has(&self, name: &[u8]) -> bool {
        self.names.iter().any(|token| token.eq_ignore_ascii_case(name))
    }
}

/// Take over the upstream's head as the response, without what concerns only that connection.
///
/// Fields that plugins set earlier are appended, as the contract has it.
pub fn adopt_response(exchange: &mut Exchange, mut head: ResponseHead) {
    let client_headers = &exchange.request.headers;
    let wants_trailers = client_headers
        .known_values(Known::Te)
        .any(|value| list_has_token(value, b"trailers"));
    let is_upgrade = head.status == 101;
    let names: Vec<Vec<u8>> = ConnectionTokens::of(&head.headers)
        .names
        .iter()
        .map(|name| name.to_vec())
        .collect();
    head.headers.retain(|known, name, _| match known {
        Known::Connection | Known::Upgrade => is_upgrade,
        Known::KeepAlive | Known::ProxyConnection | Known::TransferEncoding => false,
        Known::Trailer => wants_trailers,
        Known::Other => !names.iter().any(|token| token.eq_ignore_ascii_case(name)),
        _ => true,
    });
    let set_earlier = std::mem::replace(&mut exchange.response, head);
    for (_, name, value) in set_earlier.headers.iter() {
        exchange.response.headers.add(name, value);
    }
}

/// Add the gateway's own fields; after header_filter, so that plugins neither see nor remove them.
pub fn finish_response(exchange: &mut Exchange, settings: &EngineSettings) {
    let switches = settings.response_headers;
    let millis = |from: Instant, to: Instant| to.saturating_duration_since(from).as_millis().to_string();
    let timings = &exchange.timings;
    let started = timings.started;
    let proxied = timings.proxied;
    let upstream_head = timings.upstream_head;
    let headers = &mut exchange.response.headers;
    if let Some(proxied) = proxied {
        if switches.upstream_latency {
            let end = upstream_head.unwrap_or_else(Instant::now);
            headers.set(b"X-Kong-Upstream-Latency", &[millis(proxied, end)]);
        }
        if switches.proxy_latency {
            headers.set(b"X-Kong-Proxy-Latency", &[millis(started, proxied)]);
        }
        if switches.via {
            let mut value = Vec::with_capacity(32);
            for known in headers.known_values(Known::Via) {
                value.extend_from_slice(known);
                value.extend_from_slice(b", ");
            }
            value.extend_from_slice(if exchange.is_http2_upstream { b"2 " } else { b"1.1 " });
            value.extend_from_slice(settings.server_token.as_bytes());
            headers.set(b"Via", &[value]);
        }
        if switches.server && headers.known(Known::Server).is_none() {
            headers.add(b"Server", settings.server_token.as_bytes());
        }
        if headers.known(Known::Date).is_none() {
            add_date(headers);
        }
    } else {
        if switches.response_latency {
            let end = exchange.timings.answered.unwrap_or_else(Instant::now);
            headers.set(b"X-Kong-Response-Latency", &[millis(started, end)]);
        }
        if switches.server {
            headers.set(b"Server", &[settings.server_token.as_bytes()]);
        } else {
            headers.remove(b"Server");
        }
        if headers.known(Known::Date).is_none() {
            add_date(headers);
        }
    }
    if switches.request_id {
        headers.set(b"X-Kong-Request-Id", &[exchange.id]);
    }
}

/// `X-Kong-Upstream-Status`, which plugins may see and change.
pub fn add_upstream_status(exchange: &mut Exchange, settings: &EngineSettings) {
    if settings.response_headers.upstream_status {
        if let Some(status) = exchange.upstream_statuses.last() {
            exchange
                .response
                .headers
                .set(b"X-Kong-Upstream-Status", &[status.to_string()]);
        }
    }
}

/// How the response body is framed for the client, given the head as plugins left it.
#[must_use]
pub fn response_framing(head: &ResponseHead, to_head_request: bool, can_chunk: bool) -> Framing {
    if to_head_request || head.status == 204 || head.status == 304 || head.status < 200 {
        return Framing::None;
    }
    match head.headers.known(Known::ContentLength).and_then(parse_length) {
        Some(length) => Framing::Length(length),
        None if can_chunk => Framing::Chunked,
        None => Framing::UntilClose,
    }
}

fn add_date(headers: &mut HeaderBlock) {
    use std::cell::RefCell;
    thread_local! {
        static DATE: RefCell<(Option<Instant>, String)> = const { RefCell::new((None, String::new())) };
    }
    DATE.with_borrow_mut(|(made, text)| {
        let is_fresh = made.is_some_and(|made| made.elapsed() < Duration::from_millis(500));
        if !is_fresh {
            *text = httpdate::fmt_http_date(std::time::SystemTime::now());
            *made = Some(Instant::now());
        }
        headers.add(b"Date", text.as_bytes());
    });
}

/// Value of `real_ip_header` that takes the client from the PROXY protocol head.
pub const PROXY_PROTOCOL: &str = "proxy_protocol";

/// The client's address after real-IP processing: (address, port).
#[must_use]
pub fn real_client(request: &RequestHead, connection: &ClientConnection, settings: &EngineSettings) -> (IpAddr, u16) {
    let peer = (connection.peer.ip(), connection.peer.port());
    if !connection.is_trusted {
        return peer;
    }
    if settings.real_ip_header == PROXY_PROTOCOL {
        let proxied = connection.proxied.as_ref().map(|proxied| proxied.source);
        return proxied.map_or(peer, |source| (source.ip(), source.port()));
    }
    let name = settings.real_ip_header.as_bytes();
    let mut last = None;
    let values: Vec<String> = request
        .headers
        .values(name)
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect();
    for entry in values.iter().flat_map(|value| value.split(',')).rev() {
        let Some((address, port)) = parse_address(entry.trim()) else {
            break;
        };
        last = Some((address, port));
        let is_trusted = settings.trusted_ips.iter().any(|network| network.contains(&address));
        if !settings.real_ip_recursive || !is_trusted {
            break;
        }
    }
    last.unwrap_or(peer)
}

/// `address`, `address:port` or `[address]:port`; port 0 when absent.
fn parse_address(text: &str) -> Option<(IpAddr, u16)> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some((address, 0));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some((address.ip(), address.port()));
    }
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    inner.parse().ok().map(|address| (address, 0))
}

/// The https URL that an https-only route redirects to: forwarded host and the request target as sent.
#[must_use]
pub fn https_location(exchange: &Exchange) -> Vec<u8> {
    let headers = &exchange.request.headers;
    let forwarded = if exchange.connection.is_trusted {
        headers.known(Known::XForwardedHost)
    } else {
        None
    };
    let mut location = b"https://".to_vec();
    match forwarded {
        Some(host) => location.extend_from_slice(host_without_port(host)),
        None => location.extend_from_slice(&exchange.host()),
    }
    location.extend_from_slice(exchange.request.target());
    location
}
