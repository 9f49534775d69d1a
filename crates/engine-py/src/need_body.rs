//! What a phase returns when it cannot go on before the request body is read.

use pyo3::prelude::*;

/// Returned by a runner's phase: read the body up to the limit, then call `resume`.
#[pyclass(frozen, module = "headgate._engine")]
pub struct NeedBody {
    /// Stop reading beyond this size.
    pub limit_bytes: usize,
    /// Goes on with the phase.
    pub resume: Py<PyAny>,
}

#[pymethods]
impl NeedBody {
    #[new]
    fn new(limit_bytes: usize, resume: Py<PyAny>) -> Self {
        Self { limit_bytes, resume }
    }
}
