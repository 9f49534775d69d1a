//! Least connections: the address with the smallest (active + 1) / weight. Counts are those of this worker.

use super::heap::Smallest;
use super::Entry;

pub(super) fn least_connections(entries: &[Entry]) -> Smallest {
    Smallest::new(entries, key_of)
}

fn key_of(entry: &Entry) -> f64 {
    (f64::from(entry.address.active()) + 1.0) / f64::from(entry.weight)
}
