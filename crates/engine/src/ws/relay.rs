//! The life of a WebSocket connection behind its handshake: messages both ways until both sides are closed.
//!
//! One task moves both directions. A message is read, handed to its phase when the route has handlers for it, and queued
//! for the other side; control frames pass like messages, so pings are answered by the ends themselves. Bounds: a side is
//! read only while the other one's queue is short, so each direction holds at most one message being read, one whole and
//! what was queued before. Handlers of one connection run one after the other; a direction without handlers goes on
//! while a handler of the other one is awaited.
//!
//! The end: a close frame passes like a message, and the connection is over when both sides have sent one. A side that
//! goes without is answered for: the other one is told 1001, as the peer of whoever broke a rule.

use std::future::{poll_fn, Future};
use std::pin::{pin, Pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::exchange::Exchange;
use crate::gateway::{random, Gateway};
use crate::http::h1::transport::Transport;
use crate::phase::Phase;
use crate::runner::Step;
use crate::timer::Watchdog;
use crate::upstream::connect::UpstreamStream;
use crate::ws::deflate::Deflate;
use crate::ws::frame::{encode, Coding, Decoder, Kind, Message};
use crate::ws::session::{Farewell, Side};

/// A side is not read while this much waits to be sent to the other one.
const QUEUE_BYTES: usize = 64 * 1024;
/// Payload of messages after which other tasks of the worker have their turn: a compressed message costs more than its
/// bytes on the wire tell.
const TURN_BYTES: usize = 1024 * 1024;
/// How long a side may take to answer a close frame (own choice; nginx and browsers wait for seconds as well).
const CLOSE_WAIT: Duration = Duration::from_secs(5);
/// How long a closed connection still takes bytes, so that the close frame is not lost in a reset.
const LINGER: Duration = Duration::from_millis(2000);
/// Bytes thrown away while lingering.
const LINGER_BYTES: u64 = 1024 * 1024;

/// Times of one connection.
#[derive(Debug, Clone, Copy)]
pub struct RelayTimeouts {
    /// Without a byte from either side.
    pub idle: Duration,
    /// Between two writes to the client.
    pub client_write: Duration,
    /// Between two writes to the upstream.
    pub upstream_write: Duration,
    /// From the beginning of a drain until the connection is closed.
    pub drain: Duration,
}

/// One connection about to be moved.
pub struct Relay<'a> {
    /// Shared state.
    pub gateway: &'a Arc<Gateway>,
    /// The request that became a WebSocket.
    pub exchange: Box<Exchange>,
    /// Its times.
    pub timeouts: RelayTimeouts,
}

/// One end of the connection.
struct Leg<'a, S> {
    side: Side,
    phase: Phase,
    transport: &'a mut Transport<S>,
    decoder: Decoder,
    /// How messages to it are compressed, when that was agreed on.
    deflate: Option<Deflate>,
    write_watchdog: Watchdog,
    write_timeout: Duration,
    /// Handlers look at what it sends.
    is_handled: bool,
    limit_bytes: usize,
    /// It has sent a close frame; with its status.
    has_closed: bool,
    closed_with: Option<u16>,
    /// What it is told in the place of the next close frame.
    farewell: Option<Farewell>,
    /// It was sent a close frame.
    is_told: bool,
    is_gone: bool,
}

/// A handler that is awaited.
struct Awaited {
    side: Side,
    step: Pin<Box<dyn Future<Output = Option<Step>> + Send>>,
}

struct Connection<'a, S> {
    gateway: &'a Arc<Gateway>,
    client: Leg<'a, S>,
    upstream: Leg<'a, UpstreamStream>,
    /// None while a handler is awaited.
    exchange: Option<Box<Exchange>>,
    awaited: Option<Awaited>,
    /// Payload of the messages that were taken in this turn.
    turn_bytes: usize,
    /// Since the last writes.
    has_run_handlers: bool,
    /// Other connections had their turn: what is queued is written before anything is read.
    is_gathering: bool,
    is_lost: bool,
    /// Everybody was told; only the queues are to be sent.
    is_over: bool,
    timeouts: RelayTimeouts,
    idle: Watchdog,
    closing: Watchdog,
    draining: Watchdog,
}

impl Relay<'_> {
    /// Move messages until the connection is over; None when the exchange was lost in a handler.
    pub async fn run<S>(
        self,
        client: &mut Transport<S>,
        upstream: &mut Transport<UpstreamStream>,
    ) -> Option<Box<Exchange>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let Self {
            gateway,
            exchange,
            timeouts,
        } = self;
        let mut connection = Connection {
            gateway,
            client: Leg::new(Side::Client, client, timeouts.client_write, &exchange),
            upstream: Leg::new(Side::Upstream, upstream, timeouts.upstream_write, &exchange),
            exchange: Some(exchange),
            awaited: None,
            turn_bytes: 0,
            has_run_handlers: false,
            is_gathering: false,
            is_lost: false,
            is_over: false,
            timeouts,
            idle: Watchdog::default(),
            closing: Watchdog::default(),
            draining: Watchdog::default(),
        };
        connection.idle.arm(timeouts.idle);
        let mut drain = pin!(gateway.draining());
        let mut is_draining = false;
        poll_fn(|context| {
            if !is_draining && drain.as_mut().poll(context).is_ready() {
                is_draining = true;
                connection.draining.arm(connection.timeouts.drain);
            }
            connection.poll_moved(context)
        })
        .await;
        connection.linger().await;
        connection.exchange_back().await
    }
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Leg<'a, S> {
    fn new(side: Side, transport: &'a mut Transport<S>, write_timeout: Duration, exchange: &Exchange) -> Self {
        let phase = match side {
            Side::Client => Phase::WsClientFrame,
            Side::Upstream => Phase::WsUpstreamFrame,
        };
        let deflate = exchange.websocket.as_ref().and_then(|session| session.deflate(side));
        Self {
            side,
            phase,
            transport,
            decoder: Decoder::new(side == Side::Client, deflate.is_some()),
            deflate,
            write_watchdog: Watchdog::default(),
            write_timeout,
            is_handled: exchange.has(phase),
            limit_bytes: exchange
                .websocket
                .as_ref()
                .map_or(0, |session| session.limit_bytes(side)),
            has_closed: false,
            closed_with: None,
            farewell: None,
            is_told: false,
            is_gone: false,
        }
    }

    /// Queue a message for this side, unless its last one was queued already.
    fn send(&mut self, mut message: Message) {
        if self.is_told || self.is_gone {
            return;
        }
        if message.kind == Kind::Close {
            self.is_told = true;
            if let Some(farewell) = self.farewell.take() {
                message = farewell.into_message();
            }
        }
        let mut coding = Coding::Plain;
        if let (Some(deflate), Kind::Text | Kind::Binary) = (self.deflate, message.kind) {
            if let Some(compressed) = deflate.compress(&message.data) {
                message.data = compressed;
                coding = Coding::Deflated;
            }
        }
        let mask = (self.side == Side::Upstream).then(random::<4>);
        encode(&mut self.transport.write, message, coding, mask);
    }

    fn tell(&mut self, farewell: &Farewell) {
        self.send(farewell.clone().into_message());
    }

    /// Answer a close frame in the place of the other side, or tell that the other side is gone.
    fn answer_for_peer(&mut self) {
        if self.has_closed {
            self.send(Message {
                kind: Kind::Close,
                data: BytesMut::new(),
                status: self.closed_with,
            });
        } else {
            self.tell(&Farewell::new(1001, ""));
        }
    }

    /// True when all is sent, or nothing can be sent any more.
    fn flush(&mut self, context: &mut Context<'_>) -> bool {
        if self.is_gone {
            return true;
        }
        let before = self.transport.sent_bytes();
        match self.transport.poll_flush(context) {
            Poll::Ready(Ok(())) => {
                self.write_watchdog.disarm();
                true
            }
            Poll::Ready(Err(_)) => {
                self.is_gone = true;
                true
            }
            Poll::Pending => {
                if self.transport.sent_bytes() != before || self.write_watchdog.is_disarmed() {
                    self.write_watchdog.arm(self.write_timeout);
                }
                self.is_gone = self.write_watchdog.poll_expired(context).is_ready();
                self.is_gone
            }
        }
    }

    /// Close our sending side and read away what comes; true when the peer has closed too.
    fn poll_discard(&mut self, context: &mut Context<'_>, left: &mut u64) -> bool {
        if self.is_gone {
            return true;
        }
        match self.transport.poll_shutdown(context) {
            Poll::Pending => return false,
            Poll::Ready(Err(_)) => return true,
            Poll::Ready(Ok(())) => {}
        }
        loop {
            self.transport.read.clear();
            match self.transport.poll_fill(context) {
                Poll::Ready(Ok(count)) if count > 0 && *left >= count as u64 => *left -= count as u64,
                Poll::Ready(_) => {
                    self.is_gone = true;
                    return true;
                }
                Poll::Pending => return false,
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    /// Ready when nothing is left to be said to anybody.
    fn poll_moved(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.turn_bytes = 0;
        loop {
            let mut has_moved = std::mem::take(&mut self.is_gathering);
            if !has_moved {
                has_moved |= self.poll_handler(context);
                has_moved |= self.pump(Side::Client, context);
                has_moved |= self.pump(Side::Upstream, context);
                if std::mem::take(&mut self.has_run_handlers) {
                    // Handlers of other connections first, then the writes of all in a row: see `Flow::gather`.
                    self.is_gathering = true;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            let queued = (self.client.transport.write.len(), self.upstream.transport.write.len());
            let is_client_sent = self.client.flush(context);
            let is_upstream_sent = self.upstream.flush(context);
            // A side that could not be read because the other one's queue was full can be read again.
            has_moved |= queued.0 >= QUEUE_BYTES && is_client_sent || queued.1 >= QUEUE_BYTES && is_upstream_sent;
            self.notice_ends();
            if self.is_lost {
                return Poll::Ready(());
            }
            if self.is_over {
                if self.client.flush(context) && self.upstream.flush(context) {
                    return Poll::Ready(());
                }
                return Poll::Pending;
            }
            if !has_moved {
                if self.poll_deadlines(context) {
                    continue;
                }
                return Poll::Pending;
            }
        }
    }

    /// Read one side and pass on what it sends, as far as possible without waiting; true when anything happened.
    fn pump(&mut self, side: Side, context: &mut Context<'_>) -> bool {
        let mut has_moved = false;
        loop {
            let (is_readable, is_blocked) = match side {
                Side::Client => (self.client.is_readable(&self.exchange), self.upstream.is_full()),
                Side::Upstream => (self.upstream.is_readable(&self.exchange), self.client.is_full()),
            };
            if !is_readable || is_blocked || self.is_over || self.is_lost {
                return has_moved;
            }
            if self.turn_bytes >= TURN_BYTES {
                context.waker().wake_by_ref();
                return has_moved;
            }
            let message = match side {
                Side::Client => self.client.decode(),
                Side::Upstream => self.upstream.decode(),
            };
            match message {
                Ok(Some(message)) => {
                    has_moved = true;
                    self.turn_bytes += message.data.len();
                    self.take(side, message);
                    continue;
                }
                Ok(None) => {}
                Err(farewell) => {
                    self.refuse(side, farewell);
                    return true;
                }
            }
            let filled = match side {
                Side::Client => self.client.fill(context),
                Side::Upstream => self.upstream.fill(context),
            };
            match filled {
                Poll::Ready(is_open) => {
                    has_moved = true;
                    if !is_open {
                        return true;
                    }
                    self.idle.arm(self.timeouts.idle);
                }
                Poll::Pending => return has_moved,
            }
        }
    }

    /// A whole message has come from `side`.
    fn take(&mut self, side: Side, message: Message) {
        let (phase, is_handled) = match side {
            Side::Client => (self.client.phase, self.client.is_handled),
            Side::Upstream => (self.upstream.phase, self.upstream.is_handled),
        };
        if !is_handled {
            self.forward(side, message);
            return;
        }
        let Some(mut exchange) = self.exchange.take() else {
            self.is_lost = true;
            return;
        };
        if let Some(session) = exchange.websocket.as_mut() {
            session.message = Some(message);
            session.is_dropped = false;
        }
        exchange.phase = phase;
        let runner = &self.gateway.runner;
        let step = match side {
            Side::Client => runner.client_frame(exchange),
            Side::Upstream => runner.upstream_frame(exchange),
        };
        self.settle(side, Some(step));
    }

    /// Go on with a handler that was awaited; true when it went on.
    fn poll_handler(&mut self, context: &mut Context<'_>) -> bool {
        let Some(awaited) = self.awaited.as_mut() else {
            return false;
        };
        let Poll::Ready(step) = awaited.step.as_mut().poll(context) else {
            return false;
        };
        let side = awaited.side;
        self.awaited = None;
        self.settle(side, step);
        true
    }

    fn settle(&mut self, side: Side, mut step: Option<Step>) {
        self.has_run_handlers = true;
        loop {
            match step {
                None => {
                    self.is_lost = true;
                    return;
                }
                Some(Step::Done(exchange)) => {
                    self.apply(side, exchange);
                    return;
                }
                Some(Step::Wait(step)) => {
                    self.awaited = Some(Awaited { side, step });
                    return;
                }
                // A handshake has no body: there is nothing to be read.
                Some(Step::NeedBody { exchange, .. }) => step = Some(self.gateway.runner.resume(exchange)),
            }
        }
    }

    /// A message's phase is over: do what its handlers decided.
    fn apply(&mut self, side: Side, mut exchange: Box<Exchange>) {
        let Some(session) = exchange.websocket.as_mut() else {
            self.is_lost = true;
            return;
        };
        let message = session.message.take();
        let is_dropped = std::mem::take(&mut session.is_dropped);
        let farewells = session.farewells.take();
        self.exchange = Some(exchange);
        match (farewells, message) {
            _ if self.is_over => {}
            (Some((client, upstream)), _) => self.end(&client, &upstream),
            (None, Some(message)) if !is_dropped => self.forward(side, message),
            _ => {}
        }
    }

    /// Queue a message from `side` for the other side.
    fn forward(&mut self, side: Side, message: Message) {
        if message.kind == Kind::Close {
            self.closing.arm(CLOSE_WAIT);
        }
        match side {
            Side::Client => self.upstream.send(message),
            Side::Upstream => self.client.send(message),
        }
    }

    /// `side` has broken a rule.
    ///
    /// A client is told when the upstream has closed: what it sent before is still answered.
    fn refuse(&mut self, side: Side, farewell: Farewell) {
        let gone = Farewell::new(1001, "");
        match side {
            Side::Client => {
                self.client.farewell = Some(farewell);
                self.upstream.tell(&gone);
                self.closing.arm(CLOSE_WAIT);
            }
            Side::Upstream => self.end(&gone, &farewell),
        }
    }

    /// Tell both sides that it is over.
    fn end(&mut self, client: &Farewell, upstream: &Farewell) {
        self.client.tell(client);
        self.upstream.tell(upstream);
        self.is_over = true;
    }

    /// End the connection when its sides have: both with a close frame, or one without.
    fn notice_ends(&mut self) {
        if self.is_over || self.awaited.is_some() {
            return;
        }
        if self.client.is_gone || self.upstream.is_gone {
            self.client.answer_for_peer();
            self.upstream.answer_for_peer();
            self.is_over = true;
        } else {
            self.is_over =
                self.client.has_closed && self.upstream.has_closed && self.client.is_told && self.upstream.is_told;
        }
    }

    /// True when a deadline has passed and the connection was ended for it.
    fn poll_deadlines(&mut self, context: &mut Context<'_>) -> bool {
        let cause = if self.closing.poll_expired(context).is_ready() {
            "no answer to a close frame"
        } else if self.draining.poll_expired(context).is_ready() {
            "the worker is going away"
        } else if self.idle.poll_expired(context).is_ready() {
            "idle for longer than the service's timeouts"
        } else {
            return false;
        };
        if let Some(exchange) = &self.exchange {
            tracing::info!(request_id = exchange.id_text(), "WebSocket closed: {cause}");
        }
        self.client.answer_for_peer();
        self.upstream.answer_for_peer();
        self.is_over = true;
        true
    }

    /// Close both streams, then take bytes for a moment.
    async fn linger(&mut self) {
        let mut watchdog = Watchdog::default();
        watchdog.arm(LINGER);
        let mut left = LINGER_BYTES;
        poll_fn(|context| {
            let is_client_done = self.client.poll_discard(context, &mut left);
            let is_upstream_done = self.upstream.poll_discard(context, &mut left);
            if is_client_done && is_upstream_done {
                return Poll::Ready(());
            }
            watchdog.poll_expired(context)
        })
        .await;
    }

    /// The exchange, once the last handler has given it back.
    async fn exchange_back(mut self) -> Option<Box<Exchange>> {
        while let (None, Some(awaited)) = (&self.exchange, self.awaited.take()) {
            let step = awaited.step.await;
            self.settle(awaited.side, step);
        }
        self.exchange
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Leg<'_, S> {
    /// Its next message may be taken now.
    fn is_readable(&self, exchange: &Option<Box<Exchange>>) -> bool {
        !self.has_closed && !self.is_gone && (!self.is_handled || exchange.is_some())
    }

    fn is_full(&self) -> bool {
        self.transport.write.len() >= QUEUE_BYTES
    }

    fn decode(&mut self) -> Result<Option<Message>, Farewell> {
        let decoded = self.decoder.decode(&mut self.transport.read, self.limit_bytes);
        match decoded {
            Ok(Some(message)) => {
                if message.kind == Kind::Close {
                    self.has_closed = true;
                    self.closed_with = message.status;
                }
                Ok(Some(message))
            }
            Ok(None) => Ok(None),
            Err(fault) => {
                self.has_closed = true;
                Err(Farewell::new(fault.status(), fault.reason()))
            }
        }
    }

    /// Read more; false at the end of the stream.
    fn fill(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        self.transport.poll_fill(context).map(|outcome| {
            let is_open = matches!(outcome, Ok(count) if count > 0);
            self.is_gone |= !is_open;
            is_open
        })
    }
}
