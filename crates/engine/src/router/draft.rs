//! A route's place in the order before anything is compiled: the unit that a flavour splits routes
//! into and sorts.

use std::cmp::Reverse;

use super::compatible::Priority;
use super::rule::RouteRule;
use super::traditional::SortKey;

/// Marks a path as a regular expression.
pub(super) const REGEX_MARK: char = '~';

/// A route, or one part of it when its paths were split.
#[derive(Debug)]
pub(super) struct Draft {
    /// Position of the route in the rules.
    pub(super) route: usize,
    pub(super) paths: PathGroup,
    pub(super) place: Place,
}

/// Where a draft stands among all of its flavour: the smaller is tried first. Drafts of different routes never have the
/// same place, so that the order does not depend on which routes are compiled together.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// By its own priority, then the id.
    Expression(Reverse<(u64, Box<str>)>),
    /// By the documented priority, then the id of the route or of the part of it.
    Compatible(Reverse<(Priority, Box<str>)>),
    /// By category, weights and age, then the id.
    Traditional(SortKey),
}

/// The paths a draft answers for, as positions in the rule's `paths`.
#[derive(Debug)]
pub(super) enum PathGroup {
    /// The route has no paths.
    None,
    /// Plain prefixes of one length.
    Plain(Vec<usize>),
    /// Regular expressions.
    Regex(Vec<usize>),
}

impl PathGroup {
    pub(super) fn is_regex(&self) -> bool {
        matches!(self, Self::Regex(_))
    }

    /// The length of the plain paths; 0 for regular expressions and for no path.
    pub(super) fn plain_len(&self, rule: &RouteRule) -> usize {
        match self {
            Self::Plain(positions) => positions
                .first()
                .and_then(|&position| rule.paths.get(position))
                .map_or(0, String::len),
            Self::None | Self::Regex(_) => 0,
        }
    }
}
