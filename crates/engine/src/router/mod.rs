//! The router: which route answers a request, as a pure function of the routes and the request.
//!
//! Owns the order of routes in all flavours (`compatible`, `traditional`), the routes written as
//! expressions (`atc`), the index that makes a
//! lookup cost the length of the path and not the number of routes (`layer`, `index`, `trie`, `set`), and
//! the treatment of request paths (`path`). Does not own the protocol checks that follow a match,
//! nor the plan the rules come from. The pipeline calls [`Router::find`] once per request; a new
//! plan builds a new router and swaps it in, and where few routes differ that shares all others with
//! the router before (`overlay`). Nothing here does I/O, waits or allocates per lookup,
//! save for the captures of a regular expression.
//!
//! The rule to keep: `find` gives exactly what trying all routes in order would give.

mod atc;
mod compatible;
mod draft;
mod expression;
mod header;
mod index;
mod layer;
mod matcher;
mod name;
mod overlay;
pub mod path;
mod pattern;
mod pattern_file;
mod replaced;
mod request;
mod rule;
mod set;
pub mod stream;
mod traditional;
mod trie;

#[cfg(test)]
mod tests;

pub use atc::{check as check_expression, Subsystem};
pub use request::{Captures, HeaderLookup, RequestKey, RouteMatch};
pub use rule::{AddressRule, Flavor, PathHandling, RouteRule, RouterFault};

use std::sync::Arc;

use atc::Facts;
use index::RequestHost;
use layer::Layer;
use name::split_port;
use overlay::Overlay;
use pattern::Patterns;
use replaced::Replaced;

/// An immutable set of routes, ready for lookups.
pub struct Router {
    base: Arc<Layer>,
    /// What has changed since the base was compiled.
    overlay: Option<Overlay>,
}

impl Router {
    /// Compiles the rules.
    ///
    /// # Errors
    /// Every fault of every rule, in rule order.
    pub fn build(flavor: Flavor, rules: &[RouteRule]) -> Result<Self, Vec<RouterFault>> {
        Self::build_after(flavor, rules, None)
    }

    /// Compiles the rules, taking over the regular expressions that `previous` already compiled;
    /// they are nearly all of the cost.
    ///
    /// # Errors
    /// Every fault of every rule, in rule order.
    pub fn build_after(flavor: Flavor, rules: &[RouteRule], previous: Option<&Self>) -> Result<Self, Vec<RouterFault>> {
        let known = previous.map_or_else(Vec::new, Self::patterns);
        let base = Arc::new(Layer::build(flavor, rules, &known)?);
        Ok(Self { base, overlay: None })
    }

    /// The router of the same routes but for those at some positions, which are others now or new.
    ///
    /// Args: `touched`, these positions; `count`, how many routes there are then, so that those behind are gone; `rule`
    /// gives the route at a position. Every position that this router has no route at must be touched.
    ///
    /// # Errors
    /// Every fault of every changed rule, with its position.
    pub fn after(
        &self,
        touched: &[usize],
        count: usize,
        rule: impl Fn(usize) -> RouteRule,
    ) -> Result<Self, Vec<RouterFault>> {
        if let Some(overlay) = Overlay::build(&self.base, self.overlay.as_ref(), touched, count, &rule)? {
            return Ok(Self {
                base: self.base.clone(),
                overlay: Some(overlay),
            });
        }
        let rules: Vec<RouteRule> = (0..count).map(rule).collect();
        Self::build_after(self.flavor(), &rules, Some(self))
    }

    /// The route that answers the request.
    pub fn find(&self, request: &RequestKey<'_>) -> Option<RouteMatch> {
        let facts = Facts {
            request,
            host: self.split_host(request),
        };
        let Some(overlay) = &self.overlay else {
            return self.base.found(self.base.best(facts, &Replaced::NONE), &facts);
        };
        let rank = self.base.best(facts, overlay.replaced());
        match overlay.before(rank, facts) {
            Some(found) => Some(found),
            None => self.base.found(rank, &facts),
        }
    }

    /// The flavour the router was built for.
    pub fn flavor(&self) -> Flavor {
        self.base.flavor()
    }

    /// Whether most of the two is one and the same in memory.
    #[must_use]
    pub fn shares_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.base, &other.base)
    }

    fn patterns(&self) -> Vec<&Patterns> {
        let changed = self.overlay.as_ref().map(Overlay::patterns);
        std::iter::once(self.base.patterns()).chain(changed).collect()
    }

    fn split_host<'a>(&self, request: &RequestKey<'a>) -> RequestHost<'a> {
        let flavor = self.flavor();
        let host = split_port(flavor, request.host);
        let assumed_port = match (flavor, request.is_tls) {
            (Flavor::TraditionalCompatible | Flavor::Expressions, _) => request.listener_port,
            (Flavor::Traditional, true) => 443,
            (Flavor::Traditional, false) => 80,
        };
        RequestHost {
            name: host.name.as_bytes(),
            port: host.port.unwrap_or(assumed_port),
        }
    }
}
