//! One attempt's hold on an address: it counts as active until the lease is dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use super::{Address, Balancer};

/// How an attempt went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The final answer: the upstream's status, or the 502 or 504 that the client gets for want of one.
    Status(u16),
    /// No connection, or it broke, and another attempt follows.
    Failed,
    /// Nothing came in time, and another attempt follows.
    TimedOut,
}

/// An address in use.
#[derive(Debug)]
pub struct Lease {
    balancer: Arc<Balancer>,
    address: Arc<Address>,
    started: Instant,
    /// Held for the upstream's `max_connections`.
    _slot: Option<OwnedSemaphorePermit>,
}

impl Lease {
    pub(super) fn new(balancer: Arc<Balancer>, address: Arc<Address>, slot: Option<OwnedSemaphorePermit>) -> Self {
        address.enter();
        Self {
            balancer,
            address,
            started: Instant::now(),
            _slot: slot,
        }
    }

    /// The address.
    #[must_use]
    pub fn address(&self) -> &Arc<Address> {
        &self.address
    }

    /// The balancer that gave it.
    #[must_use]
    pub fn balancer(&self) -> &Arc<Balancer> {
        &self.balancer
    }

    /// Tell how the attempt went, once: health and outlier ejection count it, and a status measures the latency.
    pub fn report(&self, outcome: Outcome) {
        self.balancer.take_outcome(&self.address, outcome);
    }

    /// The first answer is here: its time enters the average of the address.
    pub fn measure(&self) {
        self.balancer.take_latency(&self.address, self.elapsed());
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.address.leave();
        self.balancer.changed(&self.address);
    }
}
