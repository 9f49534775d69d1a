//! Streams over UDP: datagrams between the same two ends are one session, which ends when it was silent for too long.
//!
//! The listener's task finds the session of each datagram and, once its upstream is known, hands the bytes to the
//! upstream's socket itself. The session's task runs the phases, carries answers back and watches the time. Bounds: the
//! sessions of the worker (`udp_sessions`; the idlest gives way), the bytes that wait for sessions whose upstream is not
//! known yet (`udp_waiting_bytes`; more are dropped, as the network would).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::Refusal;
use crate::exchange::{ClientConnection, Exchange};
use crate::gateway::{ConnectionGuard, Gateway};
use crate::listener::connection_of;
use crate::router::stream::StreamTransport;
use crate::settings::ListenerSettings;
use crate::stream::connect;
use crate::stream::datagrams::{Ends, ListeningSocket, MAX_BYTES};
use crate::stream::session::{
    begin, enter_route, find_route, finish, preread, refuse, refuse_without_route, take_answer, StreamProtocol,
};
use crate::stream::udp_table::{Key, UdpTable};
use crate::upstream::balance::Outcome;

/// Silence after which a session ends when the worker drains: its client's datagrams go to another worker by then.
const DRAIN_IDLE: Duration = Duration::from_secs(5);
/// Pause after a failed receive, so that the loop does not spin.
const RECEIVE_PAUSE: Duration = Duration::from_millis(100);

/// What all UDP sessions of a worker share.
#[derive(Debug, Default)]
pub struct UdpSessions {
    table: Mutex<UdpTable<Link>>,
    /// Tasks that have not ended, those of evicted sessions included.
    alive: AtomicUsize,
    /// Bytes of datagrams that wait for an upstream.
    waiting_bytes: AtomicUsize,
}

impl UdpSessions {
    fn table(&self) -> MutexGuard<'_, UdpTable<Link>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sessions that are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table().len()
    }

    /// No session is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What the listener's task and a session's task share.
#[derive(Debug)]
struct Link {
    upstream: OnceLock<UdpSocket>,
    /// Datagrams that came before the upstream was known.
    waiting: Mutex<VecDeque<Bytes>>,
    received: AtomicU64,
    upstream_sent: AtomicU64,
    /// Milliseconds after `started` at which the last datagram came or went.
    used_ms: AtomicU64,
    started: Instant,
    is_evicted: AtomicBool,
    evicted: Notify,
}

impl Link {
    fn new() -> Self {
        Self {
            upstream: OnceLock::new(),
            waiting: Mutex::default(),
            received: AtomicU64::new(0),
            upstream_sent: AtomicU64::new(0),
            used_ms: AtomicU64::new(0),
            started: Instant::now(),
            is_evicted: AtomicBool::new(false),
            evicted: Notify::new(),
        }
    }

    fn used(&self) {
        self.used_ms
            .store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    fn evict(&self) {
        self.is_evicted.store(true, Ordering::Relaxed);
        self.evicted.notify_one();
    }

    /// A datagram of the client.
    fn take(&self, sessions: &UdpSessions, limit_bytes: usize, bytes: &[u8]) {
        self.used();
        self.received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if let Some(upstream) = self.upstream.get() {
            self.send(upstream, bytes);
            return;
        }
        if sessions.waiting_bytes.load(Ordering::Relaxed) + bytes.len() > limit_bytes {
            return;
        }
        sessions.waiting_bytes.fetch_add(bytes.len(), Ordering::Relaxed);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push_back(Bytes::copy_from_slice(bytes));
    }

    fn send(&self, upstream: &UdpSocket, bytes: &[u8]) {
        // A full socket loses the datagram, as the network would; a refusal by the peer is seen when its answer is read.
        if let Ok(count) = upstream.try_send(bytes) {
            self.upstream_sent.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    /// Take what waits.
    fn take_waiting(&self, sessions: &UdpSessions) -> VecDeque<Bytes> {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let bytes = waiting.iter().map(Bytes::len).sum();
        sessions.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        waiting
    }
}

/// Take datagrams until draining begins.
pub async fn serve(gateway: Arc<Gateway>, socket: ListeningSocket, settings: Arc<ListenerSettings>) {
    let socket = Arc::new(socket);
    let mut buffer = vec![0; MAX_BYTES];
    let mut draining = pin!(gateway.draining());
    loop {
        let received = tokio::select! {
            biased;
            () = &mut draining => return,
            received = socket.receive(&mut buffer) => received,
        };
        match received {
            Ok((length, ends)) => {
                let bytes = buffer.get(..length).unwrap_or_default();
                dispatch(&gateway, &socket, &settings, ends, bytes);
            }
            Err(error) => {
                tracing::error!("receive on {}:{}: {error}", settings.address, settings.port);
                tokio::time::sleep(RECEIVE_PAUSE).await;
            }
        }
    }
}

fn dispatch(
    gateway: &Arc<Gateway>,
    socket: &Arc<ListeningSocket>,
    settings: &ListenerSettings,
    ends: Ends,
    bytes: &[u8],
) {
    let sessions = &gateway.udp_sessions;
    let limits = &gateway.settings.limits;
    let key: Key = (settings.fd, ends);
    let mut table = sessions.table();
    if let Some(link) = table.touch(&key) {
        drop(table);
        link.take(sessions, limits.udp_waiting_bytes, bytes);
        return;
    }
    gateway.counters.accepted.fetch_add(1, Ordering::Relaxed);
    // Evicted sessions may still wait for a plugin: they count too, so that no flood piles them up.
    if sessions.alive.load(Ordering::Relaxed) > limits.udp_sessions + limits.udp_sessions / 4 {
        gateway.refused_streams.write(|more| {
            tracing::warn!(client = %ends.client, "datagram dropped: udp_sessions ({}) are open{more}", limits.udp_sessions);
        });
        return;
    }
    while table.len() >= limits.udp_sessions {
        let Some(idlest) = table.remove_idlest() else { break };
        idlest.evict();
        gateway.refused_streams.write(|more| {
            tracing::warn!(
                "UDP session ended for a new one: udp_sessions ({}) are open{more}",
                limits.udp_sessions
            );
        });
    }
    let link = Arc::new(Link::new());
    table.insert(key, link.clone());
    drop(table);
    link.take(sessions, limits.udp_waiting_bytes, bytes);
    sessions.alive.fetch_add(1, Ordering::Relaxed);
    let task = Task {
        gateway: gateway.clone(),
        socket: socket.clone(),
        link,
        key,
        ends,
        _guard: gateway.register(),
    };
    let connection = connection_of(gateway, ends.client, ends.local);
    tokio::spawn(task.run(connection));
}

/// One session's own task; dropping it takes the session out of the books.
struct Task {
    gateway: Arc<Gateway>,
    socket: Arc<ListeningSocket>,
    link: Arc<Link>,
    key: Key,
    ends: Ends,
    _guard: ConnectionGuard,
}

impl Drop for Task {
    fn drop(&mut self) {
        let sessions = &self.gateway.udp_sessions;
        sessions.table().remove(&self.key, &self.link);
        drop(self.link.take_waiting(sessions));
        sessions.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Task {
    async fn run(self, connection: ClientConnection) {
        let gateway = &self.gateway;
        let live = gateway.live();
        let route = find_route(&live, &connection, StreamTransport::Udp, None);
        let mut exchange = begin(gateway, live, Arc::new(connection), StreamProtocol::Udp, None);
        let Some(route) = route else {
            refuse_without_route(gateway, &mut exchange, "no Route found with those values");
            return self.end(exchange, 0, 0);
        };
        enter_route(&mut exchange, route);
        let Some(mut exchange) = preread(gateway, exchange).await else {
            return;
        };
        if let Some(answer) = take_answer(gateway, &mut exchange) {
            let sent = match answer.is_empty() {
                true => 0,
                false => self.socket.send(&answer, self.ends).await.unwrap_or(0),
            };
            return self.end(exchange, sent as u64, 0);
        }
        let found = connect::find(gateway, &mut exchange).await;
        let opened = match found {
            Ok(found) => open(found.address)
                .await
                .map(|upstream| (upstream, found))
                .map_err(|error| {
                    let (address, cause) = (String::new(), error.to_string());
                    Refusal::UpstreamFailed { address, cause }
                }),
            Err(refusal) => Err(refusal),
        };
        let (upstream, found) = match opened {
            Ok(opened) => opened,
            Err(refusal) => {
                refuse(gateway, &mut exchange, &refusal);
                return self.end(exchange, 0, 0);
            }
        };
        let upstream = self.link.upstream.get_or_init(|| upstream);
        for datagram in self.link.take_waiting(&gateway.udp_sessions) {
            self.link.send(upstream, &datagram);
        }
        let (sent, upstream_received) = self.carry_back(upstream, found.idle, &mut exchange).await;
        if let Some(lease) = &found.lease {
            let status = exchange.session.as_ref().map_or(200, |session| session.status);
            lease.report(Outcome::Status(status));
        }
        self.end(exchange, sent, upstream_received);
    }

    /// Answers to the client until nothing came or went for `idle`; (bytes to the client, bytes of the upstream).
    async fn carry_back(&self, upstream: &UdpSocket, idle: Duration, exchange: &mut Exchange) -> (u64, u64) {
        let link = &self.link;
        let mut idle = idle;
        let (mut sent, mut upstream_received) = (0, 0);
        let mut draining = pin!(self.gateway.draining());
        let mut is_draining = false;
        let mut ending = pin!(self.gateway.out_of_time());
        let mut timer = pin!(tokio::time::sleep(idle));
        loop {
            if link.is_evicted.load(Ordering::Relaxed) {
                break;
            }
            tokio::select! {
                ready = upstream.ready(Interest::READABLE | Interest::ERROR) => {
                    if ready.is_err() {
                        break;
                    }
                    match self.receive_some(upstream).await {
                        Ok(Some((received, answered))) => {
                            upstream_received += received;
                            sent += answered;
                            link.used();
                        }
                        Ok(None) => {}
                        Err(error) => {
                            let address = exchange.attempts.last().map(|last| last.address.to_string());
                            let address = address.unwrap_or_default();
                            let cause = error.to_string();
                            let refusal = Refusal::UpstreamFailed { address, cause };
                            refuse(&self.gateway, exchange, &refusal);
                            break;
                        }
                    }
                }
                () = timer.as_mut() => {
                    let used = link.started + Duration::from_millis(link.used_ms.load(Ordering::Relaxed));
                    if used + idle <= Instant::now() {
                        break;
                    }
                    timer.as_mut().reset(used + idle);
                }
                () = link.evicted.notified() => break,
                () = ending.as_mut() => break,
                () = draining.as_mut(), if !is_draining => {
                    is_draining = true;
                    idle = idle.min(DRAIN_IDLE);
                    let used = link.started + Duration::from_millis(link.used_ms.load(Ordering::Relaxed));
                    timer.as_mut().reset(used + idle);
                }
            }
        }
        (sent, upstream_received)
    }

    /// One datagram of the upstream, if there is one: (its bytes, bytes that went to the client).
    async fn receive_some(&self, upstream: &UdpSocket) -> std::io::Result<Option<(u64, u64)>> {
        thread_local! {
            static BUFFER: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; MAX_BYTES]);
        }
        // "Nobody listens there" makes a socket of datagrams not readable, only faulty.
        let fault = || -> std::io::Result<()> {
            Err(upstream
                .take_error()?
                .unwrap_or_else(|| std::io::ErrorKind::WouldBlock.into()))
        };
        match upstream.try_io(Interest::ERROR, fault) {
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        let mut buffer = BUFFER.take();
        buffer.resize(MAX_BYTES, 0);
        let outcome = match upstream.try_recv(&mut buffer) {
            Ok(length) => {
                let bytes = buffer.get(..length).unwrap_or_default();
                let answered = self.socket.send(bytes, self.ends).await.unwrap_or(0);
                Ok(Some((length as u64, answered as u64)))
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        };
        BUFFER.set(buffer);
        outcome
    }

    fn end(&self, mut exchange: Box<Exchange>, sent: u64, upstream_received: u64) {
        exchange.request_bytes = self.link.received.load(Ordering::Relaxed);
        exchange.response_bytes = sent;
        if let Some(session) = &mut exchange.session {
            session.upstream_sent = self.link.upstream_sent.load(Ordering::Relaxed);
            session.upstream_received = upstream_received;
        }
        finish(&self.gateway, exchange);
    }
}

/// A socket that speaks with one peer only.
async fn open(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    // So that what waits can be sent without waiting again.
    socket.writable().await?;
    Ok(socket)
}
