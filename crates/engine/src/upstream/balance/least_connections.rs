//! Least connections: the address with the smallest (active + 1) / weight. Counts are those of this worker.

use std::sync::{Mutex, PoisonError};

use super::heap::Heap;
use super::{Avoid, Entry};

#[derive(Debug)]
pub(super) struct LeastConnections {
    heap: Mutex<Heap>,
}

impl LeastConnections {
    pub(super) fn new(entries: &[Entry]) -> Self {
        let keys = entries
            .iter()
            .map(|entry| entry.address.is_available().then(|| key_of(entry)));
        Self {
            heap: Mutex::new(Heap::new(keys)),
        }
    }

    pub(super) fn pick(&self, avoid: &Avoid<'_>) -> Option<usize> {
        let mut heap = self.heap.lock().unwrap_or_else(PoisonError::into_inner);
        heap.smallest(|position| avoid.contains(position))
    }

    /// The active count of an address has changed.
    pub(super) fn changed(&self, position: usize, entry: &Entry) {
        let mut heap = self.heap.lock().unwrap_or_else(PoisonError::into_inner);
        heap.update(position, key_of(entry));
    }
}

fn key_of(entry: &Entry) -> f64 {
    (f64::from(entry.address.active()) + 1.0) / f64::from(entry.weight)
}
