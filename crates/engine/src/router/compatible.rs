//! The order of the `traditional_compatible` flavour, and of `expressions`, which puts expressions before it.
//!
//! More attributes first, then plain hosts, more headers, regular-expression paths, greater
//! `regex_priority`, longer path, and last the greater UUID. This is the documented layout of the
//! 64-bit priority; fields are compared as numbers instead of being packed, so that a negative or
//! very large `regex_priority` sorts where it should.

use super::draft::{Draft, PathGroup, Place, REGEX_MARK};
use super::rule::RouteRule;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Namespace of the UUIDs of split routes: 7f145bf9-0dce-4f91-98eb-debbce4b9f6b.
const SPLIT_NAMESPACE: [u8; 16] = [
    0x7f, 0x14, 0x5b, 0xf9, 0x0d, 0xce, 0x4f, 0x91, 0x98, 0xeb, 0xde, 0xbb, 0xce, 0x4b, 0x9f, 0x6b,
];
/// The layout gives the header count 8 bits.
const HEADER_COUNT_MAX: usize = 0xff;
/// The layout gives the path length 19 bits.
const PATH_LEN_MASK: usize = 0x7ffff;

/// Compared field by field, greater first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Priority {
    attributes: usize,
    has_only_plain_hosts: bool,
    headers: usize,
    is_regex: bool,
    regex_priority: i64,
    path_len: usize,
}

/// Splits the rules and sorts the parts, first to be tried first.
pub(super) fn order(rules: &[RouteRule]) -> Vec<Draft> {
    let mut drafts = Vec::with_capacity(rules.len());
    for (route, rule) in rules.iter().enumerate() {
        if rule.expression.is_some() {
            drafts.push(Draft {
                route,
                paths: PathGroup::None,
                place: Place::Expression(Reverse((rule.priority, rule.id.as_str().into()))),
            });
            continue;
        }
        let groups = split(rule);
        let is_split = groups.len() > 1;
        for (index, paths) in groups.into_iter().enumerate() {
            let id = if is_split {
                split_id(&rule.id, index + 1).into()
            } else {
                rule.id.as_str().into()
            };
            let place = Place::Compatible(Reverse((priority(rule, &paths), id)));
            drafts.push(Draft { route, paths, place });
        }
    }
    drafts.sort_by(|left, right| left.place.cmp(&right.place));
    drafts
}

/// Regular expressions in one group, plain paths by length, shorter first (own choice).
fn split(rule: &RouteRule) -> Vec<PathGroup> {
    if rule.paths.is_empty() {
        return vec![PathGroup::None];
    }
    let mut regexes = Vec::new();
    let mut by_len: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (position, path) in rule.paths.iter().enumerate() {
        if path.starts_with(REGEX_MARK) {
            regexes.push(position);
        } else {
            by_len.entry(path.len()).or_default().push(position);
        }
    }
    let regexes = (!regexes.is_empty()).then_some(PathGroup::Regex(regexes));
    regexes
        .into_iter()
        .chain(by_len.into_values().map(PathGroup::Plain))
        .collect()
}

fn priority(rule: &RouteRule, paths: &PathGroup) -> Priority {
    let present = [
        !rule.sources.is_empty(),
        !rule.destinations.is_empty(),
        !rule.methods.is_empty(),
        !rule.host_names().is_empty(),
        !rule.headers.is_empty(),
        !rule.snis.is_empty(),
        !rule.paths.is_empty(),
    ];
    Priority {
        attributes: present.into_iter().filter(|&is_present| is_present).count(),
        has_only_plain_hosts: rule.has_only_plain_hosts(),
        headers: rule.headers.len().min(HEADER_COUNT_MAX),
        is_regex: paths.is_regex(),
        regex_priority: if paths.is_regex() { rule.regex_priority } else { 0 },
        path_len: paths.plain_len(rule) & PATH_LEN_MASK,
    }
}

/// The version 5 UUID of a split route, from the route's id and the group's number.
///
/// Source: RFC 9562 clause 5.5.
pub(super) fn split_id(route_id: &str, group: usize) -> String {
    let mut digest = sha1_smol::Sha1::new();
    digest.update(&SPLIT_NAMESPACE);
    digest.update(format!("{route_id}#{group}").as_bytes());
    let mut bytes = digest.digest().bytes();
    bytes[6] = (bytes[6] & 0x0f) | 0x50;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let mut text = String::with_capacity(36);
    for (position, byte) in bytes[..16].iter().enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_id_is_the_version_5_uuid_of_route_and_group() {
        assert_eq!(
            split_id("a4e27ed0-bc9e-4a3b-8e9a-1f2f3c4d5e6f", 1),
            "3a4e6eb1-dbcb-554a-add4-13f7ce4fc4cd"
        );
        assert_eq!(
            split_id("a4e27ed0-bc9e-4a3b-8e9a-1f2f3c4d5e6f", 12),
            "c8d3bf5b-aec8-5618-b4e2-b3699ab0c310"
        );
    }
}
