//! The routers' answers to described requests and streams.

use headgate_engine::explain::{explain, explain_stream as explain_engine_stream};
use headgate_engine::router::Subsystem;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::convert::text;

/// Every fault of a route's expression.
#[pyfunction]
pub fn check_expression(expression: &str, is_stream: bool) -> Vec<String> {
    let subsystem = if is_stream { Subsystem::Stream } else { Subsystem::Http };
    headgate_engine::router::check_expression(expression, subsystem)
        .err()
        .unwrap_or_default()
}

/// Say which route of a plan a described stream takes; both are JSON.
#[pyfunction]
pub fn explain_stream(plan: &[u8], stream: &[u8]) -> PyResult<Option<usize>> {
    explain_engine_stream(plan, stream).map_err(|faults| PyValueError::new_err((faults,)))
}

/// Say which route of a plan a described request takes; both are JSON.
#[pyfunction]
pub fn explain_route<'py>(py: Python<'py>, plan: &[u8], request: &[u8]) -> PyResult<Bound<'py, PyDict>> {
    let explained = explain(plan, request).map_err(|faults| PyValueError::new_err((faults,)))?;
    let optional = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(|bytes| text(py, bytes)).transpose();
    let answer = PyDict::new(py);
    answer.set_item("route", explained.route)?;
    answer.set_item("normalized_path", text(py, &explained.normalized_path)?)?;
    answer.set_item("matched_prefix", optional(&explained.matched_prefix)?)?;
    answer.set_item("upstream_path", optional(&explained.upstream_path)?)?;
    let unnamed = PyList::empty(py);
    let named = PyDict::new(py);
    if let Some(captures) = &explained.captures {
        for capture in &captures.unnamed {
            unnamed.append(optional(capture)?)?;
        }
        for (name, capture) in &captures.named {
            named.set_item(name, optional(capture)?)?;
        }
    }
    answer.set_item("captures", (unnamed, named))?;
    Ok(answer)
}
