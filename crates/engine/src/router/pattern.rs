//! Regular expressions of paths: compiled once per distinct text and filed under the literal text
//! every match must begin with (and one that it must contain), so that only plausible expressions
//! are ever run.

use super::expression;
use super::request::Captures;
use super::rule::Flavor;
use regex_automata::meta::Regex;
use regex_automata::{PatternID, Span};
use regex_syntax::hir::literal::{ExtractKind, Extractor};
use regex_syntax::hir::{Hir, HirKind, Look};
use rustc_hash::FxHashMap;

/// A path's regular expression, ready to run.
#[derive(Clone)]
pub(super) struct PathPattern {
    regex: Regex,
    /// Every match begins with one of these; a single empty text when nothing is known.
    pub(super) prefixes: Vec<Vec<u8>>,
    /// Every match contains this text somewhere after its beginning.
    pub(super) required: Option<Vec<u8>>,
}

impl PathPattern {
    /// Compiles the text that follows the `~` of a path.
    ///
    /// `traditional_compatible` prepends `^` to the text as it stands, so in `a|b` only the first
    /// branch is anchored; `traditional` anchors the whole expression.
    fn compile(flavor: Flavor, text: &str) -> Result<Self, String> {
        let source = match flavor {
            Flavor::TraditionalCompatible | Flavor::Expressions => format!("^{text}"),
            Flavor::Traditional => format!("^(?:{text})"),
        };
        let (regex, hir) = expression::compile(&source)?;
        Ok(Self {
            prefixes: literal_prefixes(&hir).unwrap_or_else(|| vec![Vec::new()]),
            required: required_literal(&hir),
            regex,
        })
    }

    /// Whether the path matches.
    pub(super) fn is_match(&self, path: &[u8]) -> bool {
        self.regex.is_match(path)
    }

    /// The length of the matched text, and its groups when the expression has any.
    pub(super) fn run(&self, flavor: Flavor, path: &[u8]) -> Option<(usize, Option<Captures>)> {
        if self.regex.captures_len() == 1 {
            return self.regex.find(path).map(|found| (found.len(), None));
        }
        let mut groups = self.regex.create_captures();
        self.regex.captures(path, &mut groups);
        let matched_len = groups.get_match()?.len();
        let text = |span: Option<Span>| path.get(span?.range()).map(<[u8]>::to_vec);
        let mut unnamed: Vec<_> = groups.iter().map(text).collect();
        let names = self.regex.group_info().pattern_names(PatternID::ZERO);
        let named = names
            .zip(&unnamed)
            .filter_map(|(name, text)| Some((name?.to_owned(), text.clone())))
            .collect();
        if flavor == Flavor::Traditional {
            unnamed[0] = None;
        }
        Some((matched_len, Some(Captures { unnamed, named })))
    }
}

/// The texts one of which begins every match, none a prefix of another; `None` when unknown.
pub(super) fn literal_prefixes(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    if !hir.properties().look_set_prefix().contains(Look::Start) {
        return None;
    }
    let found = Extractor::new().kind(ExtractKind::Prefix).extract(hir);
    let mut texts: Vec<Vec<u8>> = found
        .literals()?
        .iter()
        .map(|literal| literal.as_bytes().to_vec())
        .collect();
    texts.sort();
    // Sorted, a text follows its own prefixes: dropping it keeps the set equivalent.
    texts.dedup_by(|later, kept| later.starts_with(kept));
    // An expression that can never match, such as `[^\s\S]`, has no literals at all.
    (!texts.is_empty()).then_some(texts)
}

/// The longest text that is part of every match, its beginning left aside because that is what
/// expressions filed under one prefix share.
fn required_literal(hir: &Hir) -> Option<Vec<u8>> {
    let mut literals = Vec::new();
    let mut is_at_start = true;
    collect_required(hir, &mut is_at_start, &mut literals);
    literals
        .into_iter()
        .max_by_key(|literal| literal.len())
        .map(<[u8]>::to_vec)
}

fn collect_required<'a>(hir: &'a Hir, is_at_start: &mut bool, literals: &mut Vec<&'a [u8]>) {
    match hir.kind() {
        HirKind::Concat(parts) => parts
            .iter()
            .for_each(|part| collect_required(part, is_at_start, literals)),
        HirKind::Capture(capture) => collect_required(&capture.sub, is_at_start, literals),
        HirKind::Look(_) | HirKind::Empty => {}
        HirKind::Literal(literal) if !*is_at_start => literals.push(&literal.0),
        HirKind::Literal(_) | HirKind::Class(_) | HirKind::Repetition(_) | HirKind::Alternation(_) => {
            *is_at_start = false;
        }
    }
}

/// Compiled patterns by number; equal texts share one.
pub(super) struct Patterns {
    flavor: Flavor,
    compiled: Vec<PathPattern>,
    by_text: FxHashMap<String, u32>,
}

impl Patterns {
    pub(super) fn new(flavor: Flavor) -> Self {
        Self {
            flavor,
            compiled: Vec::new(),
            by_text: FxHashMap::default(),
        }
    }

    /// The number of the pattern with this text, compiled now or taken from one of `previous`.
    pub(super) fn add(&mut self, text: &str, previous: &[&Patterns]) -> Result<u32, String> {
        if let Some(&known) = self.by_text.get(text) {
            return Ok(known);
        }
        let reusable = previous
            .iter()
            .filter(|patterns| patterns.flavor == self.flavor)
            .find_map(|patterns| patterns.get(*patterns.by_text.get(text)?));
        let pattern = match reusable {
            Some(pattern) => pattern.clone(),
            None => PathPattern::compile(self.flavor, text)?,
        };
        let number = self.compiled.len() as u32;
        self.compiled.push(pattern);
        self.by_text.insert(text.to_owned(), number);
        Ok(number)
    }

    pub(super) fn get(&self, number: u32) -> Option<&PathPattern> {
        self.compiled.get(number as usize)
    }
}
