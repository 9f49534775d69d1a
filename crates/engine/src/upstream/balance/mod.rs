//! Which address an attempt goes to.
//!
//! One file per algorithm; `Balancer` is what a plan's upstream becomes and lives on when plans change; a `Lease` is one
//! attempt's hold on an address. Knows nothing about connections, HTTP or streams: whoever sends asks with a `Wish` and
//! reports an `Outcome`. Everything is of one worker; only health travels, through `reports`.

use std::sync::Arc;
use std::time::Instant;

use crate::plan::{AlgorithmPlan, UpstreamPlan};

mod address;
mod balancer;
mod consistent_hashing;
mod heap;
mod latency;
mod lease;
mod least_connections;
mod limits;
mod passive;
mod round_robin;
mod sticky;
mod xxhash;

#[cfg(test)]
mod tests;

pub use self::address::{Address, AddressKey};
pub use self::balancer::Balancer;
pub use self::lease::{Lease, Outcome};
pub use self::limits::RetryToken;
pub use self::xxhash::xxh32;

use self::consistent_hashing::{ConsistentHashing, Ring};
use self::heap::Smallest;
use self::latency::latency;
use self::least_connections::least_connections;
use self::round_robin::RoundRobin;
use self::sticky::Sticky;

/// What a request brings to the choice.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish<'a> {
    /// Hash of what the upstream hashes on; None: nothing is hashed on.
    pub hash: Option<u32>,
    /// Value of the sticky cookie.
    pub cookie: Option<&'a str>,
}

/// An address in rotation.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) address: Arc<Address>,
    /// Positive.
    pub(crate) weight: u32,
}

/// Positions that the request has tried.
struct Avoid<'a> {
    entries: &'a [Entry],
    tried: &'a [Arc<Address>],
}

impl Avoid<'_> {
    fn is_empty(&self) -> bool {
        self.tried.is_empty()
    }

    fn contains(&self, position: usize) -> bool {
        !self.tried.is_empty()
            && self
                .entries
                .get(position)
                .is_some_and(|entry| self.tried.iter().any(|address| Arc::ptr_eq(address, &entry.address)))
    }
}

/// The algorithms that exist.
#[derive(Debug)]
enum Algorithm {
    RoundRobin(RoundRobin),
    /// With the order of requests that have nothing to hash.
    ConsistentHashing(ConsistentHashing, RoundRobin),
    /// By active requests or by latency.
    Smallest(Smallest),
    Sticky(Sticky),
}

/// Addresses in rotation, made ready for picking. Immutable but for the algorithm's own counters.
#[derive(Debug)]
struct Rotation {
    entries: Vec<Entry>,
    algorithm: Algorithm,
    /// The available part of the weight is above the threshold.
    is_healthy: bool,
}

impl Rotation {
    /// Make these addresses, which are in their order, ready; `ring`: the one for just these addresses, if there is one.
    fn algorithm(plan: &UpstreamPlan, entries: &[Entry], ring: Option<Arc<Ring>>, now: Instant) -> Algorithm {
        match plan.algorithm {
            AlgorithmPlan::RoundRobin => Algorithm::RoundRobin(RoundRobin::new(entries)),
            AlgorithmPlan::ConsistentHashing => {
                let ring = ring.unwrap_or_else(|| Arc::new(Ring::new(entries, plan.slots)));
                Algorithm::ConsistentHashing(ConsistentHashing::new(ring, entries), RoundRobin::new(entries))
            }
            AlgorithmPlan::LeastConnections => Algorithm::Smallest(least_connections(entries)),
            AlgorithmPlan::Latency => Algorithm::Smallest(latency(entries, now)),
            AlgorithmPlan::StickySessions => Algorithm::Sticky(Sticky::new(entries)),
        }
    }

    fn pick(&self, wish: &Wish<'_>, tried: &[Arc<Address>], take_turn: impl FnMut() -> u64) -> Option<&Entry> {
        let avoid = Avoid {
            entries: &self.entries,
            tried,
        };
        let position = match (&self.algorithm, wish.hash) {
            (Algorithm::RoundRobin(round_robin), _) | (Algorithm::ConsistentHashing(_, round_robin), None) => {
                round_robin.pick(take_turn, &avoid)
            }
            (Algorithm::ConsistentHashing(ring, _), Some(hash)) => ring.pick(hash, &avoid),
            (Algorithm::Smallest(smallest), _) => smallest.pick(&avoid),
            (Algorithm::Sticky(sticky), _) => sticky.pick(wish.cookie, take_turn, &avoid),
        };
        self.entries.get(position?)
    }

    /// Active requests or latency of an address have changed.
    fn changed(&self, address: &Arc<Address>) {
        let position = address.position();
        let Some(entry) = self.entries.get(position) else {
            return;
        };
        if !Arc::ptr_eq(&entry.address, address) {
            return;
        }
        match &self.algorithm {
            Algorithm::Smallest(smallest) => smallest.changed(position, entry),
            Algorithm::RoundRobin(_) | Algorithm::ConsistentHashing(..) | Algorithm::Sticky(_) => {}
        }
    }

    /// The ring, when there is one.
    fn ring(&self) -> Option<&Arc<Ring>> {
        match &self.algorithm {
            Algorithm::ConsistentHashing(hashing, _) => Some(&hashing.ring),
            _ => None,
        }
    }
}
