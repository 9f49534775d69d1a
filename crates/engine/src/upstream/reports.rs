//! What this worker tells control about its upstreams: which addresses are in use, and what traffic says about them.
//!
//! A bounded queue between the engine thread and the worker's loop. Equal observations in a row are one report with a
//! count. When the queue is full the oldest observations are lost, never the pools: control's view stays right and its
//! counters are late.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

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
    waiting: Mutex<VecDeque<Report>>,
    wake: OnceLock<Wake>,
}

impl std::fmt::Debug for HealthReports {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("HealthReports").finish_non_exhaustive()
    }
}

impl HealthReports {
    /// Call this whenever the queue has something again; once per engine.
    pub fn on_first(&self, wake: impl Fn() + Send + Sync + 'static) {
        if self.wake.set(Box::new(wake)).is_ok() && !self.lock().is_empty() {
            self.wake();
        }
    }

    /// Everything that waits, in order.
    #[must_use]
    pub fn take(&self) -> Vec<Report> {
        std::mem::take(&mut *self.lock()).into()
    }

    pub(super) fn pool(&self, upstream: &Arc<str>, targets: Vec<PoolTarget>) {
        let mut waiting = self.lock();
        // The newest pool replaces an older one that nobody has seen.
        waiting.retain(|report| !matches!(report, Report::Pool { upstream: known, .. } if known == upstream));
        self.push(
            waiting,
            Report::Pool {
                upstream: upstream.clone(),
                targets,
            },
        );
    }

    pub(super) fn observed(&self, upstream: &Arc<str>, key: &AddressKey, observation: Observation) {
        let mut waiting = self.lock();
        if let Some(Report::Observed {
            upstream: known,
            address,
            observation: name,
            count,
        }) = waiting.back_mut()
        {
            let is_same = known == upstream && address.ip == key.ip && address.port == key.port;
            if is_same && address.host == key.host && *name == observation.name() {
                *count = count.saturating_add(1);
                return;
            }
        }
        let report = Report::Observed {
            upstream: upstream.clone(),
            address: key.into(),
            observation: observation.name(),
            count: 1,
        };
        self.push(waiting, report);
    }

    pub(super) fn changed(&self, upstream: &Arc<str>, key: &AddressKey, health: Health) {
        let report = Report::Changed {
            upstream: upstream.clone(),
            address: key.into(),
            health: health.name(),
        };
        self.push(self.lock(), report);
    }

    fn push(&self, mut waiting: std::sync::MutexGuard<'_, VecDeque<Report>>, report: Report) {
        if waiting.len() >= MOST_REPORTS {
            let oldest = waiting
                .iter()
                .position(|waiting| matches!(waiting, Report::Observed { .. }));
            if let Some(oldest) = oldest {
                waiting.remove(oldest);
            }
        }
        waiting.push_back(report);
        let is_first = waiting.len() == 1;
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

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Report>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
