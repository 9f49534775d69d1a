//! A route's place in the order before anything is compiled: the unit that a flavour splits routes
//! into and sorts.

use super::rule::RouteRule;

/// Marks a path as a regular expression.
pub(super) const REGEX_MARK: char = '~';

/// A route, or one part of it when its paths were split.
#[derive(Debug)]
pub(super) struct Draft {
    /// Position of the route in the rules.
    pub(super) route: usize,
    pub(super) paths: PathGroup,
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
