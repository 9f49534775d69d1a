//! One address of a target and everything that is known of it on this worker.
//!
//! Lives as long as somebody refers to it: plans come and go, an address keeps its connections, its average latency and
//! its health. Written by the engine thread and, when a plan is put in force, by the thread that does so.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::Arc;
use std::time::Instant;

use super::latency::LatencyAverage;
use crate::upstream::health::HealthCell;

/// What makes an address the same one after a change: target name, ip and port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressKey {
    /// Name or address of the target, as configured.
    pub host: Arc<str>,
    /// Port.
    pub port: u16,
    /// Address.
    pub ip: IpAddr,
}

/// One address.
#[derive(Debug)]
pub struct Address {
    /// Its identity.
    pub key: AddressKey,
    /// Name that an SRV record gave, to be sent as Host with `use_srv_name`.
    pub srv_name: Option<Arc<str>>,
    /// Health checks' view.
    pub health: HealthCell,
    pub(super) latency: LatencyAverage,
    active: AtomicU32,
    is_ejected: AtomicBool,
    consecutive_failures: AtomicU32,
    ejections: AtomicU32,
    position: AtomicU32,
}

impl Address {
    pub(super) fn new(key: AddressKey, srv_name: Option<Arc<str>>, epoch: Instant) -> Self {
        Self {
            key,
            srv_name,
            health: HealthCell::default(),
            latency: LatencyAverage::new(epoch),
            active: AtomicU32::new(0),
            is_ejected: AtomicBool::new(false),
            consecutive_failures: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            position: AtomicU32::new(u32::MAX),
        }
    }

    /// Where to connect.
    #[must_use]
    pub fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(self.key.ip, self.key.port)
    }

    /// Requests on their way.
    #[must_use]
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// It may be picked: neither unhealthy nor ejected.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.health.is_healthy() && !self.is_ejected()
    }

    /// It is out for a while after failures in a row.
    #[must_use]
    pub fn is_ejected(&self) -> bool {
        self.is_ejected.load(Ordering::Relaxed)
    }

    pub(super) fn enter(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn leave(&self) {
        self.active.fetch_sub(1, Ordering::Relaxed);
    }

    /// Count an outcome; returns the failures in a row.
    pub(super) fn count_outcome(&self, is_failure: bool) -> u32 {
        if is_failure {
            self.consecutive_failures.fetch_add(1, Ordering::Relaxed) + 1
        } else {
            if self.consecutive_failures.load(Ordering::Relaxed) != 0 {
                self.consecutive_failures.store(0, Ordering::Relaxed);
            }
            0
        }
    }

    /// Take it out of use; returns how often that has happened.
    pub(super) fn eject(&self) -> u32 {
        self.is_ejected.store(true, Ordering::Relaxed);
        self.consecutive_failures.store(0, Ordering::Relaxed);
        self.ejections.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn readmit(&self) {
        self.is_ejected.store(false, Ordering::Relaxed);
    }

    pub(super) fn position(&self) -> usize {
        self.position.load(Ordering::Relaxed) as usize
    }

    pub(super) fn set_position(&self, position: usize) {
        self.position.store(position as u32, Ordering::Relaxed);
    }
}
