//! What may be written: the fields of each subsystem, and the checks before anything is compiled.

use std::sync::LazyLock;

use atc_router::ast::{Expression, LogicalExpression, Type};
use atc_router::parser;
use atc_router::schema::Schema;
use atc_router::semantics::Validate;

use super::fields::Field;

/// Longest expression; own choice.
const LONGEST_BYTES: usize = 16 * 1024;
/// Parser and checks recurse once per term. The longest expression needs less than this (measured: unoptimised 3 MiB).
const STACK_BYTES: usize = 8 * 1024 * 1024;
/// Deepest nesting of parentheses; own choice.
const DEEPEST: usize = 64;
/// Former name of `net.dst.port`, still read.
const DEPRECATED_PORT: &str = "net.port";
const PORT: &str = "net.dst.port";

/// Which requests an expression is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subsystem {
    /// http, https, grpc, grpcs, ws, wss.
    Http,
    /// tcp, tls, tls_passthrough, udp.
    Stream,
}

static HTTP: LazyLock<Schema> = LazyLock::new(|| {
    let mut schema = connection_fields();
    for name in ["http.method", "http.host", "http.path"] {
        schema.add_field(name, Type::String);
    }
    for name in ["http.path.segments.*", "http.headers.*", "http.queries.*"] {
        schema.add_field(name, Type::String);
    }
    schema.add_field("http.path.segments.len", Type::Int);
    schema
});
static STREAM: LazyLock<Schema> = LazyLock::new(connection_fields);

fn connection_fields() -> Schema {
    let mut schema = Schema::default();
    for name in ["net.protocol", "tls.sni"] {
        schema.add_field(name, Type::String);
    }
    for name in ["net.src.ip", "net.dst.ip"] {
        schema.add_field(name, Type::IpAddr);
    }
    for name in ["net.src.port", PORT] {
        schema.add_field(name, Type::Int);
    }
    schema
}

/// Checks an expression; the texts are those of the Admin API without their common beginning.
///
/// # Errors
/// Every fault of the expression.
pub fn check(source: &str, subsystem: Subsystem) -> Result<(), Vec<String>> {
    read(source, subsystem, |expression| {
        super::Test::compile(expression).map(|_| ())
    })
}

/// Parses and checks an expression and gives it to `compile`; with room on the stack for all of it.
///
/// # Errors
/// Those of parsing or of compiling.
pub(super) fn read<T>(
    source: &str,
    subsystem: Subsystem,
    compile: impl FnOnce(&Expression) -> Result<T, Vec<String>>,
) -> Result<T, Vec<String>> {
    stacker::maybe_grow(STACK_BYTES, STACK_BYTES, || compile(&parse(source, subsystem)?))
}

/// Parses and checks an expression.
///
/// # Errors
/// The one fault of its syntax, or every fault of its fields and types.
fn parse(source: &str, subsystem: Subsystem) -> Result<Expression, Vec<String>> {
    if source.len() > LONGEST_BYTES {
        return Err(vec![format!("the expression is longer than {LONGEST_BYTES} bytes")]);
    }
    if deepest_nesting(source) > DEEPEST {
        return Err(vec![format!(
            "the expression nests more than {DEEPEST} levels of parentheses"
        )]);
    }
    let mut expression = parser::parse(source).map_err(|error| vec![error.to_string()])?;
    rename_port(&mut expression);
    let schema = match subsystem {
        Subsystem::Http => &*HTTP,
        Subsystem::Stream => &*STREAM,
    };
    let mut faults = Vec::new();
    collect_faults(&expression, schema, &mut faults);
    if faults.is_empty() {
        Ok(expression)
    } else {
        faults.dedup();
        Err(faults)
    }
}

/// Parentheses inside of texts count too: a bound, not a parser.
fn deepest_nesting(source: &str) -> usize {
    let mut depth = 0_usize;
    let mut deepest = 0;
    for byte in source.bytes() {
        match byte {
            b'(' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn rename_port(expression: &mut Expression) {
    match expression {
        Expression::Predicate(predicate) if predicate.lhs.var_name == DEPRECATED_PORT => {
            tracing::warn!("the expression field {DEPRECATED_PORT} is deprecated, use {PORT}");
            predicate.lhs.var_name = PORT.to_owned();
        }
        Expression::Predicate(_) => {}
        Expression::Logical(logical) => match logical.as_mut() {
            LogicalExpression::And(left, right) | LogicalExpression::Or(left, right) => {
                rename_port(left);
                rename_port(right);
            }
            LogicalExpression::Not(inner) => rename_port(inner),
        },
    }
}

fn collect_faults(expression: &Expression, schema: &Schema, faults: &mut Vec<String>) {
    match expression {
        Expression::Predicate(predicate) => {
            let fault = expression
                .validate(schema)
                .and_then(|()| Field::parse(&predicate.lhs.var_name).map(|_| ()));
            faults.extend(fault.err());
        }
        Expression::Logical(logical) => match logical.as_ref() {
            LogicalExpression::And(left, right) | LogicalExpression::Or(left, right) => {
                collect_faults(left, schema, faults);
                collect_faults(right, schema, faults);
            }
            LogicalExpression::Not(inner) => collect_faults(inner, schema, faults),
        },
    }
}
