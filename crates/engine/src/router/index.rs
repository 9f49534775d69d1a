//! Where matchers are found: by host, then by path, then in a [`MatcherSet`].
//!
//! A lookup visits the buckets of the exact host, of each wildcard that fits and of "any host";
//! in each it walks the path once. Buckets, nodes and sets know the lowest rank they hold and are
//! skipped when a better match is already known.

use super::matcher::{Matcher, PathRule};
use super::name::NamePattern;
use super::pattern::Patterns;
use super::pattern_file::PatternFile;
use super::set::{MatcherSet, Search, NO_RANK};
use super::trie::Trie;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// Matchers of one host by path.
pub(super) struct PathIndex {
    lowest: u32,
    pathless: MatcherSet,
    by_prefix: Trie<PathNode>,
    filed: Vec<FiledPattern>,
}

/// What is filed under one literal prefix.
struct PathNode {
    lowest: u32,
    /// Matchers whose plain path this prefix is.
    plain: MatcherSet,
    patterns: PatternFile,
}

/// The matchers that share one regular expression.
struct FiledPattern {
    pattern: u32,
    matchers: MatcherSet,
}

impl PathIndex {
    /// The lowest rank below `limit` that accepts the request, else `limit`.
    fn best_below(&self, search: &Search<'_>, patterns: &Patterns, limit: u32) -> u32 {
        if self.lowest >= limit {
            return limit;
        }
        let mut best = limit;
        let path = search.facts.request.path;
        for (_, node) in self.by_prefix.prefixes_of(path) {
            if node.lowest >= best {
                continue;
            }
            best = node.plain.best_below(search, best);
            node.patterns.visit(path, &mut |number| {
                let Some(filed) = self.filed.get(number).filter(|filed| filed.matchers.lowest() < best) else {
                    return;
                };
                // The expression costs more than the other tests, so it is run last.
                let found = filed.matchers.best_below(search, best);
                if found < best && filed.accepts(path, patterns) {
                    best = found;
                }
            });
        }
        self.pathless.best_below(search, best)
    }

    /// Whether any path, whatever else its route asks for, matches.
    pub(super) fn has_path_for(&self, path: &[u8], patterns: &Patterns) -> bool {
        self.by_prefix.prefixes_of(path).any(|(_, node)| {
            let mut is_found = node.plain.lowest() != NO_RANK;
            node.patterns.visit(path, &mut |number| {
                is_found = is_found
                    || self
                        .filed
                        .get(number)
                        .is_some_and(|filed| filed.accepts(path, patterns));
            });
            is_found
        })
    }
}

impl FiledPattern {
    fn accepts(&self, path: &[u8], patterns: &Patterns) -> bool {
        patterns.get(self.pattern).is_some_and(|pattern| pattern.is_match(path))
    }
}

/// Collects matchers, which must be added in rank order, into a [`PathIndex`].
#[derive(Default)]
pub(super) struct PathIndexBuilder {
    pathless: Vec<u32>,
    plain: BTreeMap<Vec<u8>, Vec<u32>>,
    patterns: BTreeMap<u32, Vec<u32>>,
}

impl PathIndexBuilder {
    pub(super) fn add(&mut self, rank: u32, path: &PathRule) {
        match path {
            PathRule::Any => push_once(&mut self.pathless, rank),
            PathRule::Prefixes(prefixes) | PathRule::Hints(prefixes) => {
                for prefix in prefixes {
                    push_once(self.plain.entry(prefix.clone()).or_default(), rank);
                }
            }
            PathRule::Patterns(numbers) => {
                for &number in numbers {
                    push_once(self.patterns.entry(number).or_default(), rank);
                }
            }
        }
    }

    pub(super) fn finish(self, matchers: &[Matcher], patterns: &Patterns) -> PathIndex {
        let mut nodes: BTreeMap<Vec<u8>, (Vec<u32>, Vec<usize>)> = self
            .plain
            .into_iter()
            .map(|(prefix, ranks)| (prefix, (ranks, Vec::new())))
            .collect();
        let mut filed = Vec::with_capacity(self.patterns.len());
        for (pattern, ranks) in self.patterns {
            let prefixes = patterns.get(pattern).map(|pattern| pattern.prefixes.as_slice());
            for prefix in prefixes.unwrap_or_default() {
                nodes.entry(prefix.clone()).or_default().1.push(filed.len());
            }
            filed.push(FiledPattern {
                pattern,
                matchers: MatcherSet::build(matchers, ranks),
            });
        }
        let lowest_filed = |number: &usize| filed.get(*number).map_or(NO_RANK, |entry| entry.matchers.lowest());
        let required = |number: &usize| patterns.get(filed.get(*number)?.pattern)?.required.as_deref();
        let pathless = MatcherSet::build(matchers, self.pathless);
        let mut lowest = pathless.lowest();
        let by_prefix = Trie::build(nodes.into_iter().map(|(prefix, (ranks, mut numbers))| {
            numbers.sort_by_key(lowest_filed);
            let plain = MatcherSet::build(matchers, ranks);
            let node = PathNode {
                lowest: numbers.first().map_or(NO_RANK, lowest_filed).min(plain.lowest()),
                plain,
                patterns: PatternFile::build(numbers, required),
            };
            lowest = lowest.min(node.lowest);
            (prefix, node)
        }));
        PathIndex {
            lowest,
            pathless,
            by_prefix,
            filed,
        }
    }
}

/// Adds a rank that may have been added just before, when a route names one value twice.
fn push_once(ranks: &mut Vec<u32>, rank: u32) {
    if ranks.last() != Some(&rank) {
        ranks.push(rank);
    }
}

/// A configured host: its name and, when written, its port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct HostRule {
    pub(super) name: NamePattern,
    pub(super) port: Option<u16>,
}

/// The request's host, split.
#[derive(Clone, Copy)]
pub(super) struct RequestHost<'a> {
    pub(super) name: &'a [u8],
    /// The port written in the header, or the one the flavour assumes.
    pub(super) port: u16,
}

/// All matchers by host.
pub(super) struct HostIndex {
    exact: FxHashMap<Vec<u8>, PortTable>,
    suffixes: Trie<PortTable>,
    prefixes: Trie<PortTable>,
    /// Matchers without hosts.
    hostless: PathIndex,
    /// Whether `*` stands for at least one byte.
    wildcard_needs_text: bool,
}

/// The matchers of one host name by port.
#[derive(Default)]
struct PortTable {
    any_port: Option<PathIndex>,
    by_port: FxHashMap<u16, PathIndex>,
}

impl PortTable {
    fn indexes(&self, port: u16) -> impl Iterator<Item = &PathIndex> {
        self.any_port.iter().chain(self.by_port.get(&port))
    }
}

impl HostIndex {
    /// The lowest rank that accepts the request, [`NO_RANK`] when none does.
    pub(super) fn best(&self, search: &Search<'_>, patterns: &Patterns) -> u32 {
        let mut best = NO_RANK;
        for index in self.indexes(&search.facts.host) {
            best = index.best_below(search, patterns, best);
        }
        self.hostless.best_below(search, patterns, best)
    }

    /// Whether any configured host fits.
    pub(super) fn has_host_for(&self, host: &RequestHost<'_>) -> bool {
        self.indexes(host).next().is_some()
    }

    fn indexes<'a>(&'a self, host: &RequestHost<'a>) -> impl Iterator<Item = &'a PathIndex> {
        let RequestHost { name, port } = *host;
        let needs_text = self.wildcard_needs_text;
        self.exact
            .get(name)
            .into_iter()
            .chain(
                self.suffixes
                    .suffixes_of(name)
                    .chain(self.prefixes.prefixes_of(name))
                    .filter(move |(len, _)| !needs_text || *len < name.len())
                    .map(|(_, table)| table),
            )
            .flat_map(move |table| table.indexes(port))
    }
}

/// Collects matchers, which must be added in rank order, into a [`HostIndex`].
#[derive(Default)]
pub(super) struct HostIndexBuilder {
    hostless: PathIndexBuilder,
    by_host: FxHashMap<HostRule, PathIndexBuilder>,
}

impl HostIndexBuilder {
    pub(super) fn add(&mut self, rank: u32, hosts: &[HostRule], path: &PathRule) {
        if hosts.is_empty() {
            self.hostless.add(rank, path);
        }
        for host in hosts {
            self.by_host.entry(host.clone()).or_default().add(rank, path);
        }
    }

    pub(super) fn finish(self, matchers: &[Matcher], patterns: &Patterns, wildcard_needs_text: bool) -> HostIndex {
        let mut exact: FxHashMap<Vec<u8>, PortTable> = FxHashMap::default();
        let mut suffixes: FxHashMap<Vec<u8>, PortTable> = FxHashMap::default();
        let mut prefixes: FxHashMap<Vec<u8>, PortTable> = FxHashMap::default();
        for (host, builder) in self.by_host {
            let index = builder.finish(matchers, patterns);
            let table = match host.name {
                NamePattern::Exact(name) => exact.entry(name).or_default(),
                NamePattern::Suffix(text) => suffixes.entry(text.into_iter().rev().collect()).or_default(),
                NamePattern::Prefix(text) => prefixes.entry(text).or_default(),
            };
            match host.port {
                None => table.any_port = Some(index),
                Some(port) => {
                    table.by_port.insert(port, index);
                }
            }
        }
        HostIndex {
            exact,
            suffixes: Trie::build(suffixes),
            prefixes: Trie::build(prefixes),
            hostless: self.hostless.finish(matchers, patterns),
            wildcard_needs_text,
        }
    }
}
