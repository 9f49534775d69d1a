//! A compiled expression and its evaluation, with the meaning that the crate's interpreter gives it.
//!
//! Texts are compared as bytes: a request's path or header need not be UTF-8.

use std::borrow::Cow;
use std::net::IpAddr;

use atc_router::ast::{BinaryOperator, Expression, LogicalExpression, Predicate, Value};
use ipnet::IpNet;
use memchr::memmem;
use regex_automata::meta::Regex;
use regex_automata::PatternID;

use super::super::expression;
use super::super::pattern::literal_prefixes;
use super::super::request::Captures;
use super::fields::{Field, Values};

/// The one character outside of ASCII whose lower case is in it. It stays as it is, unlike in the crate: otherwise no
/// header could be indexed by its value.
const KELVIN: char = '\u{212a}';

/// What a request or a stream must satisfy.
#[derive(Debug)]
pub(in crate::router) enum Test {
    All(Vec<Test>),
    Any(Vec<Test>),
    Not(Box<Test>),
    Text(TextTest),
    Number(NumberTest),
    Address(AddressTest),
}

/// A comparison of a text field.
#[derive(Debug)]
pub(in crate::router) struct TextTest {
    pub(super) field: Field,
    pub(super) is_lowered: bool,
    /// One value suffices; otherwise all have to pass.
    is_any: bool,
    pub(super) comparison: TextComparison,
}

#[derive(Debug)]
pub(super) enum TextComparison {
    Equals(Vec<u8>),
    NotEquals(Vec<u8>),
    Prefix(Vec<u8>),
    Postfix(Vec<u8>),
    Contains(Vec<u8>),
    Regex {
        regex: Regex,
        /// Every match begins with one of these; None when nothing is known.
        prefixes: Option<Vec<Vec<u8>>>,
    },
}

/// A comparison of a number.
#[derive(Debug)]
pub(in crate::router) struct NumberTest {
    pub(super) field: Field,
    pub(super) operator: BinaryOperator,
    pub(super) value: i64,
}

/// A comparison of an address.
#[derive(Debug)]
pub(in crate::router) struct AddressTest {
    field: Field,
    comparison: AddressComparison,
}

#[derive(Debug)]
enum AddressComparison {
    Equals(IpAddr),
    NotEquals(IpAddr),
    In(IpNet),
    NotIn(IpNet),
}

/// What a match says of the path and of captured text.
#[derive(Debug, Default)]
pub(in crate::router) struct Found {
    /// Length of the text that the path matched, counted from its beginning.
    pub(in crate::router) path_len: Option<usize>,
    pub(in crate::router) captures: Option<Captures>,
}

impl Test {
    /// Compiles a checked expression.
    ///
    /// # Errors
    /// Every fault that only compiling shows.
    pub(super) fn compile(expression: &Expression) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        match Self::build(expression, &mut faults) {
            Some(test) if faults.is_empty() => Ok(test),
            _ => Err(faults),
        }
    }

    fn build(expression: &Expression, faults: &mut Vec<String>) -> Option<Self> {
        let logical = match expression {
            Expression::Predicate(predicate) => {
                return predicate_test(predicate).map_err(|fault| faults.push(fault)).ok();
            }
            Expression::Logical(logical) => logical.as_ref(),
        };
        match logical {
            LogicalExpression::And(left, right) => {
                let (left, right) = (Self::build(left, faults), Self::build(right, faults));
                let (left, right) = (left?, right?);
                Some(match left {
                    Self::All(mut tests) => {
                        tests.push(right);
                        Self::All(tests)
                    }
                    other => Self::All(vec![other, right]),
                })
            }
            LogicalExpression::Or(left, right) => {
                let (left, right) = (Self::build(left, faults), Self::build(right, faults));
                let (left, right) = (left?, right?);
                Some(match left {
                    Self::Any(mut tests) => {
                        tests.push(right);
                        Self::Any(tests)
                    }
                    other => Self::Any(vec![other, right]),
                })
            }
            LogicalExpression::Not(inner) => Self::build(inner, faults).map(|inner| Self::Not(Box::new(inner))),
        }
    }

    /// Whether the request passes.
    pub(in crate::router) fn accepts(&self, facts: &impl Values) -> bool {
        self.run(facts, &mut None)
    }

    /// What the match says; `None` when the request does not pass.
    pub(in crate::router) fn find(&self, facts: &impl Values) -> Option<Found> {
        let mut found = Some(Found::default());
        self.run(facts, &mut found).then_some(found)?
    }

    fn run(&self, facts: &impl Values, found: &mut Option<Found>) -> bool {
        match self {
            Self::All(tests) => tests.iter().all(|test| test.run(facts, found)),
            Self::Any(tests) => tests.iter().any(|test| test.run(facts, found)),
            Self::Not(test) => !test.run(facts, found),
            Self::Text(test) => test.run(facts, found),
            Self::Number(test) => test.accepts(facts),
            Self::Address(test) => test.accepts(facts),
        }
    }
}

fn predicate_test(predicate: &Predicate) -> Result<Test, String> {
    let field = Field::parse(&predicate.lhs.var_name)?;
    let (is_lowered, is_any) = predicate.lhs.get_transformations();
    let mismatch = || "Type mismatch between the LHS and RHS values of predicate".to_owned();
    let comparison = match (&predicate.rhs, &predicate.op) {
        (Value::Int(value), operator) => {
            let operator = copy_of(operator);
            return Ok(Test::Number(NumberTest {
                field,
                operator,
                value: *value,
            }));
        }
        (Value::IpAddr(address), BinaryOperator::Equals) => {
            let comparison = AddressComparison::Equals(*address);
            return Ok(Test::Address(AddressTest { field, comparison }));
        }
        (Value::IpAddr(address), BinaryOperator::NotEquals) => {
            let comparison = AddressComparison::NotEquals(*address);
            return Ok(Test::Address(AddressTest { field, comparison }));
        }
        (Value::IpCidr(network), operator @ (BinaryOperator::In | BinaryOperator::NotIn)) => {
            let network =
                IpNet::new(network.first_address(), network.network_length()).map_err(|error| error.to_string())?;
            let comparison = match operator {
                BinaryOperator::In => AddressComparison::In(network),
                _ => AddressComparison::NotIn(network),
            };
            return Ok(Test::Address(AddressTest { field, comparison }));
        }
        (Value::Regex(regex), BinaryOperator::Regex) => {
            let (regex, hir) = expression::compile(regex.as_str())?;
            let prefixes = literal_prefixes(&hir);
            TextComparison::Regex { regex, prefixes }
        }
        (Value::String(text), operator) => {
            let text = text.clone().into_bytes();
            match operator {
                BinaryOperator::Equals => TextComparison::Equals(text),
                BinaryOperator::NotEquals => TextComparison::NotEquals(text),
                BinaryOperator::Prefix => TextComparison::Prefix(text),
                BinaryOperator::Postfix => TextComparison::Postfix(text),
                BinaryOperator::Contains => TextComparison::Contains(text),
                _ => return Err(mismatch()),
            }
        }
        _ => return Err(mismatch()),
    };
    Ok(Test::Text(TextTest {
        field,
        is_lowered,
        is_any,
        comparison,
    }))
}

/// The crate's operators cannot be copied.
fn copy_of(operator: &BinaryOperator) -> BinaryOperator {
    match operator {
        BinaryOperator::NotEquals => BinaryOperator::NotEquals,
        BinaryOperator::Greater => BinaryOperator::Greater,
        BinaryOperator::GreaterOrEqual => BinaryOperator::GreaterOrEqual,
        BinaryOperator::Less => BinaryOperator::Less,
        BinaryOperator::LessOrEqual => BinaryOperator::LessOrEqual,
        _ => BinaryOperator::Equals,
    }
}

impl TextTest {
    /// A field without value fails whatever is asked of it.
    fn run(&self, facts: &impl Values, found: &mut Option<Found>) -> bool {
        let mut has_value = false;
        let mut is_passed = !self.is_any;
        facts.texts(&self.field, &mut |value| {
            has_value = true;
            let value = if self.is_lowered { lowered(value) } else { value.into() };
            let passes = self.passes(&value, found);
            if passes == self.is_any {
                is_passed = passes;
                return false;
            }
            true
        });
        has_value && is_passed
    }

    fn passes(&self, value: &[u8], found: &mut Option<Found>) -> bool {
        let (passes, matched_len) = match &self.comparison {
            TextComparison::Equals(text) => (value == text, text.len()),
            TextComparison::NotEquals(text) => return value != text,
            TextComparison::Prefix(text) => (value.starts_with(text), text.len()),
            TextComparison::Postfix(text) => (value.ends_with(text), text.len()),
            TextComparison::Contains(text) => return memmem::find(value, text).is_some(),
            TextComparison::Regex { regex, .. } => {
                let Some(found) = found else {
                    return regex.is_match(value);
                };
                match captured(regex, value, found) {
                    Some(len) => (true, len),
                    None => (false, 0),
                }
            }
        };
        if let (true, Field::Path, Some(found)) = (passes, &self.field, found) {
            found.path_len = Some(matched_len);
        }
        passes
    }
}

/// The length of the match; groups are added to those of earlier expressions.
fn captured(regex: &Regex, value: &[u8], found: &mut Found) -> Option<usize> {
    if regex.captures_len() == 1 {
        return regex.find(value).map(|found| found.len());
    }
    let mut groups = regex.create_captures();
    regex.captures(value, &mut groups);
    let len = groups.get_match()?.len();
    let captures = found.captures.get_or_insert_with(Captures::default);
    let names = regex.group_info().pattern_names(PatternID::ZERO);
    for ((number, span), name) in groups.iter().enumerate().zip(names) {
        if captures.unnamed.len() <= number {
            captures.unnamed.resize(number + 1, None);
        }
        let text = span.and_then(|span| value.get(span.range())).map(<[u8]>::to_vec);
        if text.is_none() {
            continue;
        }
        captures.unnamed[number].clone_from(&text);
        if let Some(name) = name {
            captures.named.retain(|(known, _)| known != name);
            captures.named.push((name.to_owned(), text));
        }
    }
    Some(len)
}

fn lowered(value: &[u8]) -> Cow<'_, [u8]> {
    match std::str::from_utf8(value) {
        Ok(text) if !text.is_ascii() && !text.contains(KELVIN) => text.to_lowercase().into_bytes().into(),
        _ if value.iter().any(u8::is_ascii_uppercase) => value.to_ascii_lowercase().into(),
        _ => value.into(),
    }
}

impl NumberTest {
    fn accepts(&self, facts: &impl Values) -> bool {
        let Some(number) = facts.number(&self.field) else {
            return false;
        };
        match self.operator {
            BinaryOperator::NotEquals => number != self.value,
            BinaryOperator::Greater => number > self.value,
            BinaryOperator::GreaterOrEqual => number >= self.value,
            BinaryOperator::Less => number < self.value,
            BinaryOperator::LessOrEqual => number <= self.value,
            _ => number == self.value,
        }
    }
}

impl AddressTest {
    fn accepts(&self, facts: &impl Values) -> bool {
        let Some(address) = facts.address(&self.field) else {
            return false;
        };
        match &self.comparison {
            AddressComparison::Equals(wanted) => address == *wanted,
            AddressComparison::NotEquals(wanted) => address != *wanted,
            AddressComparison::In(network) => network.contains(&address),
            AddressComparison::NotIn(network) => !network.contains(&address),
        }
    }
}
