//! Idle connections to upstreams, kept for the next request.
//!
//! Owns which connection is given out (the one used last, so that the others can grow old) and when one is closed: idle
//! for too long, used for too many requests, or too many idle for one key. Does not know what a connection is; whether
//! the upstream closed it meanwhile is asked by the caller. Dropping a connection closes it, never under the lock.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHasher};

use crate::settings::UpstreamKeepalive;

#[cfg(test)]
mod tests;

/// Keys beyond which `put_back` looks for ones without connections. Own choice: a key is about 100 bytes.
const KEYS_BEFORE_PRUNING: usize = 1_024;

/// What two requests must have in common to share a connection (reference: balancing, keep-alive pools).
///
/// Hashed once when made: make it once per target where possible.
#[derive(Debug, Clone)]
pub struct PoolKey {
    hash: u64,
    address: SocketAddr,
    tls: Option<TlsKey>,
}

/// The TLS half of a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct TlsKey {
    server_name: Arc<str>,
    identity: u128,
}

impl PoolKey {
    /// The key of plain connections to `address`.
    #[must_use]
    pub fn plain(address: SocketAddr) -> Self {
        Self::new(address, None)
    }

    /// The key of TLS connections to `address` that asked for `server_name`; `identity` is `UpstreamTls::identity`.
    #[must_use]
    pub fn tls(address: SocketAddr, server_name: Arc<str>, identity: u128) -> Self {
        Self::new(address, Some(TlsKey { server_name, identity }))
    }

    fn new(address: SocketAddr, tls: Option<TlsKey>) -> Self {
        let mut hasher = FxHasher::default();
        (address, &tls).hash(&mut hasher);
        Self {
            hash: hasher.finish(),
            address,
            tls,
        }
    }

    /// Where its connections go.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl PartialEq for PoolKey {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.address == other.address && self.tls == other.tls
    }
}

impl Eq for PoolKey {}

impl Hash for PoolKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// Idle connections of one worker.
#[derive(Debug)]
pub struct Pool<C> {
    settings: UpstreamKeepalive,
    idle: Mutex<FxHashMap<PoolKey, VecDeque<Idle<C>>>>,
}

/// A connection and since when it waits; the newest is at the back.
#[derive(Debug)]
struct Idle<C> {
    connection: C,
    since: Instant,
}

impl<C> Pool<C> {
    /// An empty pool.
    #[must_use]
    pub fn new(settings: UpstreamKeepalive) -> Self {
        Self {
            settings,
            idle: Mutex::default(),
        }
    }

    /// Take the idle connection of `key` that was used last; None: open one.
    #[must_use]
    pub fn checkout(&self, key: &PoolKey) -> Option<C> {
        self.checkout_at(key, Instant::now())
    }

    /// Keep a connection that has served `requests_served` requests, or close it if it is at its limit.
    ///
    /// A full key closes the connection that waited longest.
    pub fn put_back(&self, key: &PoolKey, connection: C, requests_served: u64) {
        self.put_back_at(key, connection, requests_served, Instant::now());
    }

    /// Close what has been idle for too long; to be called every few seconds.
    pub fn sweep(&self, now: Instant) {
        let mut closed = Vec::new();
        let mut idle = self.lock();
        idle.retain(|_, connections| {
            let expired = connections.partition_point(|waiting| self.is_expired(waiting, now));
            closed.extend(connections.drain(..expired));
            !connections.is_empty()
        });
        drop(idle);
    }

    /// Close the idle connections for which `is_usable` says no, such as those that the upstream has closed.
    pub fn retain(&self, mut is_usable: impl FnMut(&mut C) -> bool) {
        // Taken out while asking: `is_usable` may do I/O.
        let taken = std::mem::take(&mut *self.lock());
        let mut kept = taken;
        kept.retain(|_, connections| {
            connections.retain_mut(|waiting| is_usable(&mut waiting.connection));
            !connections.is_empty()
        });
        *self.lock() = kept;
    }

    /// Close all idle connections.
    pub fn clear(&self) {
        let closed = std::mem::take(&mut *self.lock());
        drop(closed);
    }

    /// Idle connections of all keys.
    #[must_use]
    pub fn idle_count(&self) -> usize {
        self.lock().values().map(VecDeque::len).sum()
    }

    fn checkout_at(&self, key: &PoolKey, now: Instant) -> Option<C> {
        let mut idle = self.lock();
        let connections = idle.get_mut(key)?;
        let newest = connections.pop_back()?;
        if !self.is_expired(&newest, now) {
            return Some(newest.connection);
        }
        // The newest is too old, so are all others.
        let closed = idle.remove(key);
        drop(idle);
        drop((newest, closed));
        None
    }

    fn put_back_at(&self, key: &PoolKey, connection: C, requests_served: u64, now: Instant) {
        let UpstreamKeepalive {
            pool_size,
            max_requests,
            ..
        } = self.settings;
        if pool_size == 0 || (max_requests != 0 && requests_served >= max_requests) {
            return;
        }
        let waiting = Idle { connection, since: now };
        let mut idle = self.lock();
        let mut closed = None;
        if let Some(connections) = idle.get_mut(key) {
            if connections.len() >= pool_size {
                closed = connections.pop_front();
            }
            connections.push_back(waiting);
        } else {
            if idle.len() >= KEYS_BEFORE_PRUNING {
                idle.retain(|_, connections| !connections.is_empty());
            }
            idle.insert(key.clone(), VecDeque::from([waiting]));
        }
        drop(idle);
        drop(closed);
    }

    fn is_expired(&self, waiting: &Idle<C>, now: Instant) -> bool {
        let timeout_ms = self.settings.idle_timeout_ms;
        timeout_ms != 0 && now.saturating_duration_since(waiting.since) >= Duration::from_millis(timeout_ms)
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<PoolKey, VecDeque<Idle<C>>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
