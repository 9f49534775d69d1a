//! One entry of the router: a route, or the part of it that a flavour splits off, with the tests
//! that the index has not already answered (method, headers, server name).
//!
//! Matchers are kept in the order in which they are tried; a matcher's place in that order is its
//! rank and its number.

use super::header::HeaderTest;
use super::name::{without_trailing_dot, NamePattern};
use super::request::RequestKey;

/// A route or a split-off part of one.
pub(super) struct Matcher {
    /// Position of the route in the rules.
    pub(super) route: usize,
    pub(super) methods: Vec<String>,
    pub(super) headers: Vec<HeaderTest>,
    pub(super) snis: Vec<NamePattern>,
    pub(super) path: PathRule,
}

/// What the matcher asks of the path; the index has answered whether it holds.
pub(super) enum PathRule {
    Any,
    /// Plain prefixes, all of one length.
    Prefixes(Vec<Vec<u8>>),
    /// Numbers of regular expressions, in configured order.
    Patterns(Vec<u32>),
}

impl Matcher {
    /// Whether method, server name and headers fit.
    pub(super) fn accepts(&self, request: &RequestKey<'_>) -> bool {
        (self.methods.is_empty() || self.methods.iter().any(|method| method == request.method))
            && self.accepts_sni(request)
            && self.headers.iter().all(|test| test.accepts(request.headers))
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
