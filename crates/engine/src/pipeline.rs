//! The order of things: one request from its head to its log line.
//!
//! Reads top to bottom as the list of stages. Owns when phases run and what is sent to the client; how bytes travel is
//! `http` and `upstream`, what plugins do is behind `PhaseRunner`. Every request gets an answer here unless its client is
//! gone: a panic inside answers 500 and ends only this request.

use std::future::{poll_fn, Future};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::error::Refusal;
use crate::exchange::{Exchange, Matched};
use crate::gateway::Gateway;
use crate::http::client::{ClientFault, ClientStream};
use crate::http::forward::{
    add_upstream_status, adopt_response, finish_response, https_location, is_websocket_upgrade, real_client,
    response_framing,
};
use crate::http::h1::body::Decoded;
use crate::http::h1::parse::Framing;
use crate::http::head::{Method, ResponseHead, Version};
use crate::http::headers::{HeaderBlock, Known};
use crate::http::respond::{is_grpc_content, refuse};
use crate::http::tunnel::TunnelEnd;
use crate::live::LiveRoute;
use crate::phase::Phase;
use crate::router::path::{normalize, split_target};
use crate::router::{HeaderLookup, RequestKey};
use crate::runner::Step;
use crate::telemetry::log_queue::LogQueue;
use crate::upstream::attempt::{reach, Ended, Reached};
use crate::upstream::body_pump::PumpFault;
use crate::upstream::link::Link;
use crate::ws::handshake;
use crate::ws::relay::{Relay, RelayTimeouts};

/// Handle one request: answer it and log it. `fault`: its head was refused already.
pub async fn run<C: ClientStream>(
    gateway: &Arc<Gateway>,
    exchange: Box<Exchange>,
    client: &mut C,
    fault: Option<Refusal>,
) {
    let id = exchange.id;
    let outcome = {
        let flow = Flow {
            gateway,
            client,
            has_run_handlers: false,
        };
        let mut flow = pin!(flow.drive(exchange, fault));
        poll_fn(
            |context| match catch_unwind(AssertUnwindSafe(|| flow.as_mut().poll(context))) {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(outcome)) => Poll::Ready(Ok(outcome)),
                Err(_) => Poll::Ready(Err(())),
            },
        )
        .await
    };
    match outcome {
        Ok(Some(mut exchange)) => {
            (exchange.request_bytes, exchange.response_bytes) = client.byte_counts();
            finish(gateway, exchange);
        }
        Ok(None) => client.abort(),
        Err(()) => {
            tracing::error!(request_id = %String::from_utf8_lossy(&id), "a panic ended this request");
            if client.byte_counts().1 == 0 {
                let mut head = ResponseHead {
                    status: 500,
                    headers: HeaderBlock::new(),
                };
                head.headers.add(b"Content-Type", b"text/plain; charset=utf-8");
                let body = Bytes::from_static(b"An unexpected error occurred\n");
                client.send_head(&head, Framing::Length(body.len() as u64), true);
                client.send_data(body);
                client.send_end(None);
                let _ = poll_fn(|context| client.poll_flush(context)).await;
            }
            client.abort();
        }
    }
}

/// One request's way; dropped when the request is over.
struct Flow<'a, C> {
    gateway: &'a Arc<Gateway>,
    client: &'a mut C,
    /// Since the last `gather`.
    has_run_handlers: bool,
}

/// Where the response body comes from.
enum Source {
    /// Whole, with the trailers that followed it at the upstream.
    Own(Bytes, Option<HeaderBlock>),
    Upstream(Box<Reached>),
}

impl<C: ClientStream> Flow<'_, C> {
    /// All stages; None when the exchange was lost on the way (the connection is cut).
    async fn drive(mut self, mut exchange: Box<Exchange>, fault: Option<Refusal>) -> Option<Box<Exchange>> {
        let settings = exchange.live.settings.clone();
        exchange.forwarded_client = real_client(&exchange.request, &exchange.connection, &settings);
        exchange.path = normalize(split_target(exchange.request.target()).path).into_owned();
        let limit = settings.limits.request_body_bytes;
        let is_too_large = matches!(exchange.body.framing, Framing::Length(length) if limit != 0 && length > limit);
        if let Some(refusal) = fault.or(is_too_large.then_some(Refusal::BodyTooLarge)) {
            return self.refused(exchange, refusal).await;
        }
        if exchange.has(Phase::Rewrite) {
            self.take_buffered_body(&mut exchange);
            exchange = self.phase(Phase::Rewrite, exchange).await?;
            if exchange.answer.is_some() {
                return self.answered(exchange).await;
            }
        }
        let routing = Instant::now();
        let routed = route(&mut exchange);
        exchange.timings.routing = Some((routing, Instant::now()));
        if let Err(refusal) = routed {
            return self.refused(exchange, refusal).await;
        }
        let access = match exchange.websocket {
            Some(_) => Phase::WsHandshake,
            None => Phase::Access,
        };
        if exchange.has(access) {
            self.take_buffered_body(&mut exchange);
            exchange = self.phase(access, exchange).await?;
            if exchange.answer.is_some() {
                return self.answered(exchange).await;
            }
        }
        let body = &exchange.body;
        if limit != 0 && !body.is_replaced && body.held.len() as u64 > limit {
            // A plugin had a body of unannounced length read into memory.
            return self.refused(exchange, Refusal::BodyTooLarge).await;
        }
        self.gather().await;
        let reached = match reach(self.gateway, &mut exchange, self.client).await {
            Ok(reached) => reached,
            Err(Ended::Refused(refusal)) => return self.refused(exchange, refusal).await,
            Err(Ended::ClientGone) => return Some(self.left(exchange)),
        };
        self.proxied(exchange, reached).await
    }

    /// The gateway's own answer to something it refuses.
    async fn refused(&mut self, mut exchange: Box<Exchange>, refusal: Refusal) -> Option<Box<Exchange>> {
        if refusal.is_operators_matter() {
            tracing::error!(request_id = exchange.id_text(), "{refusal}");
        } else {
            tracing::info!(request_id = exchange.id_text(), client = %exchange.connection.peer_ip_text, "{refusal}");
        }
        refuse(&mut exchange, &refusal);
        self.answered(exchange).await
    }

    /// Send the recorded answer.
    async fn answered(&mut self, mut exchange: Box<Exchange>) -> Option<Box<Exchange>> {
        exchange.timings.answered = Some(Instant::now());
        let (body, closes) = exchange
            .answer
            .take()
            .map_or((Bytes::new(), false), |answer| (answer.body, answer.closes));
        self.send(exchange, Source::Own(body, None), closes).await
    }

    /// Send the upstream's response, buffered or as it comes.
    async fn proxied(&mut self, mut exchange: Box<Exchange>, mut reached: Reached) -> Option<Box<Exchange>> {
        let head = std::mem::take(&mut reached.head);
        if exchange.phases
            & (Phase::HeaderFilter.bit()
                | Phase::BodyFilter.bit()
                | Phase::Log.bit()
                | Phase::Response.bit()
                | Phase::WsClose.bit())
            != 0
        {
            exchange.upstream_names = head.headers.iter().map(|(_, name, _)| name.to_vec()).collect();
        }
        let is_upgraded = head.status == 101;
        let request = &exchange.request;
        let fault = match &mut exchange.websocket {
            Some(session) if is_upgraded => handshake::take_answer(session, &request.headers, &head).err(),
            None if is_upgraded && !is_websocket_upgrade(&request.headers) => {
                Some("switching protocols without being asked")
            }
            // The key was made here: nobody else can compare.
            None if is_upgraded && request.version == Version::Http2 => {
                let key = request.headers.known(Known::SecWebsocketKey).unwrap_or_default();
                handshake::check_accept(key, &head.headers).err()
            }
            _ => None,
        };
        if let Some(cause) = fault {
            let cause = cause.to_owned();
            let address = reached.key.address().to_string();
            return self.refused(exchange, Refusal::UpstreamFailed { address, cause }).await;
        }
        adopt_response(&mut exchange, head);
        let Exchange {
            websocket,
            request,
            response,
            live,
            ..
        } = &mut *exchange;
        if let Some(session) = websocket.as_mut().filter(|_| is_upgraded) {
            handshake::adopt_answer(session, live.settings.websocket_compression, &request.headers, response);
        }
        add_upstream_status(&mut exchange, &self.gateway.settings);
        if exchange.wants_buffering && is_websocket_upgrade(&exchange.request.headers) {
            tracing::info!(
                request_id = exchange.id_text(),
                "response buffering was turned off: connection upgrade (websocket)"
            );
            exchange.wants_buffering = false;
        }
        if exchange.wants_buffering {
            return self.buffered(exchange, reached).await;
        }
        self.send(exchange, Source::Upstream(Box::new(reached)), false).await
    }

    /// Buffered mode: the whole response first, then the response phase.
    async fn buffered(&mut self, mut exchange: Box<Exchange>, mut reached: Reached) -> Option<Box<Exchange>> {
        let limit = self.gateway.settings.limits.response_buffer_bytes;
        let mut body = BytesMut::new();
        loop {
            match self.next_chunk(&mut exchange, &mut reached).await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(Cut::Client) => return Some(self.left(exchange)),
                Err(Cut::Upstream(cause)) => {
                    let address = reached.key.address().to_string();
                    exchange.response = ResponseHead::default();
                    return self.refused(exchange, Refusal::UpstreamFailed { address, cause }).await;
                }
            }
            if body.len() > limit {
                exchange.response = ResponseHead::default();
                return self.refused(exchange, Refusal::ResponseTooLarge).await;
            }
        }
        exchange.timings.upstream_end = Some(Instant::now());
        // HTTP/1 has no room for them behind a Content-Length.
        let is_http2 = exchange.request.version == Version::Http2;
        let mut trailers = reached.link.take_trailers().filter(|_| is_http2);
        self.give_back(reached);
        let body = body.freeze();
        let length = body.len();
        exchange.buffered = Some(body);
        if exchange.has(Phase::Response) {
            exchange = self.phase(Phase::Response, exchange).await?;
        }
        let body = match exchange.answer.take() {
            Some(answer) => {
                trailers = None;
                answer.body
            }
            None => {
                let body = exchange.buffered.clone().unwrap_or_default();
                if exchange.request.method != Method::HEAD && body.len() != length {
                    exchange.response.headers.remove(b"content-length");
                }
                body
            }
        };
        self.send(exchange, Source::Own(body, trailers), false).await
    }

    /// header_filter, the head, body_filter and the body, to the client.
    async fn send(&mut self, mut exchange: Box<Exchange>, mut source: Source, closes: bool) -> Option<Box<Exchange>> {
        let settings = exchange.live.settings.clone();
        if exchange.has(Phase::HeaderFilter) {
            exchange = self.phase(Phase::HeaderFilter, exchange).await?;
            if let Some(answer) = exchange.answer.take() {
                source = Source::Own(answer.body, None);
                exchange.response.headers.remove(b"content-length");
            }
        }
        let is_head = *exchange.sent_method() == Method::HEAD;
        let filters =
            exchange.has(Phase::BodyFilter) && !is_head && !matches!(exchange.response.status, 101 | 204 | 304);
        if let Source::Own(body, _) = &mut source {
            // The whole body is here: filtered before the head leaves, its length can be told.
            if filters {
                exchange = self.filter(exchange, std::mem::take(body), true).await?;
                *body = std::mem::take(&mut exchange.chunk.data);
            }
            let has_length = exchange.response.headers.known(Known::ContentLength).is_some();
            let keeps_length = is_head && has_length || matches!(exchange.response.status, 204 | 304);
            if !keeps_length {
                exchange
                    .response
                    .headers
                    .set(b"Content-Length", &[body.len().to_string()]);
            }
        }
        finish_response(&mut exchange, &settings);
        add_debug_headers(&mut exchange);
        let mut framing = response_framing(&exchange.response, is_head, self.client.can_chunk());
        let is_empty = matches!(&source, Source::Upstream(reached) if reached.link.is_body_done());
        if is_empty && !filters && exchange.request.version == Version::Http2 {
            // A gRPC answer without messages has its status in the head, which must then end the stream.
            framing = Framing::None;
        }
        let closes = closes || self.gateway.is_draining();
        self.client.send_head(&exchange.response, framing, closes);
        match source {
            Source::Own(body, trailers) => self.send_own(exchange, body, trailers).await,
            Source::Upstream(mut reached) if exchange.response.status == 101 => {
                let is_out = poll_fn(|context| self.client.poll_flush(context)).await.is_ok();
                let (true, Link::Http1(connection, _)) = (is_out, &mut reached.link) else {
                    return Some(exchange);
                };
                let idle = reached.read_timeout.max(reached.write_timeout);
                if exchange.websocket.is_none() {
                    let upstream = &mut connection.transport;
                    let cause = match self.client.tunnel(upstream, idle, self.gateway).await {
                        TunnelEnd::Closed => return Some(exchange),
                        TunnelEnd::Idle => "idle for longer than the service's timeouts",
                        TunnelEnd::OutOfTime => "the worker is going away",
                    };
                    tracing::info!(request_id = exchange.id_text(), "upgraded connection closed: {cause}");
                    return Some(exchange);
                }
                let times = &settings.client_timeouts;
                let relay = Relay {
                    gateway: self.gateway,
                    exchange,
                    timeouts: RelayTimeouts {
                        idle,
                        client_write: Duration::from_millis(times.send_ms),
                        upstream_write: reached.write_timeout,
                        drain: Duration::from_millis(times.drain_ms),
                    },
                };
                let mut exchange = self.client.relay(&mut connection.transport, relay).await?;
                exchange.timings.upstream_end = Some(Instant::now());
                Some(exchange)
            }
            Source::Upstream(reached) => self.send_stream(exchange, *reached, filters).await,
        }
    }

    async fn send_own(
        &mut self,
        exchange: Box<Exchange>,
        body: Bytes,
        trailers: Option<HeaderBlock>,
    ) -> Option<Box<Exchange>> {
        if exchange.must_cut {
            self.client.abort();
            return Some(exchange);
        }
        self.client.send_data(body);
        let is_whole = self.client.send_end(trailers.as_ref());
        self.gather().await;
        if poll_fn(|context| self.client.poll_flush(context)).await.is_err() {
            return Some(self.left(exchange));
        }
        if !is_whole {
            self.client.abort();
        }
        Some(exchange)
    }

    async fn send_stream(
        &mut self,
        mut exchange: Box<Exchange>,
        mut reached: Reached,
        filters: bool,
    ) -> Option<Box<Exchange>> {
        loop {
            let (mut data, mut is_last) = match self.next_chunk(&mut exchange, &mut reached).await {
                Ok(Some(chunk)) => (chunk, reached.link.is_body_done()),
                Ok(None) => (Bytes::new(), true),
                Err(Cut::Client) => return Some(self.left(exchange)),
                Err(Cut::Upstream(cause)) => {
                    tracing::error!(
                        request_id = exchange.id_text(),
                        upstream = %reached.key.address(),
                        "response truncated: {cause}"
                    );
                    let _ = poll_fn(|context| self.client.poll_flush(context)).await;
                    self.client.abort();
                    return Some(exchange);
                }
            };
            if filters {
                exchange = self.filter(exchange, data, is_last).await?;
                if exchange.must_cut {
                    self.client.abort();
                    return Some(exchange);
                }
                data = std::mem::take(&mut exchange.chunk.data);
                is_last = exchange.chunk.is_last;
            }
            self.client.send_data(data);
            if is_last {
                break;
            }
        }
        exchange.timings.upstream_end = Some(Instant::now());
        let trailers = reached.link.take_trailers();
        let is_whole = self.client.send_end(trailers.as_ref());
        if reached.pump.is_done() && !reached.pump.is_refused {
            // Before the client has its last byte: its next request may find this connection.
            self.give_back(reached);
        }
        self.gather().await;
        if poll_fn(|context| self.client.poll_flush(context)).await.is_err() {
            return Some(self.left(exchange));
        }
        if !is_whole {
            tracing::error!(
                request_id = exchange.id_text(),
                "response truncated: shorter than its Content-Length"
            );
            self.client.abort();
        }
        Some(exchange)
    }

    /// The next piece of the upstream's body; what was queued for the client leaves first when there is none yet.
    async fn next_chunk(&mut self, exchange: &mut Exchange, reached: &mut Reached) -> Result<Option<Bytes>, Cut> {
        let Reached {
            link: connection,
            pump,
            read_timeout,
            write_timeout,
            ..
        } = reached;
        let client = &mut *self.client;
        let read_ahead = read_ahead_bytes(exchange);
        let mut is_waiting = false;
        poll_fn(|context| loop {
            match connection.next_piece() {
                Ok(Decoded::Data(chunk)) => return Poll::Ready(Ok(Some(chunk))),
                Ok(Decoded::End) => return Poll::Ready(Ok(None)),
                Ok(Decoded::NeedMore) => {}
                Err(fault) => return Poll::Ready(Err(Cut::Upstream(fault.to_string()))),
            }
            if !pump.is_done() && !pump.is_refused {
                match pump.poll(client, connection, &mut exchange.body, *write_timeout, context) {
                    Poll::Ready(Err(PumpFault::Client(_))) => {
                        return Poll::Ready(Err(Cut::Client));
                    }
                    Poll::Ready(Err(_)) => pump.is_refused = true,
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                }
            }
            match client.poll_flush(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Cut::Client)),
                Poll::Pending if client.queued_bytes() < read_ahead => {}
                Poll::Pending => return Poll::Pending,
            }
            if !is_waiting {
                is_waiting = true;
                connection.expect_bytes(*read_timeout);
            }
            match connection.poll_more(context) {
                Poll::Ready(Ok(())) => continue,
                Poll::Ready(Err(fault)) => return Poll::Ready(Err(Cut::Upstream(fault.to_string()))),
                Poll::Pending => {}
            }
            if client.is_body_done() && client.poll_gone(context).is_ready() {
                return Poll::Ready(Err(Cut::Client));
            }
            return Poll::Pending;
        })
        .await
    }

    fn give_back(&self, reached: Reached) {
        let Reached { link, key, .. } = reached;
        if let Link::Http1(connection, _) = link {
            if connection.is_reusable() {
                let requests = connection.requests;
                self.gateway.upstreams.pool.put_back(&key, connection, requests);
            }
        }
    }

    /// Run body_filter over a chunk; the result is in `Exchange::chunk`.
    async fn filter(&mut self, mut exchange: Box<Exchange>, data: Bytes, is_last: bool) -> Option<Box<Exchange>> {
        exchange.chunk.data = data;
        exchange.chunk.is_last = is_last;
        self.phase(Phase::BodyFilter, exchange).await
    }

    /// Before a write, let the handlers of all other requests that are ready run too.
    ///
    /// Handlers take several times as long as the engine's own part. Where each request writes as soon as its own are
    /// done, the peer finds one message, falls asleep and must be woken for the next. With the writes in a row it finds
    /// several, and handlers find their code in the caches. With one plugin of three phases and 64 connections: 59 us of
    /// processor time for a request, 86 before (`make bench`). Where no handler runs, nothing is put off.
    async fn gather(&mut self) {
        if std::mem::take(&mut self.has_run_handlers) {
            tokio::task::yield_now().await;
        }
    }

    /// Run a phase to its end; None when the exchange was lost.
    async fn phase(&mut self, phase: Phase, mut exchange: Box<Exchange>) -> Option<Box<Exchange>> {
        exchange.phase = phase;
        self.has_run_handlers = true;
        let runner = &self.gateway.runner;
        let mut step = match phase {
            Phase::Rewrite => runner.rewrite(exchange),
            Phase::Access => runner.access(exchange),
            Phase::Response => runner.response(exchange),
            Phase::HeaderFilter => runner.header_filter(exchange),
            Phase::BodyFilter => runner.body_filter(exchange),
            Phase::WsHandshake => runner.ws_handshake(exchange),
            Phase::Certificate
            | Phase::Log
            | Phase::Preread
            | Phase::WsClientFrame
            | Phase::WsUpstreamFrame
            | Phase::WsClose => {
                return Some(exchange);
            }
        };
        loop {
            match step {
                Step::Done(exchange) => return Some(exchange),
                Step::Wait(next) => step = next.await?,
                Step::NeedBody {
                    mut exchange,
                    limit_bytes,
                } => {
                    self.read_body(&mut exchange, limit_bytes).await;
                    step = self.gateway.runner.resume(exchange);
                }
            }
        }
    }

    /// Take the part of the body that came with the head, without waiting.
    fn take_buffered_body(&mut self, exchange: &mut Exchange) {
        let room = exchange.live.settings.limits.request_body_buffer_bytes;
        let body = &mut exchange.body;
        if body.is_complete || matches!(body.framing, Framing::Length(length) if length > room as u64) {
            return;
        }
        while body.held.len() < room {
            match self.client.buffered_body() {
                Ok(Some(chunk)) => body.held.extend_from_slice(&chunk),
                Ok(None) | Err(_) => break,
            }
        }
        if self.client.is_body_done() {
            body.is_complete = true;
            body.trailers = self.client.take_trailers();
        }
    }

    /// Read the body into memory, up to the limit.
    async fn read_body(&mut self, exchange: &mut Exchange, limit_bytes: usize) {
        let limits = &exchange.live.settings.limits;
        let limit = limit_bytes.min(limits.request_body_memory_bytes);
        let body = &mut exchange.body;
        body.is_over_limit = false;
        if body.is_complete || body.is_gone {
            return;
        }
        if matches!(body.framing, Framing::Length(length) if length > limit as u64) {
            body.is_over_limit = true;
            return;
        }
        while body.held.len() <= limit {
            match poll_fn(|context| self.client.poll_body(context)).await {
                Ok(Some(chunk)) => body.held.extend_from_slice(&chunk),
                Ok(None) => {
                    body.is_complete = true;
                    body.trailers = self.client.take_trailers();
                    return;
                }
                Err(fault) => {
                    tracing::info!(request_id = exchange.id_text(), "request body: {fault}");
                    exchange.is_client_gone = fault == ClientFault::Gone;
                    return;
                }
            }
        }
        exchange.body.is_over_limit = true;
    }

    /// The client left before its answer.
    fn left(&mut self, mut exchange: Box<Exchange>) -> Box<Exchange> {
        exchange.is_client_gone = true;
        if exchange.response.status == 0 || client_saw_nothing(self.client) {
            exchange.response.status = 499;
        }
        self.client.abort();
        exchange
    }
}

/// How much may wait for the client while more is read from the upstream; nothing where the route does not buffer.
fn read_ahead_bytes(exchange: &Exchange) -> usize {
    let live = &exchange.live;
    let route = exchange
        .matched
        .as_ref()
        .and_then(|matched| live.routes.get(matched.route));
    if route.is_some_and(|route| route.plan.response_buffering) {
        live.settings.limits.response_read_ahead_bytes
    } else {
        0
    }
}

enum Cut {
    Client,
    Upstream(String),
}

fn client_saw_nothing<C: ClientStream>(client: &C) -> bool {
    client.byte_counts().1 == 0
}

/// Find the route and check that it may be used like this (routing reference, sections 3 to 9).
fn route(exchange: &mut Exchange) -> Result<(), Refusal> {
    let live = exchange.live.clone();
    let found = {
        let authority = exchange.request.authority();
        let tls = exchange.connection.tls.as_ref();
        live.router.find(&RequestKey {
            method: exchange.request.method.as_str(),
            host: std::str::from_utf8(authority).unwrap_or_default(),
            path: &exchange.path,
            query: split_target(exchange.request.target()).query.unwrap_or_default(),
            client: Some(exchange.forwarded_client),
            listener_ip: Some(exchange.connection.local.ip()),
            sni: tls.and_then(|tls| tls.server_name.as_deref()),
            is_tls: tls.is_some(),
            listener_port: exchange.connection.mapped_port,
            headers: &Lookup(&exchange.request.headers),
        })
    };
    let found = found.ok_or(Refusal::NoRoute)?;
    let route = live.routes.get(found.route).ok_or(Refusal::NoRoute)?;
    exchange.matched = Some(Matched {
        route: found.route,
        prefix_bytes: found.matched_prefix_len,
        captures: found.captures,
    });
    if route.is_https_only && !is_forwarded_https(exchange) {
        let status = route.plan.https_redirect_status_code;
        exchange.matched = None;
        return Err(match status {
            301 | 302 | 307 | 308 => Refusal::HttpsRedirect {
                status,
                location: https_location(exchange),
            },
            _ => Refusal::HttpsRequired,
        });
    }
    if let Some(refusal) = grpc_gate(exchange, route) {
        exchange.matched = None;
        return Err(refusal);
    }
    if route.is_websocket {
        match handshake::begin(exchange, &live.settings) {
            Ok(session) => exchange.websocket = Some(Box::new(session)),
            Err(refusal) => {
                exchange.matched = None;
                return Err(refusal);
            }
        }
    }
    exchange.phases = route.plan.phases;
    Ok(())
}

/// What a gRPC route demands of a request.
fn grpc_gate(exchange: &Exchange, route: &LiveRoute) -> Option<Refusal> {
    if !route.is_grpc {
        return None;
    }
    if !is_grpc_content(&exchange.request.headers) {
        return Some(Refusal::NotGrpc);
    }
    if exchange.request.version != Version::Http2 {
        return Some(Refusal::Http2Required);
    }
    (route.is_grpcs_only && !is_forwarded_https(exchange)).then_some(Refusal::GrpcsRequired)
}

fn is_forwarded_https(exchange: &Exchange) -> bool {
    if exchange.connection.is_trusted {
        if let Some(proto) = exchange.request.headers.known(Known::XForwardedProto) {
            return proto.eq_ignore_ascii_case(b"https");
        }
    }
    exchange.connection.tls.is_some()
}

/// Header lookup of the router over a block.
pub struct Lookup<'a>(pub &'a HeaderBlock);

impl HeaderLookup for Lookup<'_> {
    fn values(&self, name_lower_dashed: &str, visit: &mut dyn FnMut(&[u8]) -> bool) {
        for value in self.0.values(name_lower_dashed.as_bytes()) {
            if !visit(value) {
                return;
            }
        }
    }
}

fn add_debug_headers(exchange: &mut Exchange) {
    if !exchange.live.settings.allow_debug_header || exchange.request.headers.known(Known::KongDebug).is_none() {
        return;
    }
    let live = exchange.live.clone();
    let Some(route) = exchange
        .matched
        .as_ref()
        .and_then(|matched| live.routes.get(matched.route))
    else {
        return;
    };
    let headers = &mut exchange.response.headers;
    headers.set(b"Kong-Route-Id", &[&route.plan.id]);
    if let Some(name) = &route.plan.name {
        headers.set(b"Kong-Route-Name", &[name]);
    }
    if let Some(service) = route.plan.service.and_then(|service| live.services.get(service)) {
        headers.set(b"Kong-Service-Id", &[&service.plan.id]);
        if let Some(name) = &service.plan.name {
            headers.set(b"Kong-Service-Name", &[name]);
        }
    }
}

/// The last stage: byte counts, access log, log phase.
fn finish(gateway: &Arc<Gateway>, mut exchange: Box<Exchange>) {
    exchange.timings.finished = Some(Instant::now());
    if let Some(log) = &gateway.access_log {
        log.write(&exchange);
    }
    for last in [Phase::Log, Phase::WsClose] {
        if exchange.has(last) {
            exchange.phase = last;
            LogQueue::push(gateway, exchange);
            return;
        }
    }
}
