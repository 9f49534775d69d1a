//! Routes written as expressions: the language of the `atc-router` crate, compiled for bytes and for the index.
//!
//! The crate owns the grammar and the type rules (`language`). What it parsed becomes a [`Test`] that reads the request
//! (or the stream) without copying it, and a [`Needs`]: what every request that passes must have, by which the index finds candidates,
//! so that a lookup does not try all expressions in turn. The rule to keep: a test holds for exactly the requests for
//! which the crate's own interpreter says so.

mod fields;
mod language;
mod needs;
mod test;

pub(super) use fields::{Facts, StreamFacts};
pub use language::{check, Subsystem};
pub(super) use needs::Needs;
pub(super) use test::Test;

/// One compiled expression.
pub(super) struct Compiled {
    pub(super) test: Test,
    pub(super) needs: Needs,
}

/// Compiles the expression of a route.
///
/// # Errors
/// Every fault of the expression, each a text.
pub(super) fn compile(source: &str, subsystem: Subsystem) -> Result<Compiled, Vec<String>> {
    let test = language::read(source, subsystem, Test::compile)?;
    let needs = Needs::of(&test);
    Ok(Compiled { test, needs })
}
