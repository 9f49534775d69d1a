//! Regular expressions filed under one literal prefix, narrowed down by the text they require.
//!
//! Routes made from an API description share a prefix and differ behind a parameter
//! (`~/users/[^/]+/orders`, `~/users/[^/]+/invoices`): where many do, only those whose required
//! text occurs in the path are run.

use super::trie::Trie;
use memchr::memmem;

/// Up to this many expressions are run without looking for their required texts: own choice. Few
/// in tests, so that small random sets are filtered too.
const UNFILTERED_MAX: usize = if cfg!(test) { 1 } else { 8 };

/// Numbers of filed expressions.
pub(super) struct PatternFile {
    /// Always to be run, lowest rank first.
    unfiltered: Vec<usize>,
    /// To be run when the text occurs.
    by_required: Option<Trie<Vec<usize>>>,
}

impl PatternFile {
    /// Files the expressions, given lowest rank first.
    pub(super) fn build<'a>(numbers: Vec<usize>, required: impl Fn(&usize) -> Option<&'a [u8]>) -> Self {
        if numbers.len() <= UNFILTERED_MAX {
            return Self {
                unfiltered: numbers,
                by_required: None,
            };
        }
        let (filtered, unfiltered): (Vec<usize>, Vec<usize>) =
            numbers.into_iter().partition(|number| required(number).is_some());
        let mut by_text: std::collections::BTreeMap<Vec<u8>, Vec<usize>> = Default::default();
        for number in filtered {
            if let Some(text) = required(&number) {
                by_text.entry(text.to_vec()).or_default().push(number);
            }
        }
        Self {
            unfiltered,
            by_required: (!by_text.is_empty()).then(|| Trie::build(by_text)),
        }
    }

    /// Calls `run` with each expression that could match, once.
    pub(super) fn visit(&self, path: &[u8], run: &mut dyn FnMut(usize)) {
        self.unfiltered.iter().copied().for_each(&mut *run);
        let Some(by_required) = &self.by_required else {
            return;
        };
        for start in 0..path.len() {
            let rest = &path[start..];
            for (len, numbers) in by_required.prefixes_of(rest) {
                // A text that occurs again was dealt with where it occurred first; without this a
                // path of repetitions would run the same expressions at each of them.
                if memmem::find(path, &rest[..len]) == Some(start) {
                    numbers.iter().copied().for_each(&mut *run);
                }
            }
        }
    }
}
