//! What this worker tells control about its upstreams: which addresses are in use, and what traffic says about them.
//!
//! A bounded queue between the engine thread and the worker's loop. Equal observations in a row are one report with a
//! count, of each upstream only the newest pool waits. When the queue is full the newest observations are lost: control's
//! counters are late then, its view of the pools stays right.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::upstream::balance::AddressKey;
use crate::upstream::health::{Health, Observation};

/// Most reports that wait for the loop. Own choice: a report is about 200 bytes.
const MOST_REPORTS: usize = 4_096;

/// One report, as JSON for control.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Report {
    /// The addresses of an upstream, whole.
    Pool {
        /// Upstream id.
        upstream: Arc<str>,
        /// Targets in the order of the plan.
        targets: Vec<PoolTarget>,
    },
    /// Equal observations of one address.
    Observed {
        /// Upstream id.
        upstream: Arc<str>,
        /// Which address.
        #[serde(flatten)]
        address: ReportedAddress,
        /// Name of the observation.
        observation: &'static str,
        /// How many.
        count: u32,
    },
    /// This worker has put an address in or out of use by its own traffic.
    Changed {
        /// Upstream id.
        upstream: Arc<str>,
        /// Which address.
        #[serde(flatten)]
        address: ReportedAddress,
        /// Name of the state.
        health: &'static str,
    },
}

/// A target with its addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PoolTarget {
    /// Name or address.
    pub host: Arc<str>,
    /// Port.
    pub port: u16,
    /// Weight of the target.
    pub weight: u32,
    /// The kind of records that its addresses come from.
    pub dns: &'static str,
    /// Its addresses; empty: the name has none.
    pub addresses: Vec<PoolAddress>,
}

/// One address of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PoolAddress {
    /// Address.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
    /// Weight.
    pub weight: u32,
    /// State on this worker.
    pub health: &'static str,
}

/// An address by its identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReportedAddress {
    /// Name or address of the target.
    pub host: Arc<str>,
    /// Address.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
}

impl From<&AddressKey> for ReportedAddress {
    fn from(key: &AddressKey) -> Self {
        Self {
            host: key.host.clone(),
            ip: key.ip,
            port: key.port,
        }
    }
}

type Wake = Box<dyn Fn() + Send + Sync>;

/// The queue.
#[derive(Default)]
pub struct HealthReports {
    waiting: Mutex<Waiting>,
    wake: OnceLock<Wake>,
}

#[derive(Default)]
struct Waiting {
    pools: FxHashMap<Arc<str>, Vec<PoolTarget>>,
    seen: VecDeque<Report>,
    /// The loop was woken and has not come yet.
    is_announced: bool,
}

impl std::fmt::Debug for HealthReports {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("HealthReports").finish_non_exhaustive()
    }
}

impl HealthReports {
    /// Call this whenever the queue has something again; once per engine.
    pub fn on_first(&self, wake: impl Fn() + Send + Sync + 'static) {
        if self.wake.set(Box::new(wake)).is_ok() {
            let mut waiting = self.lock();
            let has_any = !waiting.pools.is_empty() || !waiting.seen.is_empty();
            waiting.is_announced = has_any;
            drop(waiting);
            if has_any {
                self.wake();
            }
        }
    }

    /// Up to `limit` of what waits: pools first, then observations in their order. Call until nothing is left.
    #[must_use]
    pub fn take(&self, limit: usize) -> Vec<Report> {
        let mut waiting = self.lock();
        let ids: Vec<Arc<str>> = waiting.pools.keys().take(limit).cloned().collect();
        let mut reports: Vec<Report> = Vec::with_capacity(ids.len());
        for upstream in ids {
            if let Some(targets) = waiting.pools.remove(&upstream) {
                reports.push(Report::Pool { upstream, targets });
            }
        }
        let more = limit.saturating_sub(reports.len()).min(waiting.seen.len());
        reports.extend(waiting.seen.drain(..more));
        waiting.is_announced = !waiting.pools.is_empty() || !waiting.seen.is_empty();
        reports
    }

    pub(super) fn pool(&self, upstream: &Arc<str>, targets: Vec<PoolTarget>) {
        let mut waiting = self.lock();
        waiting.pools.insert(upstream.clone(), targets);
        self.announce(waiting);
    }

    pub(super) fn observed(&self, upstream: &Arc<str>, key: &AddressKey, observation: Observation) {
        let mut waiting = self.lock();
        if let Some(Report::Observed {
            upstream: known,
            address,
            observation: name,
            count,
        }) = waiting.seen.back_mut()
        {
            let is_same = known == upstream && address.ip == key.ip && address.port == key.port;
            if is_same && address.host == key.host && *name == observation.name() {
                *count = count.saturating_add(1);
                return;
            }
        }
        if waiting.seen.len() < MOST_REPORTS {
            waiting.seen.push_back(Report::Observed {
                upstream: upstream.clone(),
                address: key.into(),
                observation: observation.name(),
                count: 1,
            });
        }
        self.announce(waiting);
    }

    pub(super) fn changed(&self, upstream: &Arc<str>, key: &AddressKey, health: Health) {
        let mut waiting = self.lock();
        // Changes are few, and never lost: what follows would be judged wrongly.
        waiting.seen.push_back(Report::Changed {
            upstream: upstream.clone(),
            address: key.into(),
            health: health.name(),
        });
        self.announce(waiting);
    }

    fn announce(&self, mut waiting: MutexGuard<'_, Waiting>) {
        let is_first = !std::mem::replace(&mut waiting.is_announced, true);
        drop(waiting);
        if is_first {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
