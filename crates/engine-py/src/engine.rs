//! Starting, feeding and stopping an engine from Python.

use std::any::Any;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use headgate_engine::server::Server;
use headgate_engine::settings::EngineSettings;
use headgate_engine::upstream::balance::AddressKey;
use pyo3::create_exception;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::health::named as named_health;
use crate::logging;
use crate::resolve;
use crate::runner::PythonRunner;

create_exception!(
    headgate._engine,
    PlanError,
    PyValueError,
    "A plan that cannot be applied; args[0] lists the faults."
);

/// One worker's engine: its own thread, its own tokio runtime.
#[pyclass(frozen, module = "headgate._engine")]
pub struct Engine {
    server: Arc<Server>,
    descriptors: Vec<i32>,
    thread: Mutex<Option<JoinHandle<()>>>,
    is_running: Arc<AtomicBool>,
}

#[pymethods]
impl Engine {
    #[new]
    fn new(
        py: Python<'_>,
        settings: &[u8],
        runner: &Bound<'_, PyAny>,
        call_soon_threadsafe: Py<PyAny>,
    ) -> PyResult<Self> {
        logging::install(py)?;
        let settings: EngineSettings = serde_json::from_slice(settings)
            .map_err(|error| PyValueError::new_err((vec![format!("engine settings: {error}")],)))?;
        let descriptors = settings.listeners.iter().map(|listener| listener.fd).collect();
        let runner = PythonRunner::new(runner, call_soon_threadsafe)?;
        let server = Server::build(settings, Arc::new(runner)).map_err(|faults| PyValueError::new_err((faults,)))?;
        Ok(Self {
            server: Arc::new(server),
            descriptors,
            thread: Mutex::new(None),
            is_running: Arc::new(AtomicBool::new(false)),
        })
    }

    fn apply(&self, py: Python<'_>, plan: &[u8], attachment: Py<PyAny>) -> PyResult<()> {
        let attachment: Arc<dyn Any + Send + Sync> = Arc::new(attachment);
        let plan = plan.to_vec();
        let notices = py
            .detach(|| self.server.apply(&plan, Some(attachment)))
            .map_err(|faults| PlanError::new_err((faults,)))?;
        for notice in notices {
            tracing::warn!("{notice}");
        }
        Ok(())
    }

    fn apply_change(&self, py: Python<'_>, change: &[u8], attachment: Py<PyAny>) -> PyResult<()> {
        let attachment: Arc<dyn Any + Send + Sync> = Arc::new(attachment);
        let change = change.to_vec();
        py.detach(|| self.server.apply_change(&change, Some(attachment)))
            .map_err(|faults| PlanError::new_err((faults,)))
    }

    fn start(&self) -> PyResult<()> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_some() {
            return Err(PyRuntimeError::new_err("the engine was started already"));
        }
        let sockets = self.descriptors.iter().map(|fd| take_socket(*fd)).collect();
        let server = self.server.clone();
        let is_running = self.is_running.clone();
        is_running.store(true, Ordering::Release);
        let run = move || {
            // One Python thread state for the life of the thread: taking the GIL for a phase then makes none.
            Python::attach(|py| {
                py.detach(|| {
                    if let Err(error) = server.run(sockets) {
                        tracing::error!("the engine stopped: {error}");
                    }
                });
            });
            is_running.store(false, Ordering::Release);
        };
        let handle = std::thread::Builder::new().name("engine".to_owned()).spawn(run)?;
        *thread = Some(handle);
        Ok(())
    }

    fn drain(&self) {
        self.server.drain();
    }

    fn stop(&self, py: Python<'_>) {
        self.server.stop();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic of the engine thread was logged when it happened.
            let _ = py.detach(|| thread.join());
        }
    }

    fn on_health_reports(&self, py: Python<'_>, callback: Py<PyAny>) {
        let wake = move || {
            Python::attach(|py| {
                if let Err(error) = callback.call0(py) {
                    // The loop is closed: the worker is ending.
                    tracing::debug!("health reports are not taken: {error}");
                }
            });
        };
        // Detached: the callback takes the GIL, and balancers hold their locks while they report.
        py.detach(|| self.server.health_reports().on_first(wake));
    }

    fn take_health_reports<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let reports = py.detach(|| self.server.health_reports().take(limit));
        if reports.is_empty() {
            return Ok(None);
        }
        let text = serde_json::to_vec(&reports).map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        Ok(Some(PyBytes::new(py, &text)))
    }

    fn report_pools(&self, py: Python<'_>) {
        py.detach(|| {
            for balancer in self.server.gateway().live().balancers.values() {
                balancer.report_pool();
            }
        });
    }

    fn set_health(
        &self,
        py: Python<'_>,
        upstream_id: &str,
        address: (String, String, u16),
        health: &str,
        is_reset: bool,
    ) -> PyResult<()> {
        let health = named_health(health)?;
        let (host, ip, port) = address;
        let ip = ip
            .parse()
            .map_err(|_| PyValueError::new_err(format!("'{ip}' is no address")))?;
        let key = AddressKey {
            host: host.into(),
            port,
            ip,
        };
        py.detach(|| {
            if let Some(balancer) = self.server.gateway().live().balancers.get(upstream_id) {
                balancer.set_health(&key, health, is_reset);
            }
        });
        Ok(())
    }

    fn resolve(&self, py: Python<'_>, name: String, kind: Option<&str>, callback: Py<PyAny>) -> PyResult<bool> {
        let kind = kind.map(resolve::kind_named).transpose()?;
        Ok(py.detach(|| {
            self.server.resolve(name, kind, move |answer| {
                resolve::hand_over(&callback, answer.map(|records| records.to_vec()));
            })
        }))
    }

    fn resolve_next(&self, py: Python<'_>, name: String, callback: Py<PyAny>) -> bool {
        py.detach(|| {
            self.server.resolve_next(name, move |answer| {
                resolve::hand_over(&callback, answer.map(|record| vec![record]));
            })
        })
    }

    fn name_usage(&self, py: Python<'_>, limit: usize) -> Vec<(String, resolve::UsageTuple)> {
        let used = py.detach(|| self.server.gateway().upstreams.resolver.usage(limit));
        used.into_iter()
            .map(|(name, usage)| (name, resolve::counters(usage)))
            .collect()
    }

    fn reopen_logs(&self) {
        self.server.reopen_logs();
    }

    #[getter]
    fn is_running(&self) -> bool {
        self.is_running.load(Ordering::Acquire)
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let gateway = self.server.gateway();
        let counters = &gateway.counters;
        let active = counters.active.load(Ordering::Relaxed);
        let busy = counters.busy.load(Ordering::Relaxed);
        let stats = PyDict::new(py);
        stats.set_item("connections_active", active)?;
        let reading = counters.reading.load(Ordering::Relaxed);
        stats.set_item("connections_reading", reading)?;
        stats.set_item("connections_writing", busy)?;
        stats.set_item("connections_waiting", active.saturating_sub(busy + reading))?;
        stats.set_item("connections_accepted", counters.accepted.load(Ordering::Relaxed))?;
        stats.set_item("connections_handled", counters.handled.load(Ordering::Relaxed))?;
        stats.set_item("total_requests", counters.requests.load(Ordering::Relaxed))?;
        stats.set_item("udp_sessions", gateway.udp_sessions.len())?;
        stats.set_item("revision", gateway.live().revision)?;
        Ok(stats)
    }
}

/// Take over a listening socket.
#[expect(
    unsafe_code,
    reason = "the only way to own a descriptor that was inherited by number"
)]
fn take_socket(fd: i32) -> OwnedFd {
    // SAFETY: the supervisor passes each descriptor to exactly one worker, which hands it to exactly one engine; `start`
    // runs once (checked above), so nobody else closes or reads it in this process.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
