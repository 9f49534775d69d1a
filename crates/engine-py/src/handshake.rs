//! A TLS handshake as Python sees it in the certificate phase.

use std::sync::{Mutex, MutexGuard, PoisonError};

use headgate_engine::phase::Phase;
use headgate_engine::runner::{Handshake, HandshakeStep};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use tokio::sync::oneshot;

/// Frozen view of one handshake.
#[pyclass(frozen, name = "Handshake", module = "headgate._engine")]
pub struct PyHandshake {
    slot: Mutex<Option<Box<Handshake>>>,
    state: Mutex<Option<Py<PyAny>>>,
    waiter: Mutex<Option<oneshot::Sender<HandshakeStep>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PyHandshake {
    /// A view with the handshake in it.
    pub fn new(handshake: Box<Handshake>) -> Self {
        Self {
            slot: Mutex::new(Some(handshake)),
            state: Mutex::new(None),
            waiter: Mutex::new(None),
        }
    }

    /// Take the handshake back.
    pub fn leave(&self) -> Option<Box<Handshake>> {
        lock(&self.slot).take()
    }

    /// The engine waits for this message.
    pub fn wait_with(&self, sender: oneshot::Sender<HandshakeStep>) {
        *lock(&self.waiter) = Some(sender);
    }

    /// The phase is over: tell the engine.
    pub fn finish_wait(&self) {
        if let (Some(sender), Some(handshake)) = (lock(&self.waiter).take(), self.leave()) {
            // The engine may have given up meanwhile.
            let _ = sender.send(HandshakeStep::Done(handshake));
        }
    }

    /// Abort the handshake.
    pub fn set_failed(&self) {
        if let Some(handshake) = lock(&self.slot).as_mut() {
            handshake.is_failed = true;
        }
    }

    fn with<R>(&self, read: impl FnOnce(&mut Handshake) -> R) -> PyResult<R> {
        match lock(&self.slot).as_mut() {
            Some(handshake) => Ok(read(handshake)),
            None => Err(PyRuntimeError::new_err("the handshake is not in its certificate phase")),
        }
    }
}

#[pymethods]
impl PyHandshake {
    /// Lua code asks about handshakes through Python.
    #[getter]
    fn lua_handle(&self) -> Option<u64> {
        None
    }

    #[getter]
    fn state(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        lock(&self.state).as_ref().map(|state| state.clone_ref(py))
    }

    #[setter]
    fn set_state(&self, state: Option<Py<PyAny>>) {
        *lock(&self.state) = state;
    }

    #[getter]
    fn plan(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.with(|handshake| crate::exchange::plan_of(py, &handshake.live))
    }

    #[getter]
    fn phase(&self) -> u32 {
        Phase::Certificate.bit()
    }

    #[getter]
    fn server_name(&self) -> PyResult<Option<String>> {
        self.with(|handshake| handshake.server_name.clone())
    }

    #[getter]
    fn client_ip(&self) -> PyResult<String> {
        self.with(|handshake| handshake.peer.ip().to_string())
    }

    #[getter]
    fn client_port(&self) -> PyResult<u16> {
        self.with(|handshake| handshake.peer.port())
    }

    #[getter]
    fn server_port(&self) -> PyResult<u16> {
        self.with(|handshake| handshake.local.port())
    }

    #[getter]
    fn forwarded_client_ip(&self) -> PyResult<String> {
        self.with(|handshake| handshake.forwarded.ip().to_string())
    }

    #[getter]
    fn forwarded_client_port(&self) -> PyResult<u16> {
        self.with(|handshake| handshake.forwarded.port())
    }

    #[getter]
    fn aws_vpce_id(&self) -> PyResult<Option<String>> {
        self.with(|handshake| handshake.vpce_id.clone())
    }

    #[getter]
    fn is_stream(&self) -> PyResult<bool> {
        self.with(|handshake| handshake.is_stream)
    }

    fn request_client_certificate(&self, ca_names: Option<Vec<Vec<u8>>>) -> PyResult<()> {
        self.with(|handshake| handshake.wishes.client_certificate = Some(ca_names.unwrap_or_default()))
    }

    fn set_certificate(&self, chain: &[u8], key: &[u8]) -> PyResult<()> {
        self.with(|handshake| match handshake.live.given_pairs.read(chain, key) {
            Ok(pair) => {
                handshake.wishes.certificate = Some(pair);
                Ok(())
            }
            Err(faults) => {
                let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
                Err(PyValueError::new_err(texts.join("; ")))
            }
        })?
    }

    fn disable_session_reuse(&self) -> PyResult<()> {
        self.with(|handshake| handshake.wishes.no_resumption = true)
    }

    fn disable_http2(&self) -> PyResult<()> {
        self.with(|handshake| handshake.wishes.no_http2 = true)
    }

    fn fail(&self) -> PyResult<()> {
        self.with(|handshake| handshake.is_failed = true)
    }
}
