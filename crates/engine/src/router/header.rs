//! The test of one configured header: its name, and the values any of which suffices.

use super::expression;
use super::request::HeaderLookup;
use super::rule::Flavor;
use regex_automata::meta::Regex;

/// Marks a configured value as a regular expression.
const REGEX_MARK: &str = "~*";

/// One configured header of a route.
#[derive(Clone)]
pub(super) struct HeaderTest {
    /// Lower case, with dashes.
    pub(super) name: Box<str>,
    /// Lower case.
    pub(super) values: Vec<Vec<u8>>,
    patterns: Vec<Regex>,
}

impl HeaderTest {
    /// Compiles one configured header.
    ///
    /// # Errors
    /// Position and message of each value that is no regular expression.
    pub(super) fn compile(flavor: Flavor, name: &str, configured: &[String]) -> Result<Self, Vec<(usize, String)>> {
        let mut test = Self {
            name: name.to_ascii_lowercase().replace('_', "-").into(),
            values: Vec::new(),
            patterns: Vec::new(),
        };
        let may_be_regex = flavor != Flavor::Traditional || configured.len() == 1;
        let mut faults = Vec::new();
        for (position, value) in configured.iter().enumerate() {
            match value.strip_prefix(REGEX_MARK).filter(|_| may_be_regex) {
                None => test.values.push(value.to_ascii_lowercase().into_bytes()),
                Some(pattern) => {
                    // The default flavour lower-cases the expression itself, escapes included.
                    let source = match flavor {
                        Flavor::TraditionalCompatible | Flavor::Expressions => pattern.to_ascii_lowercase(),
                        Flavor::Traditional => pattern.to_owned(),
                    };
                    match expression::compile(&source) {
                        Ok((regex, _)) => test.patterns.push(regex),
                        Err(error) => faults.push((position, format!("invalid regex: '{source}' ({error})"))),
                    }
                }
            }
        }
        test.values.sort();
        test.values.dedup();
        if faults.is_empty() {
            Ok(test)
        } else {
            Err(faults)
        }
    }

    /// Whether all accepted values are plain text.
    pub(super) fn is_exact(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether any value of the request's header is accepted.
    pub(super) fn accepts(&self, headers: &dyn HeaderLookup) -> bool {
        let mut is_accepted = false;
        headers.values(&self.name, &mut |value| {
            is_accepted = self.accepts_value(value);
            !is_accepted
        });
        is_accepted
    }

    fn accepts_value(&self, value: &[u8]) -> bool {
        if self.values.iter().any(|accepted| accepted.eq_ignore_ascii_case(value)) {
            return true;
        }
        if self.patterns.is_empty() {
            return false;
        }
        let lowered = value.to_ascii_lowercase();
        self.patterns.iter().any(|pattern| pattern.is_match(&lowered))
    }
}
