//! What the traffic of an upstream says about health: from statuses and failures to observations.

use crate::plan::PassiveChecksPlan;
use crate::upstream::health::{Observation, Thresholds};

use super::lease::Outcome;

/// Statuses are below this.
const STATUSES: usize = 1_000;

/// Passive checks made ready.
#[derive(Debug)]
pub(super) struct PassiveChecks {
    pub(super) thresholds: Thresholds,
    by_status: Vec<Option<Observation>>,
}

impl PassiveChecks {
    pub(super) fn new(plan: &PassiveChecksPlan) -> Self {
        let mut by_status = vec![None; STATUSES];
        for (statuses, observation) in [
            (&plan.unhealthy_statuses, Observation::HttpFailure),
            (&plan.healthy_statuses, Observation::Success),
        ] {
            for status in statuses {
                if let Some(slot) = by_status.get_mut(usize::from(*status)) {
                    *slot = Some(observation);
                }
            }
        }
        Self {
            thresholds: plan.thresholds,
            by_status,
        }
    }

    /// What an outcome counts as (reference: balancing 4.3).
    pub(super) fn observation(&self, outcome: Outcome) -> Option<Observation> {
        match outcome {
            Outcome::Status(504) | Outcome::TimedOut => Some(Observation::Timeout),
            Outcome::Status(status) => self.by_status.get(usize::from(status)).copied().flatten(),
            Outcome::Failed => Some(Observation::TcpFailure),
        }
    }
}
