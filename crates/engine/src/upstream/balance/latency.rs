//! Latency: the address with the lowest average time to the response head (EWMA, decay 10 s), divided by its weight.
//!
//! An average fades while nothing is sent, so that a slow address is tried again. All averages fade at one rate, so
//! their order does not change with time: ln(average) + moment / decay is a key that a heap can hold. Requests on their way
//! count: an address with n of them is taken for n + 1 times as slow, else a burst would go to one address whole.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::heap::Smallest;
use super::Entry;

const DECAY_S: f64 = 10.0;
/// An average is never less: the logarithm of zero has no order.
const LEAST_S: f64 = 1e-6;

/// The average latency of one address. Written by the engine thread only.
#[derive(Debug)]
pub(super) struct LatencyAverage {
    epoch: Instant,
    average_s_bits: AtomicU64,
    touched_s_bits: AtomicU64,
}

impl LatencyAverage {
    pub(super) fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            average_s_bits: AtomicU64::new(0.0_f64.to_bits()),
            touched_s_bits: AtomicU64::new(0.0_f64.to_bits()),
        }
    }

    /// Take a measurement in.
    pub(super) fn add(&self, latency: Duration, now: Instant) {
        let now_s = now.saturating_duration_since(self.epoch).as_secs_f64();
        let keeps = if self.is_unknown() {
            0.0
        } else {
            (-(now_s - self.touched_s()).max(0.0) / DECAY_S).exp()
        };
        let average = self.average_s() * keeps + latency.as_secs_f64() * (1.0 - keeps);
        self.set(average, now_s);
    }

    /// Begin as `average_s`.
    pub(super) fn begin(&self, average_s: f64, now: Instant) {
        self.set(average_s, now.saturating_duration_since(self.epoch).as_secs_f64());
    }

    pub(super) fn average_s(&self) -> f64 {
        f64::from_bits(self.average_s_bits.load(Ordering::Relaxed))
    }

    pub(super) fn is_unknown(&self) -> bool {
        self.touched_s_bits.load(Ordering::Relaxed) == 0
    }

    fn touched_s(&self) -> f64 {
        f64::from_bits(self.touched_s_bits.load(Ordering::Relaxed))
    }

    fn set(&self, average_s: f64, now_s: f64) {
        self.average_s_bits.store(average_s.to_bits(), Ordering::Relaxed);
        self.touched_s_bits
            .store(now_s.max(f64::MIN_POSITIVE).to_bits(), Ordering::Relaxed);
    }

    /// Logarithm of the average, comparable between addresses at any time.
    fn level(&self) -> f64 {
        self.average_s().max(LEAST_S).ln() + self.touched_s() / DECAY_S
    }
}

/// Order by latency. New addresses begin with the average of the known ones.
pub(super) fn latency(entries: &[Entry], now: Instant) -> Smallest {
    let known: Vec<f64> = entries
        .iter()
        .map(|entry| &entry.address.latency)
        .filter(|latency| !latency.is_unknown())
        .map(LatencyAverage::average_s)
        .collect();
    // While none is known, all are tried in turn and the first measurement of each counts whole.
    let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
    for entry in entries {
        if entry.address.latency.is_unknown() && !known.is_empty() {
            entry.address.latency.begin(mean, now);
        }
    }
    Smallest::new(entries, key_of)
}

fn key_of(entry: &Entry) -> f64 {
    entry.address.latency.level() + (f64::from(entry.address.active()) + 1.0).ln() - f64::from(entry.weight).ln()
}
