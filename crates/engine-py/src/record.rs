//! What a finished request shows to the log phase, as Python objects.

use headgate_engine::exchange::Exchange;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

/// Version, suite and the upstream's certificate (DER).
pub type UpstreamTls<'py> = (&'static str, String, Option<Bound<'py, PyBytes>>);

/// One dict for each attempt.
pub fn tries<'py>(py: Python<'py>, exchange: &Exchange) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    let count = exchange.attempts.len();
    for (index, attempt) in exchange.attempts.iter().enumerate() {
        let entry = PyDict::new(py);
        entry.set_item("balancer_start", attempt.balancer_start_ns / 1_000_000)?;
        entry.set_item("balancer_start_ns", attempt.balancer_start_ns)?;
        entry.set_item("balancer_latency", attempt.balancer_latency.as_millis())?;
        entry.set_item("balancer_latency_ns", attempt.balancer_latency.as_nanos())?;
        entry.set_item("ip", attempt.address.ip().to_string())?;
        entry.set_item("port", attempt.address.port())?;
        if let Some(code) = attempt.failure.filter(|_| index + 1 < count) {
            entry.set_item("state", "failed")?;
            entry.set_item("code", code)?;
        }
        list.append(entry)?;
    }
    Ok(list)
}

/// TLS facts of the connection to the upstream, where they were kept.
pub fn upstream_tls<'py>(py: Python<'py>, exchange: &Exchange) -> Option<UpstreamTls<'py>> {
    let tls = exchange.upstream_tls.as_ref()?;
    let certificate = tls.certificate.as_ref().map(|der| PyBytes::new(py, der));
    Some((tls.version, tls.cipher.clone(), certificate))
}
