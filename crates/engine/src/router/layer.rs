//! A set of routes compiled for lookups: matchers in the order they are tried, and the index that finds them.
//!
//! Owns the compilation of rules and the faults found on the way. What several layers are together is the router's.
//! Immutable; a lookup may leave routes out that another layer has in their place.

use std::sync::Arc;

use super::atc::{self, Facts, Needs, Subsystem, Test};
use super::draft::{Draft, PathGroup, Place, REGEX_MARK};
use super::header::HeaderTest;
use super::index::{HostIndex, HostIndexBuilder, HostRule, PathIndex, PathIndexBuilder, RequestHost};
use super::matcher::{Matcher, PathRule};
use super::name::{split_port, without_trailing_dot, NamePattern};
use super::pattern::Patterns;
use super::replaced::Replaced;
use super::request::{RequestKey, RouteMatch};
use super::rule::{self, Flavor, PathHandling, RouteRule, RouterFault};
use super::set::Search;
use super::{compatible, traditional};

/// An immutable set of routes, ready for lookups.
pub(super) struct Layer {
    flavor: Flavor,
    /// In the order they are tried.
    matchers: Vec<Matcher>,
    /// Of each matcher, by rank.
    places: Vec<Place>,
    patterns: Patterns,
    hosts: HostIndex,
    upstream_paths: Vec<UpstreamPath>,
    start: Option<CategoryStart>,
}

/// What a match says about the upstream path, by route.
#[derive(Clone, Copy)]
struct UpstreamPath {
    strip_path: bool,
    path_handling: PathHandling,
}

/// Where a `traditional` search of an unencrypted request begins; absent when no route has `snis`,
/// for then the beginning makes no difference.
struct CategoryStart {
    first_ranks: Vec<(u8, u32)>,
    paths: PathIndex,
    methods: Vec<String>,
    header_names: Vec<Box<str>>,
}

/// The attributes of one rule, compiled; shared by the parts it is split into. Those of an expression are what it needs.
#[derive(Default)]
struct RuleParts {
    methods: Vec<String>,
    hosts: Vec<HostRule>,
    headers: Vec<HeaderTest>,
    snis: Vec<NamePattern>,
    /// Number of the pattern for each regular-expression path.
    patterns: Vec<Option<u32>>,
    path_hints: Option<Vec<Vec<u8>>>,
    needs_tls: Option<bool>,
    test: Option<Arc<Test>>,
}

impl Layer {
    /// Compiles the rules, taking over the regular expressions that `previous` already compiled; they are nearly all of
    /// the cost.
    ///
    /// # Errors
    /// Every fault of every rule, in rule order.
    pub(super) fn build(flavor: Flavor, rules: &[RouteRule], previous: &[&Patterns]) -> Result<Self, Vec<RouterFault>> {
        let mut compiler = Compiler {
            flavor,
            patterns: Patterns::new(flavor),
            previous,
            faults: Vec::new(),
        };
        let parts: Vec<RuleParts> = rules
            .iter()
            .enumerate()
            .map(|(route, rule)| compiler.compile(route, rule))
            .collect();
        let Compiler { patterns, faults, .. } = compiler;
        if !faults.is_empty() {
            return Err(faults);
        }

        let drafts = match flavor {
            Flavor::TraditionalCompatible | Flavor::Expressions => compatible::order(rules),
            Flavor::Traditional => traditional::order(rules),
        };
        let matchers: Vec<Matcher> = drafts
            .iter()
            .map(|draft| matcher(draft, &rules[draft.route], &parts[draft.route]))
            .collect();
        let mut hosts = HostIndexBuilder::default();
        for (rank, matcher) in matchers.iter().enumerate() {
            hosts.add(rank as u32, &parts[matcher.route].hosts, &matcher.path);
        }
        let wildcard_needs_text = flavor == Flavor::Traditional;
        let has_snis = rules.iter().any(|rule| !rule.snis.is_empty());
        let start = (flavor == Flavor::Traditional && has_snis).then(|| CategoryStart {
            first_ranks: traditional::category_starts(rules, &drafts),
            paths: all_paths(&matchers, &patterns),
            methods: sorted_distinct(matchers.iter().flat_map(|matcher| matcher.methods.iter().cloned())),
            header_names: sorted_distinct(
                matchers
                    .iter()
                    .flat_map(|matcher| matcher.headers.iter().map(|test| test.name.clone())),
            ),
        });
        Ok(Self {
            flavor,
            hosts: hosts.finish(&matchers, &patterns, wildcard_needs_text),
            upstream_paths: rules
                .iter()
                .map(|rule| UpstreamPath {
                    strip_path: rule.strip_path,
                    path_handling: flavor.effective_path_handling(rule.path_handling),
                })
                .collect(),
            matchers,
            places: drafts.into_iter().map(|draft| draft.place).collect(),
            patterns,
            start,
        })
    }

    /// The flavour it was compiled for.
    pub(super) fn flavor(&self) -> Flavor {
        self.flavor
    }

    /// How many routes it was compiled of.
    pub(super) fn route_count(&self) -> usize {
        self.upstream_paths.len()
    }

    /// Its compiled regular expressions.
    pub(super) fn patterns(&self) -> &Patterns {
        &self.patterns
    }

    /// The places of its matchers, by rank.
    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    /// Where a search begins depends on all routes together.
    pub(super) fn has_start(&self) -> bool {
        self.start.is_some()
    }

    /// The rank of the first matcher that accepts the request and whose route is not left out, else `NO_RANK`.
    pub(super) fn best(&self, facts: Facts<'_>, replaced: &Replaced) -> u32 {
        let search = Search {
            matchers: &self.matchers,
            replaced,
            facts,
            floor: self.floor(facts.request, &facts.host),
        };
        self.hosts.best(&search, &self.patterns)
    }

    /// The match of the matcher with a rank that `best` gave.
    pub(super) fn found(&self, rank: u32, facts: &Facts<'_>) -> Option<RouteMatch> {
        let request = facts.request;
        let matcher = self.matchers.get(rank as usize)?;
        let upstream_path = self.upstream_paths.get(matcher.route)?;
        if let Some(test) = &matcher.test {
            let found = test.find(facts)?;
            return Some(RouteMatch {
                route: matcher.route,
                matched_prefix_len: found.path_len.map(|len| len.min(request.path.len())),
                strip_path: upstream_path.strip_path,
                path_handling: upstream_path.path_handling,
                captures: found.captures,
            });
        }
        let (matched_prefix_len, captures) = match &matcher.path {
            PathRule::Any | PathRule::Hints(_) => (None, None),
            PathRule::Prefixes(prefixes) => (prefixes.first().map(Vec::len), None),
            PathRule::Patterns(numbers) => numbers
                .iter()
                .filter_map(|&number| self.patterns.get(number))
                .find_map(|pattern| pattern.run(self.flavor, request.path))
                .map_or((None, None), |(len, captures)| (Some(len), captures)),
        };
        Some(RouteMatch {
            route: matcher.route,
            matched_prefix_len,
            strip_path: upstream_path.strip_path,
            path_handling: upstream_path.path_handling,
            captures,
        })
    }

    /// The rank before which no matcher is considered.
    fn floor(&self, request: &RequestKey<'_>, host: &RequestHost<'_>) -> u32 {
        let Some(start) = self.start.as_ref().filter(|_| !request.is_tls) else {
            return 0;
        };
        let category = start.category_of(request, self.hosts.has_host_for(host), &self.patterns);
        start
            .first_ranks
            .iter()
            .find(|(bits, _)| *bits == category)
            .map_or(0, |&(_, first_rank)| first_rank)
    }
}

impl CategoryStart {
    /// The attributes an unencrypted request could match.
    fn category_of(&self, request: &RequestKey<'_>, has_host: bool, patterns: &Patterns) -> u8 {
        let has_method = self
            .methods
            .binary_search_by(|method| method.as_str().cmp(request.method))
            .is_ok();
        let has_header = self.header_names.iter().any(|name| {
            let mut is_present = false;
            request.headers.values(name, &mut |_| {
                is_present = true;
                false
            });
            is_present
        });
        let has_path = self.paths.has_path_for(request.path, patterns);
        [
            (has_host, traditional::HOSTS),
            (has_header, traditional::HEADERS),
            (has_path, traditional::PATHS),
            (has_method, traditional::METHODS),
        ]
        .into_iter()
        .filter(|&(is_hit, _)| is_hit)
        .fold(0, |category, (_, bit)| category | bit)
    }
}

/// Turns rules into their compiled attributes and collects faults.
struct Compiler<'a> {
    flavor: Flavor,
    patterns: Patterns,
    previous: &'a [&'a Patterns],
    faults: Vec<RouterFault>,
}

impl Compiler<'_> {
    fn compile(&mut self, route: usize, rule: &RouteRule) -> RuleParts {
        let needs_tls = (self.flavor == Flavor::Expressions)
            .then(|| needed_tls(&rule.protocols))
            .flatten();
        if let Some(source) = rule.expression.as_deref() {
            let parts = self.compile_expression(route, source);
            return RuleParts { needs_tls, ..parts };
        }
        let mut hosts = Vec::with_capacity(rule.host_names().len());
        for (position, host) in rule.host_names().iter().enumerate() {
            let split = split_port(self.flavor, host);
            match NamePattern::parse(split.name) {
                Ok(name) => hosts.push(HostRule { name, port: split.port }),
                Err(message) => self.fault(route, format!("hosts[{position}]"), message),
            }
        }
        let mut headers = Vec::with_capacity(rule.headers.len());
        for (name, values) in &rule.headers {
            match HeaderTest::compile(self.flavor, name, values) {
                Ok(test) => headers.push(test),
                Err(faults) => {
                    for (position, message) in faults {
                        self.fault(route, format!("headers.{name}[{position}]"), message);
                    }
                }
            }
        }
        let mut snis = Vec::with_capacity(rule.snis.len());
        for (position, sni) in rule.snis.iter().enumerate() {
            match NamePattern::parse(without_trailing_dot(sni)) {
                Ok(name) => snis.push(name),
                Err(message) => self.fault(route, format!("snis[{position}]"), message),
            }
        }
        let mut patterns = Vec::with_capacity(rule.paths.len());
        for (position, path) in rule.paths.iter().enumerate() {
            let number = path.strip_prefix(REGEX_MARK).and_then(|text| {
                self.patterns
                    .add(text, self.previous)
                    .map_err(|error| {
                        let message = format!("invalid regex: '{text}' ({error})");
                        self.fault(route, format!("paths[{position}]"), message);
                    })
                    .ok()
            });
            patterns.push(number);
        }
        RuleParts {
            methods: rule.methods.clone(),
            hosts,
            headers,
            snis,
            patterns,
            needs_tls,
            ..RuleParts::default()
        }
    }

    fn compile_expression(&mut self, route: usize, source: &str) -> RuleParts {
        if self.flavor != Flavor::Expressions {
            self.fault(route, "expression".to_owned(), rule::EXPRESSIONS_UNKNOWN.to_owned());
            return RuleParts::default();
        }
        let compiled = match atc::compile(source, Subsystem::Http) {
            Ok(compiled) => compiled,
            Err(faults) => {
                for fault in faults {
                    self.fault(route, "expression".to_owned(), fault);
                }
                return RuleParts::default();
            }
        };
        let Needs {
            hosts,
            path_prefixes,
            methods,
            server_names,
            headers,
            ..
        } = compiled.needs;
        let headers = headers
            .iter()
            .filter_map(|(name, values)| HeaderTest::compile(self.flavor, name, values).ok())
            .collect();
        RuleParts {
            methods: methods.unwrap_or_default(),
            hosts: hosts.unwrap_or_default(),
            headers,
            snis: server_names.unwrap_or_default(),
            path_hints: path_prefixes,
            test: Some(Arc::new(compiled.test)),
            ..RuleParts::default()
        }
    }

    fn fault(&mut self, route: usize, field: String, message: String) {
        self.faults.push(RouterFault { route, field, message });
    }
}

fn matcher(draft: &Draft, rule: &RouteRule, parts: &RuleParts) -> Matcher {
    let path = match &draft.paths {
        PathGroup::None => match &parts.path_hints {
            Some(hints) => PathRule::Hints(hints.clone()),
            None => PathRule::Any,
        },
        PathGroup::Plain(positions) => PathRule::Prefixes(
            positions
                .iter()
                .map(|&position| rule.paths[position].as_bytes().to_vec())
                .collect(),
        ),
        PathGroup::Regex(positions) => PathRule::Patterns(
            positions
                .iter()
                .filter_map(|&position| parts.patterns[position])
                .collect(),
        ),
    };
    Matcher {
        route: draft.route,
        methods: parts.methods.clone(),
        headers: parts.headers.clone(),
        snis: parts.snis.clone(),
        path,
        sources: rule.sources.clone(),
        destinations: rule.destinations.clone(),
        needs_tls: parts.needs_tls,
        test: parts.test.clone(),
    }
}

/// What the protocols of a route ask of the connection in the `expressions` flavour; a route of `https` alone is found
/// without TLS too, so that the gate after the match can redirect.
fn needed_tls(protocols: &[String]) -> Option<bool> {
    if protocols == ["https"] {
        return None;
    }
    let is_any = |names: [&str; 3]| protocols.iter().any(|protocol| names.contains(&protocol.as_str()));
    match (is_any(["http", "grpc", "ws"]), is_any(["https", "grpcs", "wss"])) {
        (true, false) => Some(false),
        (false, true) => Some(true),
        _ => None,
    }
}

/// Every path of every matcher, whatever its host.
fn all_paths(matchers: &[Matcher], patterns: &Patterns) -> PathIndex {
    let mut builder = PathIndexBuilder::default();
    for (rank, matcher) in matchers.iter().enumerate() {
        builder.add(rank as u32, &matcher.path);
    }
    builder.finish(matchers, patterns)
}

fn sorted_distinct<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.collect();
    values.sort();
    values.dedup();
    values
}
