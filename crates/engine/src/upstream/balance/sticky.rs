//! Sticky sessions: a cookie names the address; whoever has none, or one of an address that is gone, gets the next in
//! round-robin order and a new cookie.
//!
//! A session stays with an address that is unhealthy until the address is removed. The cookie is a hash of the address:
//! the same on every worker and node, and it tells a client nothing about the network.

use rustc_hash::FxHashMap;
use sha1_smol::Sha1;

use super::address::AddressKey;
use super::round_robin::RoundRobin;
use super::{Avoid, Entry};

/// Digits of a cookie: 80 bits of SHA-1.
const COOKIE_DIGITS: usize = 20;

#[derive(Debug)]
pub(super) struct Sticky {
    by_cookie: FxHashMap<String, u32>,
    round_robin: RoundRobin,
}

impl Sticky {
    pub(super) fn new(entries: &[Entry]) -> Self {
        Self {
            by_cookie: entries
                .iter()
                .enumerate()
                .map(|(position, entry)| (cookie_of(&entry.address.key), position as u32))
                .collect(),
            round_robin: RoundRobin::new(entries),
        }
    }

    /// The cookie names an address that is still there.
    pub(super) fn knows(&self, cookie: &str) -> bool {
        self.by_cookie.contains_key(cookie)
    }

    pub(super) fn pick(
        &self,
        cookie: Option<&str>,
        take_turn: impl FnMut() -> u64,
        avoid: &Avoid<'_>,
    ) -> Option<usize> {
        cookie
            .and_then(|cookie| self.by_cookie.get(cookie))
            .map(|position| *position as usize)
            .filter(|position| !avoid.contains(*position))
            .or_else(|| self.round_robin.pick(take_turn, avoid))
    }
}

/// The cookie that names an address.
#[must_use]
pub(super) fn cookie_of(key: &AddressKey) -> String {
    let mut digest = Sha1::from(format!("{}|{}|{}", key.host, key.ip, key.port))
        .digest()
        .to_string();
    digest.truncate(COOKIE_DIGITS);
    digest
}
