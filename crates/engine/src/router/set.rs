//! Matchers that share a host and a path, searched by whatever still tells them apart.
//!
//! A small set is a list in rank order. A large one is divided by method, by the value of one
//! header or by server name, whichever leaves the least to look at, and its parts are divided in
//! turn; so thousands of routes that differ in one header value cost one binary search.

use super::atc::Facts;
use super::matcher::Matcher;
use super::name::{without_trailing_dot, NamePattern};
use super::replaced::Replaced;
use rustc_hash::FxHashMap;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Up to this many matchers are tried one by one: own choice, a division costs about as much. Few
/// in tests, so that small random sets are divided too.
const LIST_MAX: usize = if cfg!(test) { 2 } else { 8 };
/// A division may hold this many times the matchers it divides (values per route): own choice.
const COPIES_MAX: usize = 4;
/// The rank no matcher has.
pub(super) const NO_RANK: u32 = u32::MAX;

/// What a search has in common for all sets it meets.
#[derive(Clone, Copy)]
pub(super) struct Search<'a> {
    pub(super) matchers: &'a [Matcher],
    /// Routes whose matchers are not considered.
    pub(super) replaced: &'a Replaced,
    pub(super) facts: Facts<'a>,
    /// Matchers of a lower rank are not considered.
    pub(super) floor: u32,
}

impl Search<'_> {
    fn accepts(&self, rank: u32) -> bool {
        let matcher = &self.matchers[rank as usize];
        !self.replaced.contains(matcher.route) && matcher.accepts(&self.facts)
    }
}

/// Matchers by rank.
pub(super) struct MatcherSet {
    lowest: u32,
    shape: Shape,
}

enum Shape {
    List(Box<[u32]>),
    Divided(Box<Division>),
}

struct Division {
    attribute: Attribute,
    /// Sorted by value.
    parts: Vec<(Vec<u8>, MatcherSet)>,
    /// Matchers that do not ask for one of a few exact values of the attribute.
    rest: MatcherSet,
    /// Everything, undivided: for server names on unencrypted requests, where the test passes.
    whole: Option<MatcherSet>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Attribute {
    Method,
    Sni,
    Header(Box<str>),
}

impl MatcherSet {
    /// Builds a set from ranks in ascending order.
    pub(super) fn build(matchers: &[Matcher], ranks: Vec<u32>) -> Self {
        Self::divide(matchers, ranks, &mut Vec::new())
    }

    fn divide(matchers: &[Matcher], ranks: Vec<u32>, used: &mut Vec<Attribute>) -> Self {
        let lowest = ranks.first().copied().unwrap_or(NO_RANK);
        let chosen = if ranks.len() > LIST_MAX {
            choose_attribute(matchers, &ranks, used)
        } else {
            None
        };
        let Some(attribute) = chosen else {
            return Self {
                lowest,
                shape: Shape::List(ranks.into()),
            };
        };
        let mut parts: BTreeMap<Vec<u8>, Vec<u32>> = BTreeMap::new();
        let mut rest = Vec::new();
        for &rank in &ranks {
            let values = exact_values(&matchers[rank as usize], &attribute);
            if values.is_empty() {
                rest.push(rank);
            }
            for value in values {
                let part = parts.entry(value.to_vec()).or_default();
                if part.last() != Some(&rank) {
                    part.push(rank);
                }
            }
        }
        used.push(attribute.clone());
        let whole = (attribute == Attribute::Sni).then(|| Self::divide(matchers, ranks, used));
        let parts = parts
            .into_iter()
            .map(|(value, ranks)| (value, Self::divide(matchers, ranks, used)))
            .collect();
        let rest = Self::divide(matchers, rest, used);
        used.pop();
        Self {
            lowest,
            shape: Shape::Divided(Box::new(Division {
                attribute,
                parts,
                rest,
                whole,
            })),
        }
    }

    /// The lowest rank in the set, [`NO_RANK`] when empty.
    pub(super) fn lowest(&self) -> u32 {
        self.lowest
    }

    /// The lowest rank below `limit` whose matcher accepts the request, else `limit`.
    pub(super) fn best_below(&self, search: &Search<'_>, limit: u32) -> u32 {
        if self.lowest >= limit {
            return limit;
        }
        match &self.shape {
            Shape::List(ranks) => {
                let start = ranks.partition_point(|&rank| rank < search.floor);
                ranks[start..]
                    .iter()
                    .take_while(|&&rank| rank < limit)
                    .find(|&&rank| search.accepts(rank))
                    .copied()
                    .unwrap_or(limit)
            }
            Shape::Divided(division) => division.best_below(search, limit),
        }
    }
}

impl Division {
    fn best_below(&self, search: &Search<'_>, limit: u32) -> u32 {
        let request = search.facts.request;
        let mut best = limit;
        match &self.attribute {
            Attribute::Method => best = self.best_in_part(search, request.method.as_bytes(), best),
            Attribute::Sni => {
                if let (false, Some(whole)) = (request.is_tls, &self.whole) {
                    return whole.best_below(search, limit);
                }
                if let Some(sni) = request.sni {
                    best = self.best_in_part(search, without_trailing_dot(sni).as_bytes(), best);
                }
            }
            Attribute::Header(name) => request.headers.values(name, &mut |value| {
                let found = self.parts.binary_search_by(|(key, _)| compare_to_lowered(key, value));
                if let Some((_, part)) = found.ok().and_then(|at| self.parts.get(at)) {
                    best = part.best_below(search, best);
                }
                true
            }),
        }
        self.rest.best_below(search, best)
    }

    fn best_in_part(&self, search: &Search<'_>, value: &[u8], limit: u32) -> u32 {
        match self.parts.binary_search_by(|(key, _)| key.as_slice().cmp(value)) {
            Ok(at) => self.parts[at].1.best_below(search, limit),
            Err(_) => limit,
        }
    }
}

/// Orders a lower-case key against a value of any case.
fn compare_to_lowered(key: &[u8], value: &[u8]) -> Ordering {
    key.iter().copied().cmp(value.iter().map(u8::to_ascii_lowercase))
}

/// The values one of which the matcher asks for; none when it asks for less or for something else.
fn exact_values<'a>(matcher: &'a Matcher, attribute: &Attribute) -> Vec<&'a [u8]> {
    match attribute {
        Attribute::Method => matcher.methods.iter().map(|method| method.as_bytes()).collect(),
        Attribute::Sni => {
            let exact = |pattern: &'a NamePattern| match pattern {
                NamePattern::Exact(name) => Some(name.as_slice()),
                NamePattern::Suffix(_) | NamePattern::Prefix(_) => None,
            };
            let names: Option<Vec<_>> = matcher.snis.iter().map(exact).collect();
            names.unwrap_or_default()
        }
        Attribute::Header(name) => matcher
            .headers
            .iter()
            .find(|test| test.name == *name && test.is_exact())
            .map(|test| test.values.iter().map(Vec::as_slice).collect())
            .unwrap_or_default(),
    }
}

/// The attribute whose division leaves the fewest matchers to look at, if that is worth it.
fn choose_attribute(matchers: &[Matcher], ranks: &[u32], used: &[Attribute]) -> Option<Attribute> {
    let mut tallies: FxHashMap<Attribute, Tally<'_>> = FxHashMap::default();
    for &rank in ranks {
        let matcher = &matchers[rank as usize];
        let names = matcher.headers.iter().map(|test| Attribute::Header(test.name.clone()));
        for attribute in names.chain([Attribute::Method, Attribute::Sni]) {
            if used.contains(&attribute) {
                continue;
            }
            let values = exact_values(matcher, &attribute);
            if !values.is_empty() {
                tallies.entry(attribute).or_default().add(&values);
            }
        }
    }
    tallies
        .into_iter()
        .filter(|(_, tally)| tally.copies <= ranks.len() * COPIES_MAX)
        .map(|(attribute, tally)| (tally.largest_part() + ranks.len() - tally.matchers, attribute))
        .filter(|(left, _)| left * 4 <= ranks.len() * 3)
        .min()
        .map(|(_, attribute)| attribute)
}

#[derive(Default)]
struct Tally<'a> {
    matchers: usize,
    copies: usize,
    by_value: FxHashMap<&'a [u8], usize>,
}

impl<'a> Tally<'a> {
    fn add(&mut self, values: &[&'a [u8]]) {
        self.matchers += 1;
        self.copies += values.len();
        for value in values {
            *self.by_value.entry(value).or_default() += 1;
        }
    }

    fn largest_part(&self) -> usize {
        self.by_value.values().copied().max().unwrap_or(0)
    }
}
