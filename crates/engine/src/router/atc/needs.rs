//! What every request that passes a test must have, as far as the index can use it.
//!
//! Never more than the test says: a need that is not known is left out, and the test itself is run on each candidate.

use std::collections::BTreeMap;

use atc_router::ast::BinaryOperator;

use super::super::index::HostRule;
use super::super::name::NamePattern;
use super::fields::Field;
use super::test::{NumberTest, Test, TextComparison, TextTest};

/// The index and the sets hold a matcher once per value; more are not worth it (own choice).
const MOST_VALUES: usize = 64;

/// Alternatives by attribute; None: anything.
#[derive(Debug, Default)]
pub(in crate::router) struct Needs {
    pub(in crate::router) hosts: Option<Vec<HostRule>>,
    /// The path begins with one of these.
    pub(in crate::router) path_prefixes: Option<Vec<Vec<u8>>>,
    pub(in crate::router) methods: Option<Vec<String>>,
    pub(in crate::router) server_names: Option<Vec<NamePattern>>,
    /// The port that was connected to is one of these.
    pub(in crate::router) destination_ports: Option<Vec<i64>>,
    /// Some value of the header, whatever its case, is one of these.
    pub(in crate::router) headers: BTreeMap<Box<str>, Vec<String>>,
}

impl Needs {
    pub(super) fn of(test: &Test) -> Self {
        match test {
            Test::All(tests) => tests.iter().map(Self::of).reduce(Self::both).unwrap_or_default(),
            Test::Any(tests) => tests.iter().map(Self::of).reduce(Self::either).unwrap_or_default(),
            Test::Text(test) => Self::of_text(test),
            Test::Number(test) => Self::of_number(test),
            Test::Not(_) | Test::Address(_) => Self::default(),
        }
    }

    fn of_number(test: &NumberTest) -> Self {
        let is_port = test.field == Field::DestinationPort && matches!(test.operator, BinaryOperator::Equals);
        Self {
            destination_ports: is_port.then(|| vec![test.value]),
            ..Self::default()
        }
    }

    fn of_text(test: &TextTest) -> Self {
        let mut needs = Self::default();
        if let (Field::Header(name), TextComparison::Equals(text)) = (&test.field, &test.comparison) {
            // A value with this mark would be read as a regular expression.
            let is_indexable = |text: &String| !text.starts_with("~*") && (text.is_ascii() || !test.is_lowered);
            if let Some(text) = text_of(text).filter(is_indexable) {
                needs.headers.insert(name.clone(), vec![text]);
            }
        }
        if test.is_lowered {
            return needs;
        }
        match (&test.field, &test.comparison) {
            (Field::Host, comparison) => {
                needs.hosts = name_pattern(comparison).map(|name| vec![HostRule { name, port: None }]);
            }
            (Field::ServerName, comparison) => needs.server_names = name_pattern(comparison).map(|name| vec![name]),
            (Field::Method, TextComparison::Equals(text)) => needs.methods = text_of(text).map(|text| vec![text]),
            (Field::Path, TextComparison::Equals(text) | TextComparison::Prefix(text)) => {
                needs.path_prefixes = Some(vec![text.clone()]);
            }
            (Field::Path, TextComparison::Regex { prefixes, .. }) => needs.path_prefixes.clone_from(prefixes),
            _ => {}
        }
        needs
    }

    fn both(self, other: Self) -> Self {
        let mut headers = self.headers;
        for (name, values) in other.headers {
            headers.entry(name).or_insert(values);
        }
        Self {
            hosts: fewer(self.hosts, other.hosts, |_| 0),
            path_prefixes: fewer(self.path_prefixes, other.path_prefixes, |texts| {
                usize::MAX - texts.iter().map(Vec::len).min().unwrap_or(0)
            }),
            methods: fewer(self.methods, other.methods, |_| 0),
            server_names: fewer(self.server_names, other.server_names, |_| 0),
            destination_ports: fewer(self.destination_ports, other.destination_ports, |_| 0),
            headers,
        }
    }

    fn either(self, mut other: Self) -> Self {
        let mut headers = BTreeMap::new();
        for (name, mut values) in self.headers {
            if let Some(more) = other.headers.remove(&name) {
                values.extend(more);
                if values.len() <= MOST_VALUES {
                    headers.insert(name, values);
                }
            }
        }
        Self {
            hosts: joined(self.hosts, other.hosts),
            path_prefixes: joined(self.path_prefixes, other.path_prefixes),
            methods: joined(self.methods, other.methods),
            server_names: joined(self.server_names, other.server_names),
            destination_ports: joined(self.destination_ports, other.destination_ports),
            headers,
        }
    }
}

/// Of two needs that both hold, the one that tells more; `vagueness` decides between as many values.
fn fewer<T>(left: Option<Vec<T>>, right: Option<Vec<T>>, vagueness: impl Fn(&[T]) -> usize) -> Option<Vec<T>> {
    match (left, right) {
        (Some(left), Some(right)) => {
            let is_left = (left.len(), vagueness(&left)) <= (right.len(), vagueness(&right));
            Some(if is_left { left } else { right })
        }
        (left, right) => left.or(right),
    }
}

fn joined<T: PartialEq>(left: Option<Vec<T>>, right: Option<Vec<T>>) -> Option<Vec<T>> {
    let (mut all, more) = (left?, right?);
    for value in more {
        if !all.contains(&value) {
            all.push(value);
        }
    }
    (all.len() <= MOST_VALUES).then_some(all)
}

fn name_pattern(comparison: &TextComparison) -> Option<NamePattern> {
    match comparison {
        TextComparison::Equals(text) => Some(NamePattern::Exact(text.clone())),
        TextComparison::Prefix(text) => Some(NamePattern::Prefix(text.clone())),
        TextComparison::Postfix(text) => Some(NamePattern::Suffix(text.clone())),
        _ => None,
    }
}

fn text_of(text: &[u8]) -> Option<String> {
    String::from_utf8(text.to_vec()).ok()
}
