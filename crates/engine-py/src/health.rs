//! The health state machine as control runs it, one per address.

use std::sync::{Mutex, PoisonError};

use headgate_engine::upstream::health::{Health, HealthMachine, Observation, Thresholds};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// One address's state and counters.
#[pyclass(frozen, name = "HealthMachine", module = "headgate._engine")]
#[derive(Default)]
pub struct PyHealthMachine(Mutex<HealthMachine>);

#[pymethods]
impl PyHealthMachine {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    #[getter]
    fn health(&self) -> &'static str {
        self.lock().health().name()
    }

    fn observe(&self, observation: &str, times: u32, thresholds: (u32, u32, u32, u32)) -> PyResult<bool> {
        let observation = Observation::named(observation)
            .ok_or_else(|| PyValueError::new_err(format!("no observation is called '{observation}'")))?;
        let (successes, http_failures, tcp_failures, timeouts) = thresholds;
        let thresholds = Thresholds {
            successes,
            http_failures,
            tcp_failures,
            timeouts,
        };
        Ok(self.lock().observe(observation, times, &thresholds))
    }

    fn set(&self, health: &str) -> PyResult<()> {
        self.lock().set(named(health)?);
        Ok(())
    }
}

impl PyHealthMachine {
    fn lock(&self) -> std::sync::MutexGuard<'_, HealthMachine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of a name.
pub fn named(health: &str) -> PyResult<Health> {
    Health::named(health).ok_or_else(|| PyValueError::new_err(format!("no state is called '{health}'")))
}
