//! Consistent hashing: a ring of points, each address at many of them; a value goes to the first usable address at or
//! below its point.
//!
//! The ring (reference: balancing 2.1): at least 1000 points; an address gets weight / total × number of addresses ×
//! 160 of them, at least one, at XXH32 of `<ip>::<port> <i>`. Where several meet, the smallest hash stands: who wins a
//! point does not depend on who else is there, so an address that leaves gives up its own points and moves nothing else
//! (own choice; taking the next free point would move others, and fill the ring with 62 addresses). Entries are sorted by
//! name, port and address, so nodes that know the same addresses agree. An unusable address leaves only its own values.

use std::sync::Arc;

use super::xxhash::xxh32;
use super::{Avoid, Entry};

const FEWEST_POINTS: usize = 1_000;
const ENTRIES_PER_ADDRESS: u64 = 160;
const FREE: u32 = u32::MAX;

/// Where each address stands, usable or not.
#[derive(Debug)]
pub(super) struct Ring {
    /// Position of the address at each point, or `FREE`.
    points: Vec<u32>,
}

impl Ring {
    pub(super) fn new(entries: &[Entry], slots: u32) -> Self {
        // Whole numbers: a rounding error would move values of addresses that have nothing to do with a change.
        let total: u64 = entries.iter().map(|entry| u64::from(entry.weight)).sum();
        let units = entries.len() as u64 * ENTRIES_PER_ADDRESS;
        let shares: Vec<u64> = entries
            .iter()
            .map(|entry| (u64::from(entry.weight) * units / total.max(1)).max(1))
            .collect();
        let count = (slots as usize).max(FEWEST_POINTS);
        let mut points = vec![FREE; count];
        let mut standing = vec![u32::MAX; count];
        for (position, (entry, share)) in entries.iter().zip(shares).enumerate() {
            let key = &entry.address.key;
            for number in 1..=share {
                let hash = xxh32(format!("{}::{} {number}", key.ip, key.port).as_bytes());
                let point = hash as usize % count;
                if points[point] == FREE || hash < standing[point] {
                    points[point] = position as u32;
                    standing[point] = hash;
                }
            }
        }
        Self { points }
    }
}

#[derive(Debug)]
pub(super) struct ConsistentHashing {
    pub(super) ring: Arc<Ring>,
    /// Position of the usable address that each point belongs to, or `FREE` when there is none.
    owners: Vec<u32>,
}

impl ConsistentHashing {
    pub(super) fn new(ring: Arc<Ring>, entries: &[Entry]) -> Self {
        let is_usable = |position: u32| {
            position != FREE
                && entries
                    .get(position as usize)
                    .is_some_and(|entry| entry.address.is_available())
        };
        let last = ring
            .points
            .iter()
            .rev()
            .copied()
            .find(|position| is_usable(*position))
            .unwrap_or(FREE);
        let mut owner = last;
        let owners = ring
            .points
            .iter()
            .map(|&position| {
                if is_usable(position) {
                    owner = position;
                }
                owner
            })
            .collect();
        Self { ring, owners }
    }

    /// The address of a hashed value, or the next ones below it after failed attempts.
    pub(super) fn pick(&self, hash: u32, avoid: &Avoid<'_>) -> Option<usize> {
        let count = self.owners.len();
        let point = hash as usize % count.max(1);
        let owner = *self.owners.get(point)?;
        if owner == FREE {
            return None;
        }
        if avoid.is_empty() || !avoid.contains(owner as usize) {
            return Some(owner as usize);
        }
        (1..count)
            .map(|distance| self.owners[(point + count - distance) % count] as usize)
            .find(|position| !avoid.contains(*position))
            .or(Some(owner as usize))
    }
}
