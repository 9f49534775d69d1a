//! HTTP/1 towards clients: one connection, request after request.
//!
//! Owns reading heads with their limits and times, keep-alive and pipelining, `100 Continue`, the framing of responses and
//! the orderly end of a connection. What happens to a request is `pipeline::run`'s matter.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::Refusal;
use crate::exchange::{ClientConnection, Exchange};
use crate::gateway::{ConnectionGuard, Gateway};
use crate::http::client::{ClientFault, ClientStream};
use crate::http::h1::body::{BodyDecoder, BodyEncoder, Decoded};
use crate::http::h1::parse::{parse_request, Framing, HeadFault, Parsed};
use crate::http::h1::transport::Transport;
use crate::http::head::{Method, RequestHead, ResponseHead, Version};
use crate::http::headers::{HeaderBlock, Known};
use crate::http::tunnel::{self, TunnelEnd};
use crate::pipeline;
use crate::timer::Watchdog;
use crate::upstream::connect::UpstreamStream;
use crate::ws::relay::Relay;

/// Body left unread after an answer that is still read away to keep the connection; beyond it the connection closes.
const DRAIN_BYTES: u64 = 64 * 1024;
/// How long a closing connection still takes bytes, so that the answer is not lost in a reset (RFC 9112, section 9.6).
const LINGER: Duration = Duration::from_millis(2000);
/// How long an idle connection of a draining engine waits for a request that may be on its way.
const DRAIN_GRACE: Duration = Duration::from_millis(1000);
/// Fields of a refused head that are looked at.
const READABLE_FIELDS: usize = 64;
/// Reading ahead of a pipelining client stops here.
const READ_AHEAD_BYTES: usize = 64 * 1024;

/// One client connection as the pipeline sees it.
pub struct H1Client<S> {
    transport: Transport<S>,
    decoder: BodyDecoder,
    encoder: BodyEncoder,
    watchdog: Watchdog,
    body_timeout: Duration,
    send_timeout: Duration,
    version: Version,
    wants_trailers: bool,
    must_continue: bool,
    closes: bool,
    is_cut: bool,
    is_tunnel: bool,
    counted_from: (u64, u64),
}

enum Next {
    Request(Parsed<RequestHead>),
    Fault(HeadFault),
    Timeout,
    Close,
}

/// Serve a connection until it ends; `read_ahead` was already taken from the stream.
pub async fn serve<S>(
    gateway: &Arc<Gateway>,
    connection: Arc<ClientConnection>,
    guard: &ConnectionGuard,
    io: S,
    read_ahead: BytesMut,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let timeouts = &gateway.settings.client_timeouts;
    let mut client = H1Client {
        transport: Transport::new(io, read_ahead),
        decoder: BodyDecoder::new(Framing::None),
        encoder: BodyEncoder::new(Framing::None),
        watchdog: Watchdog::default(),
        body_timeout: Duration::from_millis(timeouts.body_ms),
        send_timeout: Duration::from_millis(timeouts.send_ms),
        version: Version::Http11,
        wants_trailers: false,
        must_continue: false,
        closes: false,
        is_cut: false,
        is_tunnel: false,
        counted_from: (0, 0),
    };
    let mut served = 0_u64;
    loop {
        let next = client.next_request(gateway, guard, served > 0).await;
        served += 1;
        let (head, framing, fault) = match next {
            Next::Close => break,
            Next::Request(parsed) => {
                let limit = gateway.settings.limits.keepalive_requests;
                client.begin(&parsed, limit != 0 && served >= limit);
                (parsed.head, parsed.framing, None)
            }
            Next::Fault(fault) => {
                client.closes = true;
                let head = readable_part(&client.transport.read);
                (head, Framing::None, Some(Refusal::Head(fault)))
            }
            Next::Timeout => {
                client.closes = true;
                let head = readable_part(&client.transport.read);
                (head, Framing::None, Some(Refusal::ClientTimeout))
            }
        };
        guard.busy();
        let exchange = Exchange::new(gateway.request_id(), gateway.live(), connection.clone(), head, framing);
        pipeline::run(gateway, exchange, &mut client, fault).await;
        guard.idle();
        if client.is_cut || client.is_tunnel {
            return;
        }
        if client.closes || !client.drain_body().await {
            break;
        }
    }
    client.close().await;
}

impl<S> H1Client<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    async fn next_request(&mut self, gateway: &Gateway, guard: &ConnectionGuard, is_kept_alive: bool) -> Next {
        let timeouts = &gateway.settings.client_timeouts;
        let limits = &gateway.settings.limits;
        self.counted_from = (
            self.transport.received_bytes() - self.transport.read.len() as u64,
            self.transport.sent_bytes(),
        );
        let mut is_waiting = self.transport.read.is_empty();
        let mut is_leaving = false;
        // A head that is here whole is not counted: it costs nothing then.
        let mut reading = None;
        let first_wait = if is_kept_alive {
            timeouts.keepalive_ms
        } else {
            timeouts.header_ms
        };
        self.watchdog.arm(Duration::from_millis(if is_waiting {
            first_wait
        } else {
            timeouts.header_ms
        }));
        poll_fn(|context| loop {
            // RFC 9112, section 2.2: empty lines before a request line are ignored.
            while self.transport.read.starts_with(b"\r\n") {
                let _ = self.transport.read.split_to(2);
            }
            if !self.transport.read.is_empty() {
                if is_waiting {
                    is_waiting = false;
                    self.watchdog.arm(Duration::from_millis(timeouts.header_ms));
                }
                match parse_request(&self.transport.read, limits) {
                    Ok(Some(parsed)) => {
                        let _ = self.transport.read.split_to(parsed.length);
                        return Poll::Ready(Next::Request(parsed));
                    }
                    Ok(None) => {
                        reading.get_or_insert_with(|| guard.reading());
                    }
                    Err(fault) => return Poll::Ready(Next::Fault(fault)),
                }
            }
            if is_waiting && !is_leaving && guard.is_draining() {
                // Closing at once would meet requests that are on their way; the next one is told `Connection: close`.
                is_leaving = true;
                self.watchdog.arm(DRAIN_GRACE);
            }
            match self.transport.poll_fill(context) {
                Poll::Ready(Ok(count)) if count > 0 => continue,
                Poll::Ready(_) => return Poll::Ready(Next::Close),
                Poll::Pending => {}
            }
            guard.register(context.waker());
            if self.watchdog.poll_expired(context).is_ready() {
                return Poll::Ready(if is_waiting { Next::Close } else { Next::Timeout });
            }
            return Poll::Pending;
        })
        .await
    }

    fn begin(&mut self, parsed: &Parsed<RequestHead>, is_last: bool) {
        self.decoder = BodyDecoder::new(parsed.framing);
        self.encoder = BodyEncoder::new(Framing::None);
        self.version = parsed.head.version;
        self.closes = parsed.closes || is_last;
        let headers = &parsed.head.headers;
        self.wants_trailers = headers
            .known_values(Known::Te)
            .any(|value| crate::http::headers::list_has_token(value, b"trailers"));
        self.must_continue = parsed.framing != Framing::None
            && self.version == Version::Http11
            && headers
                .known(Known::Expect)
                .is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"));
    }

    /// Read away what is left of a body that nobody wanted; false when the connection cannot go on.
    async fn drain_body(&mut self) -> bool {
        if self.decoder.is_done() {
            return true;
        }
        if self.must_continue {
            // The client was never told to send the body, yet may: there is no telling what comes next.
            return false;
        }
        let mut left = DRAIN_BYTES;
        loop {
            match poll_fn(|context| self.poll_body(context)).await {
                Ok(None) => return true,
                Ok(Some(chunk)) if (chunk.len() as u64) < left => left -= chunk.len() as u64,
                Ok(Some(_)) | Err(_) => return false,
            }
        }
    }

    /// Close our side, then take bytes for a moment.
    async fn close(mut self) {
        self.watchdog.arm(LINGER);
        poll_fn(|context| {
            if self.watchdog.poll_expired(context).is_ready() {
                return Poll::Ready(());
            }
            if self.transport.poll_flush(context).is_pending() {
                return Poll::Pending;
            }
            self.transport.poll_shutdown(context).map(|_| ())
        })
        .await;
        let mut left = DRAIN_BYTES as usize * 4;
        while !self.transport.is_read_closed() && left > 0 {
            self.transport.read.clear();
            let count = poll_fn(|context| {
                if self.watchdog.poll_expired(context).is_ready() {
                    return Poll::Ready(0);
                }
                self.transport.poll_fill(context).map(|result| result.unwrap_or(0))
            })
            .await;
            if count == 0 {
                return;
            }
            left = left.saturating_sub(count);
        }
    }

    fn decode(&mut self) -> Result<Decoded, ClientFault> {
        self.decoder.decode(&mut self.transport.read).map_err(|fault| {
            self.closes = true;
            ClientFault::BadBody(fault.0)
        })
    }
}

impl<S> ClientStream for H1Client<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ClientFault>> {
        loop {
            match self.decode()? {
                Decoded::Data(data) => {
                    self.watchdog.disarm();
                    return Poll::Ready(Ok(Some(data)));
                }
                Decoded::End => {
                    self.watchdog.disarm();
                    return Poll::Ready(Ok(None));
                }
                Decoded::NeedMore => {}
            }
            if self.must_continue {
                self.must_continue = false;
                self.transport.write.push_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                self.watchdog.arm(self.body_timeout);
            }
            if !self.transport.write.is_empty() {
                if let Poll::Ready(Err(_)) = self.transport.poll_flush(context) {
                    return Poll::Ready(Err(ClientFault::Gone));
                }
            }
            match self.transport.poll_fill(context) {
                Poll::Ready(Ok(count)) if count > 0 => self.watchdog.arm(self.body_timeout),
                Poll::Ready(_) => {
                    self.closes = true;
                    return Poll::Ready(Err(ClientFault::Gone));
                }
                Poll::Pending => {
                    if self.watchdog.poll_expired(context).is_ready() {
                        self.closes = true;
                        return Poll::Ready(Err(ClientFault::BodyTimeout));
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    fn buffered_body(&mut self) -> Result<Option<Bytes>, ClientFault> {
        match self.decode()? {
            Decoded::Data(data) => Ok(Some(data)),
            Decoded::End | Decoded::NeedMore => Ok(None),
        }
    }

    fn is_body_done(&self) -> bool {
        self.decoder.is_done()
    }

    fn take_trailers(&mut self) -> Option<HeaderBlock> {
        self.decoder.take_trailers()
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.transport.is_read_closed() {
            return Poll::Ready(());
        }
        // Bytes that come now are a pipelining client's next requests: it is still there.
        while self.transport.read.len() < READ_AHEAD_BYTES {
            match self.transport.poll_fill(context) {
                Poll::Ready(Ok(count)) if count > 0 => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Pending
    }

    fn send_head(&mut self, head: &ResponseHead, framing: Framing, closes: bool) {
        let is_unread = !self.decoder.is_done();
        let leaves_too_much = self.decoder.remaining().is_some_and(|left| left > DRAIN_BYTES);
        self.closes |= closes || framing == Framing::UntilClose || is_unread && (self.must_continue || leaves_too_much);
        self.encoder = BodyEncoder::new(framing);
        let write = &mut self.transport.write;
        write.push_slice(b"HTTP/1.1 ");
        write.push_number(u64::from(head.status));
        write.push_slice(b" ");
        write.push_slice(reason(head.status).as_bytes());
        write.push_slice(b"\r\n");
        for (known, name, value) in head.headers.iter() {
            match known {
                Known::KeepAlive | Known::ProxyConnection | Known::TransferEncoding => continue,
                Known::Connection | Known::Upgrade if head.status != 101 && head.status != 426 => continue,
                Known::ContentLength if !matches!(framing, Framing::None) => continue,
                _ => {}
            }
            write.push_slice(name);
            write.push_slice(b": ");
            write.push_slice(value);
            write.push_slice(b"\r\n");
        }
        match framing {
            Framing::Length(length) => {
                write.push_slice(b"Content-Length: ");
                write.push_number(length);
                write.push_slice(b"\r\n");
            }
            Framing::Chunked => write.push_slice(b"Transfer-Encoding: chunked\r\n"),
            Framing::None | Framing::UntilClose => {}
        }
        if head.status == 101 {
            self.is_tunnel = true;
        } else if head.status != 426 || self.closes {
            let connection: &[u8] = if self.closes {
                b"Connection: close\r\n"
            } else {
                b"Connection: keep-alive\r\n"
            };
            write.push_slice(connection);
        }
        write.push_slice(b"\r\n");
    }

    fn send_data(&mut self, chunk: Bytes) {
        self.encoder.data(&mut self.transport.write, chunk);
    }

    fn send_end(&mut self, trailers: Option<&HeaderBlock>) -> bool {
        let trailers = trailers.filter(|_| self.wants_trailers);
        let is_whole = self.encoder.end(&mut self.transport.write, trailers);
        if !is_whole {
            self.closes = true;
        }
        is_whole
    }

    fn queued_bytes(&self) -> usize {
        self.transport.write.len()
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ClientFault>> {
        let before = self.transport.sent_bytes();
        match self.transport.poll_flush(context) {
            Poll::Ready(Ok(())) => {
                self.watchdog.disarm();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(_)) => {
                self.is_cut = true;
                Poll::Ready(Err(ClientFault::Gone))
            }
            Poll::Pending => {
                if self.transport.sent_bytes() != before || self.watchdog.is_disarmed() {
                    self.watchdog.arm(self.send_timeout);
                }
                if self.watchdog.poll_expired(context).is_ready() {
                    self.is_cut = true;
                    return Poll::Ready(Err(ClientFault::SendTimeout));
                }
                Poll::Pending
            }
        }
    }

    fn abort(&mut self) {
        self.is_cut = true;
        self.closes = true;
    }

    fn byte_counts(&self) -> (u64, u64) {
        let unread = self.transport.read.len() as u64;
        (
            (self.transport.received_bytes() - unread).saturating_sub(self.counted_from.0),
            self.transport.sent_bytes().saturating_sub(self.counted_from.1),
        )
    }

    fn can_chunk(&self) -> bool {
        self.version == Version::Http11
    }

    async fn tunnel(
        &mut self,
        upstream: &mut Transport<UpstreamStream>,
        idle: Duration,
        gateway: &Gateway,
    ) -> TunnelEnd {
        self.is_cut = true;
        tunnel::run(&mut self.transport, upstream, idle, gateway).await
    }

    async fn relay(&mut self, upstream: &mut Transport<UpstreamStream>, relay: Relay<'_>) -> Option<Box<Exchange>> {
        self.watchdog.disarm();
        self.is_cut = true;
        relay.run(&mut self.transport, upstream).await
    }
}

/// What can be told of a request whose head is refused: method and target when the first line is readable, and the
/// fields that choose the error body's type.
fn readable_part(input: &[u8]) -> RequestHead {
    let mut lines = input
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut words = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
    let method = words
        .next()
        .and_then(|word| Method::from_bytes(word).ok())
        .unwrap_or(Method::GET);
    let mut headers = HeaderBlock::new();
    let target = words
        .next()
        .filter(|target| target.starts_with(b"/") && target.len() <= 8192)
        .unwrap_or(b"/");
    let target = headers.keep(target);
    for line in lines.take_while(|line| !line.is_empty()).take(READABLE_FIELDS) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        if let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            if matches!(Known::of(name), Known::Accept | Known::ContentType) {
                headers.add(name, value.trim_ascii());
            }
        }
    }
    RequestHead {
        method,
        target,
        version: Version::Http11,
        headers,
    }
}

fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status)
        .ok()
        .and_then(|code| code.canonical_reason())
        .unwrap_or("")
}
