//! The order of the `traditional` flavour: categories of attributes, and inside a category the
//! weights of the attributes, then the older route, and of two that are as old the smaller UUID.
//!
//! A search begins at the category made of what the request could match. That only matters on an
//! unencrypted request: there a route's `snis` always pass, and a category with `snis` above the
//! starting one is not considered. Otherwise every matching route lies at or below the start.
//!
//! Within a category the order below decides alone. The flavour's shortcut of first trying the
//! shortest list of routes that share one matched value is not reproduced: which list is taken is
//! undefined when two are equally short.

use super::draft::{Draft, PathGroup, Place, REGEX_MARK};
use super::name::split_port;
use super::rule::{Flavor, RouteRule};
use std::cmp::Reverse;

/// `hosts` in a category.
pub(super) const HOSTS: u8 = 0x40;
/// `headers` in a category.
pub(super) const HEADERS: u8 = 0x20;
/// `paths` in a category.
pub(super) const PATHS: u8 = 0x10;
/// `methods` in a category.
pub(super) const METHODS: u8 = 0x08;
/// `snis` in a category.
pub(super) const SNIS: u8 = 0x04;

/// The attributes a route has, as a set of bits.
fn category(rule: &RouteRule) -> u8 {
    let bit = |is_present: bool, bit: u8| if is_present { bit } else { 0 };
    bit(!rule.host_names().is_empty(), HOSTS)
        | bit(!rule.headers.is_empty(), HEADERS)
        | bit(!rule.paths.is_empty(), PATHS)
        | bit(!rule.methods.is_empty(), METHODS)
        | bit(!rule.snis.is_empty(), SNIS)
}

/// Splits the rules into one part per path and sorts the parts, first to be tried first.
pub(super) fn order(rules: &[RouteRule]) -> Vec<Draft> {
    let mut drafts = Vec::with_capacity(rules.len());
    for (route, rule) in rules.iter().enumerate() {
        let mut add = |paths: PathGroup| {
            let place = Place::Traditional(sort_key(rule, &paths));
            drafts.push(Draft { route, paths, place });
        };
        if rule.paths.is_empty() {
            add(PathGroup::None);
        }
        for (position, path) in rule.paths.iter().enumerate() {
            add(if path.starts_with(REGEX_MARK) {
                PathGroup::Regex(vec![position])
            } else {
                PathGroup::Plain(vec![position])
            });
        }
    }
    // Stable: of one route, the path that comes first.
    drafts.sort_by(|left, right| left.place.cmp(&right.place));
    drafts
}

/// The first rank of each category, in the order they are tried.
pub(super) fn category_starts(rules: &[RouteRule], drafts: &[Draft]) -> Vec<(u8, u32)> {
    let mut starts: Vec<(u8, u32)> = Vec::new();
    for (rank, draft) in drafts.iter().enumerate() {
        let bits = category(&rules[draft.route]);
        if starts.last().map(|&(last, _)| last) != Some(bits) {
            starts.push((bits, rank as u32));
        }
    }
    starts
}

/// Compared field by field, smaller first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SortKey {
    attributes: Reverse<u32>,
    category: Reverse<u8>,
    sub_weight: Reverse<u8>,
    headers: Reverse<usize>,
    regex_priority: Reverse<i64>,
    path_len: Reverse<usize>,
    created_at: i64,
    /// Own choice: routes of the same second are in the order of their ids, so that it is the same on every node.
    id: Box<str>,
}

fn sort_key(rule: &RouteRule, paths: &PathGroup) -> SortKey {
    let category = category(rule);
    let hosts = rule.host_names();
    let has_wildcard_with_port = hosts
        .iter()
        .any(|host| host.contains('*') && split_port(Flavor::Traditional, host).port.is_some());
    let has_plain_only = !hosts.is_empty() && rule.has_only_plain_hosts();
    SortKey {
        attributes: Reverse(category.count_ones()),
        category: Reverse(category),
        sub_weight: Reverse(
            4 * u8::from(has_wildcard_with_port) + 2 * u8::from(has_plain_only) + u8::from(paths.is_regex()),
        ),
        headers: Reverse(rule.headers.len()),
        regex_priority: Reverse(if paths.is_regex() { rule.regex_priority } else { 0 }),
        path_len: Reverse(paths.plain_len(rule)),
        created_at: rule.created_at,
        id: rule.id.as_str().into(),
    }
}
