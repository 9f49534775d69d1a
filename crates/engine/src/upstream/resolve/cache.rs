//! How long answers count, which name makes room, and whose turn among a name's records it is.
//!
//! No I/O and no clock: the time is an argument. The rules (reference: balancing, DNS): an answer is fresh for its
//! records' time to live or the set one; then it is stale and still served while it is asked for anew; failures are
//! remembered shortly and never served stale. A failed refresh leaves the stale answer, a vanished name replaces it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::records::Turns;
use super::{Answer, Record, RecordKind, Records, ResolveError, TimedAnswer};
use crate::settings::DnsSettings;

/// The set times.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lifetimes {
    pub(super) valid_ttl: Option<Duration>,
    pub(super) stale_ttl: Duration,
    pub(super) not_found_ttl: Duration,
    pub(super) error_ttl: Duration,
}

impl From<&DnsSettings> for Lifetimes {
    fn from(settings: &DnsSettings) -> Self {
        Self {
            valid_ttl: settings.valid_ttl_ms.map(Duration::from_millis),
            stale_ttl: Duration::from_millis(settings.stale_ttl_ms),
            not_found_ttl: Duration::from_millis(settings.not_found_ttl_ms),
            error_ttl: Duration::from_millis(settings.error_ttl_ms),
        }
    }
}

/// Whether an answer should be asked for anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    Fresh,
    /// To be served, and refreshed.
    Stale,
}

/// How one name was used since it is in the cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Answered from the cache, within the time to live.
    pub hits: u64,
    /// Answered from the cache after that, while it was asked for anew.
    pub stale: u64,
    /// Had to wait for a name server.
    pub misses: u64,
    /// Queries that gave records.
    pub succeeded: u64,
    /// Queries that gave none.
    pub failed: u64,
}

impl Usage {
    /// How often the name was looked up.
    #[must_use]
    pub fn lookups(&self) -> u64 {
        self.hits + self.stale + self.misses
    }
}

/// One name's answer.
#[derive(Debug)]
pub(super) struct Entry {
    answer: Answer,
    /// None: for ever.
    fresh_until: Option<Instant>,
    stale_until: Instant,
    is_recently_used: bool,
    turns: Turns,
    /// The kind of records that answered last, kept over failures.
    kind: Option<RecordKind>,
    usage: Usage,
}

impl Entry {
    pub(super) fn records(&mut self) -> Result<Records, ResolveError> {
        self.answer.clone()
    }

    /// The record whose turn it is, starting at the first.
    pub(super) fn next_record(&mut self) -> Result<Record, ResolveError> {
        match &self.answer {
            Ok(records) => self.turns.next(records).cloned().ok_or(ResolveError::NotFound),
            Err(error) => Err(error.clone()),
        }
    }
}

/// Names and their answers, bounded.
#[derive(Debug)]
pub(super) struct Cache {
    lifetimes: Lifetimes,
    capacity: usize,
    entries: FxHashMap<Arc<str>, Entry>,
    /// Every name of `entries` once. A name used since it was last at the front gets a second round.
    eviction_order: VecDeque<Arc<str>>,
}

impl Cache {
    pub(super) fn new(lifetimes: Lifetimes, capacity: usize) -> Self {
        Self {
            lifetimes,
            capacity: capacity.max(1),
            entries: FxHashMap::default(),
            eviction_order: VecDeque::new(),
        }
    }

    /// The entry of `host` if it may be served at `now`, which counts as a use.
    pub(super) fn get(&mut self, host: &str, now: Instant) -> Option<(Freshness, &mut Entry)> {
        let (freshness, entry) = self.find(host, now)?;
        match freshness {
            Freshness::Fresh => entry.usage.hits += 1,
            Freshness::Stale => entry.usage.stale += 1,
        }
        Some((freshness, entry))
    }

    /// As `get`, for a lookup that was counted when it began to wait.
    pub(super) fn find(&mut self, host: &str, now: Instant) -> Option<(Freshness, &mut Entry)> {
        let entry = self.entries.get_mut(host)?;
        let freshness = match entry.fresh_until {
            Some(fresh_until) if now >= entry.stale_until.max(fresh_until) => return None,
            Some(fresh_until) if now >= fresh_until => Freshness::Stale,
            _ => Freshness::Fresh,
        };
        entry.is_recently_used = true;
        Some((freshness, entry))
    }

    /// The kind of records that answered for `host` when it was last known.
    pub(super) fn last_kind(&self, host: &str) -> Option<RecordKind> {
        self.entries.get(host)?.kind
    }

    /// How every name that name servers are asked for was used.
    pub(super) fn usage(&self) -> Vec<(Arc<str>, Usage)> {
        self.entries
            .iter()
            .filter(|(_, entry)| entry.fresh_until.is_some())
            .map(|(name, entry)| (name.clone(), entry.usage))
            .collect()
    }

    /// Keep records that do not age: literals and the hosts file.
    pub(super) fn put_fixed(&mut self, host: &str, records: Records) -> &mut Entry {
        self.insert(
            host,
            Entry {
                answer: Ok(records),
                fresh_until: None,
                // Not read: the entry stays fresh.
                stale_until: Instant::now(),
                is_recently_used: false,
                turns: Turns::default(),
                kind: None,
                usage: Usage::default(),
            },
        )
    }

    /// Keep the outcome of a query, for which `misses` lookups waited, and give what should be served now, which is the
    /// stale answer if asking failed.
    pub(super) fn put(&mut self, host: &str, timed: TimedAnswer, misses: u64, now: Instant) -> Answer {
        let lifetimes = self.lifetimes;
        let fresh_for = match &timed.answer {
            Ok(_) => lifetimes.valid_ttl.unwrap_or(timed.ttl),
            Err(ResolveError::NotFound) => lifetimes.not_found_ttl,
            Err(ResolveError::Other(_)) => lifetimes.error_ttl,
        };
        let fresh_until = now + fresh_for;
        let mut usage = self.entries.get(host).map_or_else(Usage::default, |old| old.usage);
        usage.misses += misses;
        match &timed.answer {
            Ok(_) => usage.succeeded += 1,
            Err(_) => usage.failed += 1,
        }
        let old = self.entries.get_mut(host);
        if let (Err(ResolveError::Other(_)), Some(old)) = (&timed.answer, old) {
            if old.answer.is_ok() && now < old.stale_until {
                old.fresh_until = Some(fresh_until);
                old.usage = usage;
                return old.answer.clone();
            }
        }
        let stale_for = match &timed.answer {
            Ok(_) => lifetimes.stale_ttl,
            Err(_) => Duration::ZERO,
        };
        // Turns go on: a refresh must not send everything to the first record again.
        let (turns, last_kind) = match self.entries.get(host) {
            Some(old) => (old.turns.clone(), old.kind),
            None => (Turns::default(), None),
        };
        let answer = timed.answer.clone();
        self.insert(
            host,
            Entry {
                answer: timed.answer,
                fresh_until: Some(fresh_until),
                stale_until: fresh_until + stale_for,
                is_recently_used: false,
                turns,
                kind: timed.kind.or(last_kind),
                usage,
            },
        );
        answer
    }

    fn insert(&mut self, host: &str, entry: Entry) -> &mut Entry {
        if !self.entries.contains_key(host) {
            while self.entries.len() >= self.capacity {
                self.evict_one();
            }
            self.eviction_order.push_back(host.into());
        }
        match self.entries.entry(host.into()) {
            std::collections::hash_map::Entry::Occupied(mut slot) => {
                slot.insert(entry);
                slot.into_mut()
            }
            std::collections::hash_map::Entry::Vacant(slot) => slot.insert(entry),
        }
    }

    fn evict_one(&mut self) {
        while let Some(name) = self.eviction_order.pop_front() {
            match self.entries.get_mut(&name) {
                Some(entry) if entry.is_recently_used => {
                    entry.is_recently_used = false;
                    self.eviction_order.push_back(name);
                }
                _ => {
                    self.entries.remove(&name);
                    return;
                }
            }
        }
    }
}
