//! Circuit breaking: how much of this worker one upstream may hold at a time, and how many of that may be retries.
//!
//! Beyond Kong, off by default. A request above `max_connections` waits in line, one that finds the line full is refused;
//! a retry above the budget does not happen, so that retries cannot multiply an outage.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use crate::plan::CircuitBreakingPlan;

/// The limits of one upstream.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) plan: CircuitBreakingPlan,
    slots: Option<Arc<Semaphore>>,
    pending: AtomicU32,
    retries: Arc<AtomicU32>,
}

/// All slots are taken and the line is full, or the turn did not come in time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Busy;

/// A retry within the budget, until dropped.
#[derive(Debug)]
pub struct RetryToken(Arc<AtomicU32>);

impl Drop for RetryToken {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place in the line, given up however the wait ends.
struct Place<'a>(&'a AtomicU32);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Limits {
    pub(super) fn new(plan: CircuitBreakingPlan) -> Self {
        let slots = plan
            .max_connections
            .map(|count| Arc::new(Semaphore::new(count as usize)));
        Self {
            plan,
            slots,
            pending: AtomicU32::new(0),
            retries: Arc::default(),
        }
    }

    /// Wait for a slot for up to `patience`; None when there is no limit.
    pub(super) async fn enter(&self, patience: Duration) -> Result<Option<OwnedSemaphorePermit>, Busy> {
        let Some(slots) = &self.slots else {
            return Ok(None);
        };
        match slots.clone().try_acquire_owned() {
            Ok(slot) => return Ok(Some(slot)),
            Err(TryAcquireError::Closed) => return Ok(None),
            Err(TryAcquireError::NoPermits) => {}
        }
        if self.pending.load(Ordering::Relaxed) >= self.plan.max_pending_requests {
            return Err(Busy);
        }
        self.pending.fetch_add(1, Ordering::Relaxed);
        let _place = Place(&self.pending);
        match tokio::time::timeout(patience, slots.clone().acquire_owned()).await {
            Ok(Ok(slot)) => Ok(Some(slot)),
            Ok(Err(_closed)) => Ok(None),
            Err(_elapsed) => Err(Busy),
        }
    }

    /// Begin a retry; None: the budget is used up.
    pub(super) fn retry(&self) -> Option<RetryToken> {
        let used = self.retries.fetch_add(1, Ordering::Relaxed);
        let token = RetryToken(self.retries.clone());
        let is_within = self.plan.max_concurrent_retries.is_none_or(|budget| used < budget);
        is_within.then_some(token)
    }
}
