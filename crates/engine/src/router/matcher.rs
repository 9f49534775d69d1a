//! One entry of the router: a route, or the part of it that a flavour splits off, with the tests
//! that the index has not already answered (method, headers, server name).
//!
//! Matchers are kept in the order in which they are tried; a matcher's place in that order is its
//! rank and its number.

use std::sync::Arc;

use super::atc::{Facts, Test};
use super::header::HeaderTest;
use super::name::{without_trailing_dot, NamePattern};
use super::request::RequestKey;
use super::rule::AddressRule;

/// A route or a split-off part of one.
pub(super) struct Matcher {
    /// Position of the route in the rules.
    pub(super) route: usize,
    pub(super) methods: Vec<String>,
    pub(super) headers: Vec<HeaderTest>,
    pub(super) snis: Vec<NamePattern>,
    pub(super) path: PathRule,
    pub(super) sources: Vec<AddressRule>,
    pub(super) destinations: Vec<AddressRule>,
    /// Some: only requests over TLS, or only those without.
    pub(super) needs_tls: Option<bool>,
    /// The whole of what a route written as an expression asks for; the other attributes repeat parts of it.
    pub(super) test: Option<Arc<Test>>,
}

/// What the matcher asks of the path; the index has answered whether it holds.
pub(super) enum PathRule {
    Any,
    /// Plain prefixes, all of one length.
    Prefixes(Vec<Vec<u8>>),
    /// Numbers of regular expressions, in configured order.
    Patterns(Vec<u32>),
    /// What paths that pass the matcher's test begin with; says nothing of what is matched.
    Hints(Vec<Vec<u8>>),
}

impl Matcher {
    /// Whether everything fits that the index has not answered.
    pub(super) fn accepts(&self, facts: &Facts<'_>) -> bool {
        let request = facts.request;
        (self.methods.is_empty() || self.methods.iter().any(|method| method == request.method))
            && self.accepts_sni(request)
            && self.headers.iter().all(|test| test.accepts(request.headers))
            && self.needs_tls.is_none_or(|needs_tls| request.is_tls == needs_tls)
            && self.accepts_addresses(facts)
            && self.test.as_ref().is_none_or(|test| test.accepts(facts))
    }

    fn accepts_addresses(&self, facts: &Facts<'_>) -> bool {
        let accepts = |rules: &[AddressRule], address, port| {
            rules.is_empty() || rules.iter().any(|rule| rule.accepts(address, port))
        };
        let client = facts.request.client;
        accepts(&self.sources, client.map(|(ip, _)| ip), client.map(|(_, port)| port))
            && accepts(&self.destinations, facts.request.listener_ip, Some(facts.host.port))
    }

    /// An unencrypted request passes: the protocol gate after the match then asks for HTTPS.
    fn accepts_sni(&self, request: &RequestKey<'_>) -> bool {
        if self.snis.is_empty() || !request.is_tls {
            return true;
        }
        request.sni.is_some_and(|sni| {
            let sni = without_trailing_dot(sni).as_bytes();
            self.snis.iter().any(|pattern| pattern.accepts(sni))
        })
    }
}
