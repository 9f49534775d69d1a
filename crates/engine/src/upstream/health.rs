//! Whether an address is healthy: the one state machine of active and passive checks (reference: balancing 4.1).
//!
//! Owns the rules and the counters of one address. Who observes (a response here, a probe of control) and who is told of a
//! change is the caller's matter: workers run it over their own traffic, control over the reports of all of them and over
//! its probes.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;

#[cfg(test)]
mod tests;

/// The states; only `is_healthy` decides about traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Health {
    /// No failure lately.
    #[default]
    Healthy,
    /// Failures, not enough to be unhealthy.
    MostlyHealthy,
    /// Out of use.
    Unhealthy,
    /// Successes, not enough to be healthy.
    MostlyUnhealthy,
}

impl Health {
    /// All states, by their number.
    pub const ALL: [Self; 4] = [
        Self::Healthy,
        Self::MostlyHealthy,
        Self::Unhealthy,
        Self::MostlyUnhealthy,
    ];

    /// It gets traffic.
    #[must_use]
    pub fn is_healthy(self) -> bool {
        matches!(self, Self::Healthy | Self::MostlyHealthy)
    }

    /// The name on the wire between processes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::MostlyHealthy => "mostly_healthy",
            Self::Unhealthy => "unhealthy",
            Self::MostlyUnhealthy => "mostly_unhealthy",
        }
    }

    /// The state of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|health| health.name() == name)
    }
}

/// How many observations change the state; 0: the observation is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// Successes until healthy.
    pub successes: u32,
    /// Statuses that count as failures until unhealthy.
    pub http_failures: u32,
    /// Failed connections until unhealthy.
    pub tcp_failures: u32,
    /// Timeouts until unhealthy.
    pub timeouts: u32,
}

/// What was seen of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// A status that counts as healthy, or a connection.
    Success,
    /// A status that counts as unhealthy.
    HttpFailure,
    /// No connection, or a broken one.
    TcpFailure,
    /// Nothing in time.
    Timeout,
}

impl Observation {
    /// The name on the wire between processes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::HttpFailure => "http_failure",
            Self::TcpFailure => "tcp_failure",
            Self::Timeout => "timeout",
        }
    }

    /// The observation of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Success, Self::HttpFailure, Self::TcpFailure, Self::Timeout]
            .into_iter()
            .find(|observation| observation.name() == name)
    }
}

/// The state machine of one address.
#[derive(Debug, Clone, Copy, Default)]
pub struct HealthMachine {
    health: Health,
    successes: u32,
    http_failures: u32,
    tcp_failures: u32,
    timeouts: u32,
}

impl HealthMachine {
    /// The state.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health
    }

    /// Count `times` equal observations; returns whether the state is another one now.
    pub fn observe(&mut self, observation: Observation, times: u32, thresholds: &Thresholds) -> bool {
        let before = self.health;
        let threshold = match observation {
            Observation::Success => thresholds.successes,
            Observation::HttpFailure => thresholds.http_failures,
            Observation::TcpFailure => thresholds.tcp_failures,
            Observation::Timeout => thresholds.timeouts,
        };
        if threshold == 0 || times == 0 {
            return false;
        }
        if observation == Observation::Success {
            if before == Health::Healthy {
                return false;
            }
            self.http_failures = 0;
            self.tcp_failures = 0;
            self.timeouts = 0;
            self.successes = self.successes.saturating_add(times);
            if self.successes >= threshold {
                self.health = Health::Healthy;
            } else if before == Health::Unhealthy {
                self.health = Health::MostlyUnhealthy;
            }
        } else {
            if before == Health::Unhealthy {
                return false;
            }
            self.successes = 0;
            let counter = match observation {
                Observation::HttpFailure => &mut self.http_failures,
                Observation::TcpFailure => &mut self.tcp_failures,
                _ => &mut self.timeouts,
            };
            *counter = counter.saturating_add(times);
            if *counter >= threshold {
                self.health = Health::Unhealthy;
            } else if before == Health::Healthy {
                self.health = Health::MostlyHealthy;
            }
        }
        before != self.health
    }

    /// Set the state by hand or from elsewhere; all counters start from zero.
    pub fn set(&mut self, health: Health) {
        *self = Self {
            health,
            ..Self::default()
        };
    }
}

/// A state machine that requests read without a lock.
///
/// Two decide about it: the traffic of this worker, at once, and control, for the whole node. What control says may have
/// been on its way while this worker decided; until control confirms such a decision, only a reset by hand undoes it.
#[derive(Debug, Default)]
pub struct HealthCell {
    shown: AtomicU8,
    decided: Mutex<Decided>,
}

#[derive(Debug, Default)]
struct Decided {
    machine: HealthMachine,
    /// Traffic has put the address in or out of use, and control has not said the same yet.
    is_unconfirmed: bool,
}

impl HealthCell {
    /// The state.
    #[must_use]
    pub fn get(&self) -> Health {
        Health::ALL
            .get(usize::from(self.shown.load(Ordering::Relaxed)))
            .copied()
            .unwrap_or_default()
    }

    /// It gets traffic.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.get().is_healthy()
    }

    /// Count an observation; returns the state before and after. Costs an atomic read for a success of a healthy address.
    ///
    /// Where the address comes into or out of use by it, control has to be told.
    pub fn observe(&self, observation: Observation, thresholds: &Thresholds) -> (Health, Health) {
        let shown = self.get();
        if observation == Observation::Success && shown == Health::Healthy {
            return (shown, shown);
        }
        let mut decided = self.lock();
        let before = decided.machine.health();
        decided.machine.observe(observation, 1, thresholds);
        let after = decided.machine.health();
        if before.is_healthy() != after.is_healthy() {
            decided.is_unconfirmed = true;
        }
        self.shown.store(after as u8, Ordering::Relaxed);
        (before, after)
    }

    /// Take over what control says; counters go on when the state is the same, unless `is_reset`. Returns whether the
    /// address has come into or out of use.
    pub fn take(&self, health: Health, is_reset: bool) -> bool {
        let mut decided = self.lock();
        let before = decided.machine.health();
        let is_confirming = before.is_healthy() == health.is_healthy();
        if decided.is_unconfirmed && !is_confirming && !is_reset {
            return false;
        }
        decided.is_unconfirmed = false;
        if before != health || is_reset {
            decided.machine.set(health);
            self.shown.store(health as u8, Ordering::Relaxed);
        }
        !is_confirming
    }

    /// Believe control again, which is told the state as a whole.
    pub fn confirm(&self) {
        self.lock().is_unconfirmed = false;
    }

    /// Set the state; counters start from zero.
    pub fn set(&self, health: Health) {
        let mut decided = self.lock();
        decided.machine.set(health);
        decided.is_unconfirmed = false;
        self.shown.store(health as u8, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Decided> {
        self.decided.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
