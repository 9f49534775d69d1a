//! HTTP/2 towards clients: streams of one connection, each handled like any other request.
//!
//! The `h2` crate owns frames, flow control and the protocol's limits; this module turns its streams into `ClientStream`s.
//! The crate is used directly, not through hyper, because its send side tells about capacity and resets, which is what
//! back-pressure and the detection of clients that left need.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::ext::Protocol;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::exchange::{ClientConnection, Exchange};
use crate::gateway::{ConnectionGuard, Gateway};
use crate::http::client::{ClientFault, ClientStream};
use crate::http::h1::parse::{is_valid_authority, parse_length, Framing, HeadFault};
use crate::http::h1::transport::Transport;
use crate::http::h2_stream::StreamIo;
use crate::http::head::{RequestHead, ResponseHead, Version};
use crate::http::headers::{HeaderBlock, Known};
use crate::http::tunnel::{self, TunnelEnd};
use crate::pipeline;
use crate::timer::Watchdog;
use crate::upstream::connect::UpstreamStream;
use crate::ws::handshake;
use crate::ws::relay::Relay;

/// Bytes a stream may have in flight towards us before its data is taken.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// The same for the whole connection.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// Serve a connection until it ends.
pub async fn serve<S>(gateway: &Arc<Gateway>, connection: Arc<ClientConnection>, guard: &ConnectionGuard, io: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let limits = &gateway.settings.limits;
    let timeouts = &gateway.settings.client_timeouts;
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(limits.http2_concurrent_streams)
        .enable_connect_protocol()
        .max_header_list_size(u32::try_from(limits.request_head_bytes).unwrap_or(u32::MAX))
        .max_send_buffer_size(256 * 1024);
    let handshake = builder.handshake::<S, Bytes>(io);
    let Ok(Ok(mut streams)) = tokio::time::timeout(Duration::from_millis(timeouts.header_ms), handshake).await else {
        return;
    };
    let open = Arc::new(());
    let mut watchdog = Watchdog::default();
    let mut is_leaving = false;
    loop {
        let idle = Duration::from_millis(timeouts.keepalive_ms);
        watchdog.arm(idle);
        let accepted = poll_fn(|context| loop {
            guard.register(context.waker());
            if guard.is_draining() && !is_leaving {
                is_leaving = true;
                streams.graceful_shutdown();
            }
            if let Poll::Ready(accepted) = streams.poll_accept(context) {
                return Poll::Ready(accepted);
            }
            if watchdog.poll_expired(context).is_ready() {
                if Arc::strong_count(&open) == 1 && !is_leaving {
                    is_leaving = true;
                    streams.graceful_shutdown();
                    continue;
                }
                watchdog.arm(idle);
                continue;
            }
            return Poll::Pending;
        })
        .await;
        let Some(Ok((request, respond))) = accepted else { return };
        let gateway = gateway.clone();
        let connection = connection.clone();
        let open = open.clone();
        tokio::spawn(async move {
            handle(&gateway, connection, request, respond).await;
            drop(open);
        });
    }
}

async fn handle(
    gateway: &Arc<Gateway>,
    connection: Arc<ClientConnection>,
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let (parts, receive) = request.into_parts();
    let is_connect = is_websocket_connect(&parts);
    // What follows the head of a CONNECT is no body: it is left to the WebSocket.
    let is_ended = is_connect || receive.is_end_stream();
    let head_bytes = head_size(&parts);
    let (head, framing, fault) = match request_head(&parts, is_ended, gateway) {
        Ok((head, framing)) => (head, framing, None),
        Err(fault) => {
            let mut headers = HeaderBlock::new();
            let target = headers.keep(parts.uri.path().as_bytes());
            let head = RequestHead {
                method: parts.method.clone(),
                target,
                version: Version::Http2,
                headers,
            };
            (head, Framing::None, Some(fault.into()))
        }
    };
    gateway.counters.busy.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let timeouts = &gateway.settings.client_timeouts;
    let mut client = H2Client {
        receive,
        is_connect,
        is_body_done: is_ended,
        trailers: None,
        respond: Some(respond),
        send: None,
        queue: VecDeque::new(),
        trailers_to_send: None,
        has_ended: false,
        is_end_sent: false,
        framing: Framing::None,
        watchdog: Watchdog::default(),
        body_timeout: Duration::from_millis(timeouts.body_ms),
        send_timeout: Duration::from_millis(timeouts.send_ms),
        received_bytes: head_bytes,
        sent_bytes: 0,
        sent_body_bytes: 0,
        left_bytes: None,
    };
    if let Framing::Length(length) = framing {
        client.left_bytes = Some(length);
    }
    let exchange = Exchange::new(gateway.request_id(), gateway.live(), connection, head, framing);
    pipeline::run(gateway, exchange, &mut client, fault).await;
    client.finish();
    gateway.counters.busy.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
}

/// True for the request that opens a WebSocket on its stream (RFC 8441, section 5).
fn is_websocket_connect(parts: &http::request::Parts) -> bool {
    let protocol = parts.extensions.get::<Protocol>();
    parts.method == http::Method::CONNECT
        && protocol.is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket"))
}

/// The head in the common form: `:authority` becomes Host, connection-specific fields are refused (RFC 9113, 8.2.2).
///
/// A CONNECT for a WebSocket becomes the handshake that HTTP/1.1 has, so that routes, plugins and upstreams see one kind.
fn request_head(
    parts: &http::request::Parts,
    is_ended: bool,
    gateway: &Gateway,
) -> Result<(RequestHead, Framing), HeadFault> {
    let limits = &gateway.settings.limits;
    let is_connect = is_websocket_connect(parts);
    if !is_connect && matches!(parts.method, http::Method::CONNECT | http::Method::TRACE) {
        return Err(HeadFault::MethodNotAllowed);
    }
    let mut headers = HeaderBlock::new();
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    if target.len() > limits.request_line_bytes {
        return Err(HeadFault::TargetTooLong);
    }
    if !target.starts_with('/') {
        return Err(HeadFault::Malformed("invalid :path"));
    }
    let target = headers.keep(target.as_bytes());
    if let Some(authority) = parts.uri.authority() {
        if !is_valid_authority(authority.as_str().as_bytes()) {
            return Err(HeadFault::Malformed("invalid :authority"));
        }
        headers.add(b"host", authority.as_str().as_bytes());
    }
    if parts.headers.len() > limits.request_header_count {
        return Err(HeadFault::HeaderTooLarge);
    }
    let mut cookies: Vec<u8> = Vec::new();
    for (name, value) in &parts.headers {
        if name.as_str().len() + value.len() > limits.header_line_bytes {
            return Err(HeadFault::HeaderTooLarge);
        }
        match Known::of(name.as_str().as_bytes()) {
            Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::TransferEncoding
            | Known::Upgrade => {
                return Err(HeadFault::Malformed("connection-specific field in HTTP/2"));
            }
            // Not of this form of the handshake; ours stands in its place.
            Known::SecWebsocketKey if is_connect => {}
            Known::Te if value.as_bytes() != b"trailers" => {
                return Err(HeadFault::Malformed("TE other than trailers in HTTP/2"));
            }
            Known::Host => match parts.uri.authority() {
                Some(authority) if authority.as_str().as_bytes() == value.as_bytes() => {}
                Some(_) => return Err(HeadFault::Malformed("Host differs from :authority")),
                None if is_valid_authority(value.as_bytes()) => headers.add(b"host", value.as_bytes()),
                None => return Err(HeadFault::Malformed("invalid Host")),
            },
            _ if name == http::header::COOKIE => {
                // Crumbs become one field for HTTP/1 (RFC 9113, section 8.2.3).
                if !cookies.is_empty() {
                    cookies.extend_from_slice(b"; ");
                }
                cookies.extend_from_slice(value.as_bytes());
            }
            _ => headers.add(name.as_str().as_bytes(), value.as_bytes()),
        }
    }
    if !cookies.is_empty() {
        headers.add(b"cookie", &cookies);
    }
    if headers.known(Known::Host).is_none() {
        return Err(HeadFault::Malformed("no :authority"));
    }
    let method = match is_connect {
        true => {
            headers.add(b"connection", b"Upgrade");
            headers.add(b"upgrade", b"websocket");
            headers.add(b"sec-websocket-key", handshake::new_key().as_bytes());
            http::Method::GET
        }
        false => parts.method.clone(),
    };
    let framing = match (is_ended, headers.known(Known::ContentLength)) {
        (true, _) => Framing::None,
        (false, None) => Framing::Chunked,
        (false, Some(value)) => match parse_length(value) {
            Some(length) => Framing::Length(length),
            None => return Err(HeadFault::Malformed("invalid Content-Length")),
        },
    };
    Ok((
        RequestHead {
            method,
            target,
            version: Version::Http2,
            headers,
        },
        framing,
    ))
}

fn head_size(parts: &http::request::Parts) -> u64 {
    let fields: usize = parts
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    (fields + parts.uri.path().len() + 16) as u64
}

/// One stream as the pipeline sees it.
struct H2Client {
    receive: RecvStream,
    /// Asks for a WebSocket on this stream.
    is_connect: bool,
    is_body_done: bool,
    trailers: Option<HeaderBlock>,
    respond: Option<SendResponse<Bytes>>,
    send: Option<SendStream<Bytes>>,
    queue: VecDeque<Bytes>,
    trailers_to_send: Option<http::HeaderMap>,
    has_ended: bool,
    is_end_sent: bool,
    framing: Framing,
    watchdog: Watchdog,
    body_timeout: Duration,
    send_timeout: Duration,
    received_bytes: u64,
    sent_bytes: u64,
    sent_body_bytes: u64,
    left_bytes: Option<u64>,
}

impl H2Client {
    /// The request is over. A body that is still being sent is refused by dropping the stream: the crate then resets it
    /// without error after what is queued has left, where an explicit reset would throw the queue away.
    fn finish(&mut self) {
        if !self.is_end_sent {
            self.reset(Reason::INTERNAL_ERROR);
        }
    }

    fn reset(&mut self, reason: Reason) {
        if let Some(send) = &mut self.send {
            send.send_reset(reason);
        } else if let Some(respond) = &mut self.respond {
            respond.send_reset(reason);
        }
    }

    /// The WebSocket on this stream is over: what it moved (received, sent), and whether our half was ended in order.
    fn leave(&mut self, (received, sent): (u64, u64), is_shut: bool) {
        self.received_bytes += received;
        self.sent_bytes += sent;
        if !is_shut {
            self.reset(Reason::CANCEL);
        }
        self.is_end_sent = true;
    }

    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ClientFault>> {
        if self.is_body_done {
            return Poll::Ready(Ok(None));
        }
        match self.receive.poll_data(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(data))) => {
                let _ = self.receive.flow_control().release_capacity(data.len());
                self.received_bytes += data.len() as u64;
                if let Some(left) = &mut self.left_bytes {
                    *left = left.saturating_sub(data.len() as u64);
                }
                Poll::Ready(Ok(Some(data)))
            }
            Poll::Ready(Some(Err(_))) => Poll::Ready(Err(ClientFault::Gone)),
            Poll::Ready(None) => match self.receive.poll_trailers(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(trailers)) => {
                    self.is_body_done = true;
                    self.trailers = trailers.as_ref().map(HeaderBlock::from_map);
                    Poll::Ready(Ok(None))
                }
                Poll::Ready(Err(_)) => Poll::Ready(Err(ClientFault::Gone)),
            },
        }
    }
}

impl ClientStream for H2Client {
    fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ClientFault>> {
        match self.poll_data(context) {
            Poll::Ready(result) => {
                self.watchdog.disarm();
                Poll::Ready(result)
            }
            Poll::Pending => {
                if self.watchdog.is_disarmed() {
                    self.watchdog.arm(self.body_timeout);
                }
                if self.watchdog.poll_expired(context).is_ready() {
                    return Poll::Ready(Err(ClientFault::BodyTimeout));
                }
                Poll::Pending
            }
        }
    }

    fn buffered_body(&mut self) -> Result<Option<Bytes>, ClientFault> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        match self.poll_data(&mut context) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(None),
        }
    }

    fn is_body_done(&self) -> bool {
        self.is_body_done
    }

    fn take_trailers(&mut self) -> Option<HeaderBlock> {
        self.trailers.take()
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let reset = match (&mut self.respond, &mut self.send) {
            (_, Some(send)) => send.poll_reset(context),
            (Some(respond), None) => respond.poll_reset(context),
            (None, None) => return Poll::Pending,
        };
        reset.map(|_| ())
    }

    fn send_head(&mut self, head: &ResponseHead, framing: Framing, _closes: bool) {
        let Some(mut respond) = self.respond.take() else { return };
        self.framing = framing;
        let mut response = http::Response::new(());
        let is_accepted = self.is_connect && head.status == 101;
        let status = match head.status {
            101 if self.is_connect => 200,
            // Only what accepts the WebSocket may look like it.
            200..=299 if self.is_connect => 502,
            status => status,
        };
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
        for (known, name, value) in head.headers.iter() {
            if matches!(
                known,
                Known::Connection
                    | Known::KeepAlive
                    | Known::ProxyConnection
                    | Known::TransferEncoding
                    | Known::Upgrade
            ) {
                continue;
            }
            if is_accepted && name.eq_ignore_ascii_case(b"sec-websocket-accept") {
                continue;
            }
            self.sent_bytes += (name.len() + value.len() + 4) as u64;
            if let (Ok(name), Ok(value)) = (http::HeaderName::from_bytes(name), http::HeaderValue::from_bytes(value)) {
                response.headers_mut().append(name, value);
            }
        }
        // The end goes with the head: gRPC reads its status there when no message follows.
        let has_no_body = matches!(framing, Framing::None | Framing::Length(0)) && !is_accepted;
        match respond.send_response(response, has_no_body) {
            Ok(send) => {
                self.is_end_sent = has_no_body;
                self.has_ended = has_no_body;
                self.send = Some(send);
            }
            Err(_) => self.respond = Some(respond),
        }
    }

    fn send_data(&mut self, chunk: Bytes) {
        if self.framing != Framing::None && !chunk.is_empty() {
            self.sent_body_bytes += chunk.len() as u64;
            self.queue.push_back(chunk);
        }
    }

    fn send_end(&mut self, trailers: Option<&HeaderBlock>) -> bool {
        self.trailers_to_send = trailers.filter(|block| !block.is_empty()).map(HeaderBlock::to_map);
        self.has_ended = true;
        !matches!(self.framing, Framing::Length(length) if length != self.sent_body_bytes)
    }

    fn queued_bytes(&self) -> usize {
        self.queue.iter().map(Bytes::len).sum()
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ClientFault>> {
        let Some(send) = &mut self.send else {
            return Poll::Ready(if self.respond.is_some() {
                Ok(())
            } else {
                Err(ClientFault::Gone)
            });
        };
        while let Some(front) = self.queue.front_mut() {
            let is_last = self.has_ended && self.trailers_to_send.is_none();
            if send.capacity() == 0 {
                send.reserve_capacity(front.len());
                if send.capacity() == 0 {
                    match send.poll_capacity(context) {
                        Poll::Ready(Some(Ok(_))) => {}
                        Poll::Ready(_) => return Poll::Ready(Err(ClientFault::Gone)),
                        Poll::Pending => {
                            if self.watchdog.is_disarmed() {
                                self.watchdog.arm(self.send_timeout);
                            }
                            if self.watchdog.poll_expired(context).is_ready() {
                                return Poll::Ready(Err(ClientFault::SendTimeout));
                            }
                            return Poll::Pending;
                        }
                    }
                }
            }
            self.watchdog.disarm();
            let count = send.capacity().min(front.len());
            if count == 0 {
                continue;
            }
            let part = front.split_to(count);
            let is_done = front.is_empty();
            if is_done {
                self.queue.pop_front();
            }
            let ends = is_done && self.queue.is_empty() && is_last;
            self.sent_bytes += part.len() as u64;
            if send.send_data(part, ends).is_err() {
                return Poll::Ready(Err(ClientFault::Gone));
            }
            self.is_end_sent |= ends;
        }
        if self.has_ended && !self.is_end_sent {
            let sent = match self.trailers_to_send.take() {
                Some(trailers) => send.send_trailers(trailers),
                None => send.send_data(Bytes::new(), true),
            };
            self.is_end_sent = true;
            if sent.is_err() {
                return Poll::Ready(Err(ClientFault::Gone));
            }
        }
        Poll::Ready(Ok(()))
    }

    fn abort(&mut self) {
        self.reset(Reason::INTERNAL_ERROR);
        self.is_end_sent = true;
        self.is_body_done = true;
    }

    fn byte_counts(&self) -> (u64, u64) {
        (self.received_bytes, self.sent_bytes)
    }

    fn can_chunk(&self) -> bool {
        true
    }

    async fn tunnel(
        &mut self,
        upstream: &mut Transport<UpstreamStream>,
        idle: Duration,
        gateway: &Gateway,
    ) -> TunnelEnd {
        // Without a stream to send on the client has left.
        let Some(send) = &mut self.send else {
            return TunnelEnd::Closed;
        };
        let mut transport = Transport::new(StreamIo::new(&mut self.receive, send), BytesMut::new());
        let end = tunnel::run(&mut transport, upstream, idle, gateway).await;
        let counts = (transport.received_bytes(), transport.sent_bytes());
        let is_shut = transport.io().is_shut();
        self.leave(counts, is_shut);
        end
    }

    async fn relay(&mut self, upstream: &mut Transport<UpstreamStream>, relay: Relay<'_>) -> Option<Box<Exchange>> {
        let Some(send) = &mut self.send else {
            return Some(relay.exchange);
        };
        let mut transport = Transport::new(StreamIo::new(&mut self.receive, send), BytesMut::new());
        let exchange = relay.run(&mut transport, upstream).await;
        let counts = (transport.received_bytes(), transport.sent_bytes());
        let is_shut = transport.io().is_shut();
        self.leave(counts, is_shut);
        exchange
    }
}
