//! What all requests of a worker share: settings, the plan in force, the runner, pools, counters, open connections.
//!
//! Built once by `server.rs`. Everything here is cheap to read from the engine thread; the plan is swapped as one `Arc`.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::live::Live;
use crate::runner::PhaseRunner;
use crate::settings::EngineSettings;
use crate::stream::udp::UdpSessions;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::limited::LimitedLines;
use crate::telemetry::log_queue::LogQueue;
use crate::upstream::attempt::Upstreams;

/// Request ids are drawn in blocks of this many bytes: one system call for 256 requests.
const RANDOM_BLOCK_BYTES: usize = 4096;

/// The shared state of one engine.
pub struct Gateway {
    /// Settings, fixed for the life of the engine.
    pub settings: Arc<EngineSettings>,
    /// Runs handlers.
    pub runner: Arc<dyn PhaseRunner>,
    /// Connections and names towards upstreams.
    pub upstreams: Upstreams,
    /// Numbers for `/status`.
    pub counters: Counters,
    /// Access log; None is off.
    pub access_log: Option<AccessLog>,
    /// Access log of streams; None is off.
    pub stream_access_log: Option<AccessLog>,
    /// UDP sessions.
    pub udp_sessions: UdpSessions,
    /// Lines about streams that were not served.
    pub refused_streams: LimitedLines,
    /// Requests waiting for their log phase.
    pub log_queue: LogQueue,
    live: ArcSwap<Live>,
    open: OpenConnections,
}

/// What `/status` shows of a worker.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections accepted and not refused for a limit.
    pub handled: AtomicU64,
    /// Requests begun.
    pub requests: AtomicU64,
    /// Open connections.
    pub active: AtomicUsize,
    /// Open connections of which a request's head has begun to arrive.
    pub reading: AtomicUsize,
    /// Open connections with a request on its way.
    pub busy: AtomicUsize,
}

/// Open connections, so that idle ones can be told to close.
#[derive(Debug, Default)]
struct OpenConnections {
    is_draining: AtomicBool,
    wakers: Mutex<Vec<Option<Waker>>>,
    free: Mutex<Vec<usize>>,
    all_closed: Notify,
    drain: Notify,
}

impl Gateway {
    /// The shared state over its parts.
    #[must_use]
    pub fn new(
        settings: Arc<EngineSettings>,
        runner: Arc<dyn PhaseRunner>,
        upstreams: Upstreams,
        (access_log, stream_access_log): (Option<AccessLog>, Option<AccessLog>),
        live: Arc<Live>,
    ) -> Self {
        Self {
            settings,
            runner,
            upstreams,
            counters: Counters::default(),
            access_log,
            stream_access_log,
            udp_sessions: UdpSessions::default(),
            refused_streams: LimitedLines::default(),
            log_queue: LogQueue::default(),
            live: ArcSwap::new(live),
            open: OpenConnections::default(),
        }
    }

    /// The access logs that are on.
    pub fn access_logs(&self) -> impl Iterator<Item = &AccessLog> {
        self.access_log.iter().chain(&self.stream_access_log)
    }

    /// The plan in force.
    #[must_use]
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Put another plan in force for requests that start from now on.
    pub fn swap(&self, live: Arc<Live>) {
        self.live.store(live);
    }

    /// A new request id: 32 random lower-case hex digits.
    #[must_use]
    pub fn request_id(&self) -> [u8; 32] {
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let mut id = [b'0'; 32];
        for (pair, byte) in id.chunks_exact_mut(2).zip(random::<16>()) {
            pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        id
    }

    /// Count a connection in; the guard counts it out.
    #[must_use]
    pub fn register(self: &Arc<Self>) -> ConnectionGuard {
        self.counters.active.fetch_add(1, Ordering::Relaxed);
        self.counters.handled.fetch_add(1, Ordering::Relaxed);
        let slot = {
            let free = lock(&self.open.free).pop();
            let mut wakers = lock(&self.open.wakers);
            free.unwrap_or_else(|| {
                wakers.push(None);
                wakers.len() - 1
            })
        };
        ConnectionGuard {
            gateway: self.clone(),
            slot,
        }
    }

    /// Stop keeping connections alive; idle ones close now, busy ones after their request.
    pub fn drain(&self) {
        self.open.is_draining.store(true, Ordering::Release);
        for waker in lock(&self.open.wakers).iter_mut().filter_map(Option::take) {
            waker.wake();
        }
        self.open.drain.notify_waiters();
        self.open.drain.notify_one();
        if self.counters.active.load(Ordering::Acquire) == 0 {
            self.open.all_closed.notify_one();
        }
    }

    /// True once `drain` was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.open.is_draining.load(Ordering::Acquire)
    }

    /// Ready when `drain` is called.
    pub async fn draining(&self) {
        let notified = self.open.drain.notified();
        if !self.is_draining() {
            notified.await;
        }
    }

    /// Ready when connections that no answer ends have to end: some time after draining began, and while there is still
    /// time to log them.
    pub async fn out_of_time(&self) {
        self.draining().await;
        tokio::time::sleep(Duration::from_millis(self.settings.client_timeouts.drain_ms)).await;
    }

    /// Ready when no connection is open; meant to be awaited after `drain`.
    pub async fn all_closed(&self) {
        while self.counters.active.load(Ordering::Acquire) != 0 {
            self.open.all_closed.notified().await;
        }
    }
}

/// One open connection's place in the books.
pub struct ConnectionGuard {
    gateway: Arc<Gateway>,
    slot: usize,
}

impl ConnectionGuard {
    /// A head has begun to arrive; until the result is dropped.
    #[must_use]
    pub fn reading(&self) -> Reading<'_> {
        self.gateway.counters.reading.fetch_add(1, Ordering::Relaxed);
        Reading(&self.gateway.counters)
    }

    /// A request is on its way.
    pub fn busy(&self) {
        self.gateway.counters.busy.fetch_add(1, Ordering::Relaxed);
    }

    /// The request is over.
    pub fn idle(&self) {
        self.gateway.counters.busy.fetch_sub(1, Ordering::Relaxed);
    }

    /// The engine is draining.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.gateway.is_draining()
    }

    /// Wake this task when draining begins.
    pub fn register(&self, waker: &Waker) {
        let mut wakers = lock(&self.gateway.open.wakers);
        if let Some(slot) = wakers.get_mut(self.slot) {
            if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
                *slot = Some(waker.clone());
            }
        }
    }
}

/// A head on its way in.
pub struct Reading<'a>(&'a Counters);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.reading.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        if let Some(slot) = lock(&self.gateway.open.wakers).get_mut(self.slot) {
            *slot = None;
        }
        lock(&self.gateway.open.free).push(self.slot);
        if self.gateway.counters.active.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.gateway.open.all_closed.notify_one();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Random bytes, drawn in blocks: for ids, keys and masks, not for secrets that live long.
#[must_use]
pub fn random<const COUNT: usize>() -> [u8; COUNT] {
    thread_local! {
        static BLOCK: RefCell<(Vec<u8>, usize)> = const { RefCell::new((Vec::new(), 0)) };
    }
    BLOCK.with_borrow_mut(|(block, used)| {
        if *used + COUNT > block.len() {
            block.resize(RANDOM_BLOCK_BYTES, 0);
            if getrandom::fill(block).is_err() {
                // Ids need to be distinct, not secret: the clock is good enough when the kernel has no entropy.
                let now = std::time::SystemTime::now()
                    .duration_since(std::time::UNIX_EPOCH)
                    .unwrap_or_default();
                for (index, chunk) in block.chunks_exact_mut(16).enumerate() {
                    chunk.copy_from_slice(&(now.as_nanos() ^ ((index as u128) << 100)).to_be_bytes());
                }
            }
            *used = 0;
        }
        let mut drawn = [0; COUNT];
        drawn.copy_from_slice(&block[*used..*used + COUNT]);
        *used += COUNT;
        drawn
    })
}
