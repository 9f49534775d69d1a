//! The routes that have changed since a layer was compiled: a small layer of their own before a large one.
//!
//! A lookup asks both, the large one without the routes that are replaced, and compares the places of the two answers in
//! the order of all routes. So a change costs what the changed routes cost, however many others there are. When too much
//! has changed, everything is compiled anew.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::atc::Facts;
use super::layer::Layer;
use super::pattern::Patterns;
use super::replaced::Replaced;
use super::request::RouteMatch;
use super::rule::{RouteRule, RouterFault};

/// So many routes are kept apart at most, since all of them are compiled at every change: own choice, about 1 ms.
const CHANGED_MAX: usize = 256;
/// No more than this part of the base, so that a small one is simply compiled anew. Everything in tests, so that small
/// random sets have overlays.
const SHARE_OF_BASE: usize = if cfg!(test) { 1 } else { 8 };

/// Routes in the place of some of a base.
pub(super) struct Overlay {
    layer: Layer,
    /// The position among all routes of each route of the layer.
    positions: Vec<usize>,
    /// How many matchers of the base come before each matcher of the layer, by its rank.
    behind: Vec<u32>,
    replaced: Replaced,
}

impl Overlay {
    /// The overlay for `touched` positions besides those of an earlier overlay; None when all is to be compiled anew.
    ///
    /// # Errors
    /// Every fault of every changed rule, with its position.
    pub(super) fn build(
        base: &Arc<Layer>,
        earlier: Option<&Self>,
        touched: &[usize],
        count: usize,
        rule: &impl Fn(usize) -> RouteRule,
    ) -> Result<Option<Self>, Vec<RouterFault>> {
        let known = earlier.map_or(&[][..], |earlier| &earlier.positions);
        let positions: BTreeSet<usize> = known.iter().chain(touched).copied().filter(|at| *at < count).collect();
        let gone = count..base.route_count();
        let changed = positions.len() + gone.len();
        // Where a search begins depends on all routes: nothing can be told of some of them.
        if changed > CHANGED_MAX || changed * SHARE_OF_BASE > base.route_count() || base.has_start() {
            return Ok(None);
        }
        let replaced = Replaced::of(positions.iter().copied().chain(gone), base.route_count());
        let positions: Vec<usize> = positions.into_iter().collect();
        let rules: Vec<RouteRule> = positions.iter().map(|&position| rule(position)).collect();
        let compiled: Vec<&Patterns> = earlier
            .into_iter()
            .map(Self::patterns)
            .chain([base.patterns()])
            .collect();
        let layer = Layer::build(base.flavor(), &rules, &compiled).map_err(|faults| {
            let named = |fault: RouterFault| RouterFault {
                route: positions.get(fault.route).copied().unwrap_or(fault.route),
                ..fault
            };
            faults.into_iter().map(named).collect::<Vec<_>>()
        })?;
        if layer.has_start() {
            return Ok(None);
        }
        let before = |place| base.places().partition_point(|other| other < place) as u32;
        Ok(Some(Self {
            behind: layer.places().iter().map(before).collect(),
            layer,
            positions,
            replaced,
        }))
    }

    /// The routes of the base that are left out.
    pub(super) fn replaced(&self) -> &Replaced {
        &self.replaced
    }

    /// The match among its routes, unless the matcher of the base with this rank comes before it.
    pub(super) fn before(&self, rank: u32, facts: Facts<'_>) -> Option<RouteMatch> {
        let own = self.layer.best(facts, &Replaced::NONE);
        if *self.behind.get(own as usize)? > rank {
            return None;
        }
        let found = self.layer.found(own, &facts)?;
        Some(RouteMatch {
            route: *self.positions.get(found.route)?,
            ..found
        })
    }

    /// Its compiled regular expressions.
    pub(super) fn patterns(&self) -> &Patterns {
        self.layer.patterns()
    }
}
