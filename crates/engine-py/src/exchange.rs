//! A request as Python sees it.
//!
//! The view holds the exchange only while a phase runs: the engine puts it in before the call and takes it out after, so
//! a reference kept beyond the phase finds nothing. Getters build a Python object from what is asked for and nothing else.

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::{Bytes, BytesMut};
use headgate_engine::exchange::{Exchange, RequestBody, RetryTarget};
use headgate_engine::http::h1::parse::Framing;
use headgate_engine::http::respond;
use headgate_engine::live::Live;
use headgate_engine::router::path::{encode_for_upstream, split_target};
use headgate_engine::runner::Step;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use tokio::sync::oneshot;

use crate::convert::{field_name, field_value, first, header_list, pairs, response_name, text, values_of, wire};
use crate::headers::{add_request_header, sent_by_upstream, set_request_header};
use crate::{lua, record, websocket};

/// Who waits for the request body.
pub enum BodyWaiter {
    /// A synchronous phase; called on the engine thread.
    Resume(Py<PyAny>),
    /// A future of the asyncio loop.
    Future(Py<PyAny>),
}

/// Frozen view of one exchange.
#[pyclass(frozen, name = "Exchange", module = "headgate._engine")]
pub struct PyExchange {
    slot: Arc<Mutex<Slot>>,
    /// What Lua code knows it by; made when it is asked for.
    lua_handle: OnceLock<Option<u64>>,
    state: Mutex<Option<Py<PyAny>>>,
    body_waiter: Mutex<Option<BodyWaiter>>,
    step_waiter: Mutex<Option<oneshot::Sender<Step>>>,
}

/// The place of the exchange while a phase runs.
#[derive(Default)]
pub struct Slot {
    /// Empty between phases.
    pub exchange: Option<Box<Exchange>>,
    /// What goes back into `Exchange::runner_state` when the exchange leaves.
    own_box: Option<Box<dyn Any + Send + Sync>>,
}

/// Take a lock; a panic elsewhere leaves the value as it is.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The object that was applied with this plan.
pub fn plan_of(py: Python<'_>, live: &Arc<Live>) -> Option<Py<PyAny>> {
    let attachment = live.attachment.as_ref()?;
    attachment.downcast_ref::<Py<PyAny>>().map(|plan| plan.clone_ref(py))
}

impl PyExchange {
    /// An empty view.
    pub fn new() -> Self {
        Self {
            slot: Arc::default(),
            lua_handle: OnceLock::new(),
            state: Mutex::default(),
            body_waiter: Mutex::default(),
            step_waiter: Mutex::default(),
        }
    }

    /// A phase begins.
    pub fn enter(&self, exchange: Box<Exchange>, own_box: Box<dyn Any + Send + Sync>) {
        *lock(&self.slot) = Slot {
            exchange: Some(exchange),
            own_box: Some(own_box),
        };
    }

    /// A phase goes on after the body was read.
    pub fn enter_again(&self, mut exchange: Box<Exchange>) {
        let own_box = exchange.runner_state.take();
        *lock(&self.slot) = Slot {
            exchange: Some(exchange),
            own_box,
        };
    }

    /// The phase is over or interrupted: the exchange goes back to the engine.
    pub fn leave(&self) -> Option<Box<Exchange>> {
        let mut slot = lock(&self.slot);
        let mut exchange = slot.exchange.take()?;
        exchange.runner_state = slot.own_box.take();
        Some(exchange)
    }

    /// The engine waits for this message.
    pub fn wait_with(&self, sender: oneshot::Sender<Step>) {
        *lock(&self.step_waiter) = Some(sender);
    }

    /// Tell the waiting engine what comes next; None: the exchange is lost.
    pub fn finish_wait(&self, step: Option<Step>) {
        if let (Some(sender), Some(step)) = (lock(&self.step_waiter).take(), step) {
            // The engine may have given up meanwhile.
            let _ = sender.send(step);
        }
    }

    /// Call this when the body is read.
    pub fn remember_resume(&self, resume: Py<PyAny>) {
        *lock(&self.body_waiter) = Some(BodyWaiter::Resume(resume));
    }

    /// Who waits for the body.
    pub fn take_waiter(&self) -> Option<BodyWaiter> {
        lock(&self.body_waiter).take()
    }

    fn with<R>(&self, read: impl FnOnce(&mut Exchange) -> R) -> PyResult<R> {
        match lock(&self.slot).exchange.as_mut() {
            Some(exchange) => Ok(read(exchange)),
            None => Err(PyRuntimeError::new_err("the request is not in a phase")),
        }
    }

    fn try_with<R>(&self, read: impl FnOnce(&mut Exchange) -> PyResult<R>) -> PyResult<R> {
        self.with(read)?
    }
}

impl Drop for PyExchange {
    fn drop(&mut self) {
        if let Some(handle) = self.lua_handle.get().copied().flatten() {
            lua::release(handle);
        }
    }
}

#[pymethods]
impl PyExchange {
    /// `state` and this view refer to each other until the log phase is over; a request that is cut before leaves the
    /// pair to the collector.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A lock that is held means that somebody is using the view: it is alive.
        if let Ok(state) = self.state.try_lock() {
            if let Some(state) = state.as_ref() {
                visit.call(state)?;
            }
        }
        if let Ok(waiter) = self.body_waiter.try_lock() {
            match waiter.as_ref() {
                Some(BodyWaiter::Resume(waiter) | BodyWaiter::Future(waiter)) => visit.call(waiter)?,
                None => {}
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        *lock(&self.state) = None;
        *lock(&self.body_waiter) = None;
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
    fn lua_handle(&self) -> Option<u64> {
        *self.lua_handle.get_or_init(|| lua::register(&self.slot))
    }

    #[getter]
    fn plan(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.with(|exchange| plan_of(py, &exchange.live))
    }

    #[getter]
    fn route_index(&self) -> PyResult<Option<usize>> {
        self.with(|exchange| exchange.matched.as_ref().map(|matched| matched.route))
    }

    #[getter]
    fn phase(&self) -> PyResult<u32> {
        self.with(|exchange| exchange.phase.bit())
    }

    #[getter]
    fn id(&self) -> PyResult<String> {
        self.with(|exchange| exchange.id_text().to_owned())
    }

    #[getter]
    fn start_time_ms(&self) -> PyResult<u64> {
        self.with(|exchange| exchange.timings.started_unix_ms)
    }

    fn set_phases(&self, mask: u32) -> PyResult<()> {
        self.with(|exchange| exchange.phases = mask)
    }

    #[getter]
    fn scheme(&self) -> PyResult<&'static str> {
        self.with(|exchange| exchange.connection.scheme())
    }

    #[getter]
    fn http_version(&self) -> PyResult<f64> {
        self.with(|exchange| exchange.request.version.number())
    }

    #[getter]
    fn server_port(&self) -> PyResult<u16> {
        self.with(|exchange| exchange.connection.local.port())
    }

    #[getter]
    fn server_ip(&self) -> PyResult<String> {
        self.with(|exchange| exchange.connection.local.ip().to_canonical().to_string())
    }

    #[getter]
    fn mapped_port(&self) -> PyResult<u16> {
        self.with(|exchange| exchange.connection.mapped_port)
    }

    #[getter]
    fn client_ip(&self) -> PyResult<String> {
        self.with(|exchange| exchange.connection.peer_ip_text.clone())
    }

    #[getter]
    fn client_port(&self) -> PyResult<u16> {
        self.with(|exchange| exchange.connection.peer.port())
    }

    #[getter]
    fn forwarded_client_ip(&self) -> PyResult<String> {
        self.with(|exchange| exchange.forwarded_client.0.to_string())
    }

    #[getter]
    fn forwarded_client_port(&self) -> PyResult<u16> {
        self.with(|exchange| exchange.forwarded_client.1)
    }

    #[getter]
    fn is_peer_trusted(&self) -> PyResult<bool> {
        self.with(|exchange| exchange.connection.is_trusted)
    }

    #[getter]
    fn aws_vpce_id(&self) -> PyResult<Option<String>> {
        self.with(|exchange| {
            let proxied = exchange.connection.proxied.as_ref();
            proxied.and_then(|proxied| proxied.vpce_id.clone())
        })
    }

    #[getter]
    fn stream_protocol(&self) -> PyResult<Option<&'static str>> {
        self.with(|exchange| exchange.session.as_ref().map(|session| session.protocol.name()))
    }

    #[getter]
    fn session_status(&self) -> PyResult<u16> {
        self.with(|exchange| exchange.session.as_ref().map_or(0, |session| session.status))
    }

    #[getter]
    fn upstream_received_bytes(&self) -> PyResult<u64> {
        self.with(|exchange| exchange.session.as_ref().map_or(0, |session| session.upstream_received))
    }

    #[getter]
    fn upstream_sent_bytes(&self) -> PyResult<u64> {
        self.with(|exchange| exchange.session.as_ref().map_or(0, |session| session.upstream_sent))
    }

    #[getter]
    fn tls_version(&self) -> PyResult<Option<&'static str>> {
        self.with(|exchange| exchange.connection.tls.as_ref().map(|tls| tls.version))
    }

    #[getter]
    fn tls_cipher(&self) -> PyResult<Option<String>> {
        self.with(|exchange| exchange.connection.tls.as_ref().map(|tls| tls.cipher.clone()))
    }

    #[getter]
    fn tls_server_name(&self) -> PyResult<Option<String>> {
        self.with(|exchange| {
            let of_stream = exchange
                .session
                .as_ref()
                .and_then(|session| session.server_name.clone());
            of_stream.or_else(|| exchange.connection.tls.as_ref().and_then(|tls| tls.server_name.clone()))
        })
    }

    #[getter]
    fn request_target<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.try_with(|exchange| text(py, exchange.request.target()))
    }

    #[getter]
    fn raw_path<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.try_with(|exchange| text(py, split_target(exchange.request.target()).path))
    }

    #[getter]
    fn path<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.try_with(|exchange| text(py, &exchange.path))
    }

    #[getter]
    fn host<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.try_with(|exchange| text(py, &exchange.host()))
    }

    #[getter]
    fn stripped_prefix<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyString>>> {
        self.try_with(|exchange| exchange.stripped_prefix().map(|prefix| text(py, prefix)).transpose())
    }

    fn uri_captures<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        self.try_with(|exchange| {
            let Some(captures) = exchange.matched.as_ref().and_then(|matched| matched.captures.as_ref()) else {
                return Ok(None);
            };
            let unnamed = PyList::empty(py);
            for capture in &captures.unnamed {
                unnamed.append(capture.as_deref().map(|capture| text(py, capture)).transpose()?)?;
            }
            let named = PyDict::new(py);
            for (name, capture) in &captures.named {
                if let Some(capture) = capture {
                    named.set_item(name, text(py, capture)?)?;
                }
            }
            (unnamed, named).into_pyobject(py).map(Some)
        })
    }

    #[getter]
    fn method(&self) -> PyResult<String> {
        self.with(|exchange| exchange.request.method.as_str().to_owned())
    }

    fn set_method(&self, method: &str) -> PyResult<()> {
        let method = http::Method::from_bytes(method.as_bytes())
            .map_err(|_| PyValueError::new_err(format!("invalid method: {method}")))?;
        self.with(|exchange| {
            let sent = std::mem::replace(&mut exchange.request.method, method);
            exchange.original_method.get_or_insert(sent);
        })
    }

    #[getter]
    fn query<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyString>>> {
        self.try_with(|exchange| exchange.query().map(|query| text(py, query)).transpose())
    }

    fn set_query(&self, query: Option<&Bound<'_, PyString>>) -> PyResult<()> {
        let query = query.map(wire).transpose()?;
        if query
            .as_ref()
            .is_some_and(|query| query.iter().any(|byte| *byte <= 32 || *byte == 127))
        {
            return Err(PyValueError::new_err(
                "query must not have spaces or control characters",
            ));
        }
        self.with(|exchange| exchange.overrides.query = Some(query))
    }

    fn get_request_header<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyString>>> {
        self.try_with(|exchange| first(py, &exchange.request.headers, name))
    }

    fn get_request_header_values<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyList>> {
        self.try_with(|exchange| {
            let list = PyList::empty(py);
            for value in exchange.request.headers.values(name.as_bytes()) {
                list.append(text(py, value)?)?;
            }
            Ok(list)
        })
    }

    fn request_headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.try_with(|exchange| pairs(py, &exchange.request.headers))
    }

    fn set_request_header(&self, name: &Bound<'_, PyString>, values: &Bound<'_, PyList>) -> PyResult<()> {
        let name = field_name(name)?;
        let values = values_of(values)?;
        self.with(|exchange| set_request_header(exchange, &name, &values))
    }

    fn add_request_header(&self, name: &Bound<'_, PyString>, value: &Bound<'_, PyString>) -> PyResult<()> {
        let name = field_name(name)?;
        let value = field_value(value)?;
        self.with(|exchange| add_request_header(exchange, &name, value))
    }

    fn clear_request_header(&self, name: &str) -> PyResult<()> {
        self.with(|exchange| {
            exchange.request.headers.remove(name.as_bytes());
        })
    }

    #[getter]
    fn request_body_state(&self) -> PyResult<u8> {
        self.with(|exchange| {
            let body = &exchange.body;
            match () {
                () if body.is_complete => 0,
                () if body.is_gone => 3,
                () if body.is_over_limit => 2,
                () => 1,
            }
        })
    }

    fn request_body<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        self.with(|exchange| exchange.body.is_complete.then(|| PyBytes::new(py, &exchange.body.held)))
    }

    #[getter]
    fn request_body_buffer_bytes(&self) -> PyResult<usize> {
        self.with(|exchange| exchange.live.settings.limits.request_body_buffer_bytes)
    }

    fn set_request_body(&self, body: &[u8]) -> PyResult<()> {
        self.with(|exchange| {
            // The client's own body, where it was not read, is read away when the request is over.
            exchange.body = RequestBody {
                framing: Framing::Length(body.len() as u64),
                held: BytesMut::from(body),
                is_complete: true,
                is_over_limit: false,
                is_gone: false,
                trailers: None,
                is_replaced: true,
            };
        })
    }

    fn read_request_body<'py>(&self, py: Python<'py>, limit_bytes: usize) -> PyResult<Bound<'py, PyAny>> {
        let future = py
            .import("asyncio")?
            .call_method0("get_running_loop")?
            .call_method0("create_future")?;
        let is_complete = self.with(|exchange| exchange.body.is_complete)?;
        if is_complete {
            future.call_method1("set_result", (true,))?;
            return Ok(future);
        }
        if lock(&self.step_waiter).is_none() {
            return Err(PyRuntimeError::new_err(
                "the body can only be awaited in an async handler",
            ));
        }
        let Some(exchange) = self.leave() else {
            return Err(PyRuntimeError::new_err("the request is not in a phase"));
        };
        *lock(&self.body_waiter) = Some(BodyWaiter::Future(future.clone().unbind()));
        self.finish_wait(Some(Step::NeedBody { exchange, limit_bytes }));
        Ok(future)
    }

    fn set_upstream_scheme(&self, scheme: &str) -> PyResult<()> {
        let is_tls = match scheme {
            "http" | "ws" => false,
            "https" | "wss" => true,
            other => return Err(PyValueError::new_err(format!("invalid scheme: {other}"))),
        };
        self.with(|exchange| exchange.overrides.is_tls = Some(is_tls))
    }

    fn set_upstream_path(&self, path: &Bound<'_, PyString>) -> PyResult<()> {
        let path = wire(path)?;
        let path = encode_for_upstream(&path).into_owned();
        self.with(|exchange| exchange.overrides.path = Some(path))
    }

    fn set_upstream(&self, name: &str) -> PyResult<bool> {
        self.with(|exchange| {
            let is_known = exchange.live.upstreams.contains_key(name);
            if is_known {
                exchange.overrides.target = Some((name.to_owned(), None));
            }
            is_known
        })
    }

    fn set_target(&self, host: &str, port: u16) -> PyResult<()> {
        self.with(|exchange| {
            exchange.overrides.target = Some((host.to_owned(), Some(port)));
            exchange.overrides.host = Some(host.as_bytes().to_vec());
        })
    }

    #[pyo3(signature = (identity))]
    fn set_balancing_identity(&self, identity: Option<String>) -> PyResult<()> {
        self.with(|exchange| exchange.balancing_identity = identity)
    }

    fn set_retries(&self, retries: u32) -> PyResult<()> {
        self.with(|exchange| exchange.overrides.retries = Some(retries))
    }

    fn set_timeouts(&self, connect_ms: u64, write_ms: u64, read_ms: u64) -> PyResult<()> {
        self.with(|exchange| exchange.overrides.timeouts_ms = Some((connect_ms, write_ms, read_ms)))
    }

    fn client_certificate_chain(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let certificates = self.with(|exchange| {
            exchange
                .connection
                .tls
                .as_ref()
                .map(|tls| tls.client_certificates.clone())
                .unwrap_or_default()
        })?;
        if certificates.is_empty() {
            return Ok(None);
        }
        let to_pem = py.import("ssl")?.getattr("DER_cert_to_PEM_cert")?;
        let mut chain = String::new();
        for certificate in certificates {
            chain.push_str(&to_pem.call1((PyBytes::new(py, &certificate),))?.extract::<String>()?);
        }
        Ok(Some(chain))
    }

    #[getter]
    fn client_verify(&self) -> PyResult<String> {
        self.with(|exchange| exchange.client_verify().to_owned())
    }

    fn set_client_verify(&self, value: String) -> PyResult<()> {
        self.with(|exchange| exchange.client_verify = Some(value))
    }

    #[pyo3(signature = (verify = None, depth = None, ca_pem = None, certificate = None))]
    fn set_upstream_tls(
        &self,
        verify: Option<bool>,
        depth: Option<u8>,
        ca_pem: Option<String>,
        certificate: Option<(String, String)>,
    ) -> PyResult<()> {
        self.with(|exchange| {
            let changes = exchange.overrides.tls.get_or_insert_default();
            changes.is_verified = verify.or(changes.is_verified);
            changes.max_depth = depth.or(changes.max_depth);
            changes.ca_certificates = ca_pem.or_else(|| changes.ca_certificates.take());
            changes.client_certificate = certificate.or_else(|| changes.client_certificate.take());
        })
    }

    fn set_target_retry_callback(&self, callback: Py<PyAny>) -> PyResult<()> {
        let ask: RetryTarget = Arc::new(move || Python::attach(|py| retry_target(py, &callback)));
        self.with(|exchange| exchange.overrides.retry_target = Some(ask))
    }

    fn enable_buffering(&self) -> PyResult<()> {
        self.with(|exchange| exchange.wants_buffering = true)
    }

    #[pyo3(signature = (status, headers, body, is_json = false))]
    fn respond(&self, status: u16, headers: &Bound<'_, PyList>, body: Option<&[u8]>, is_json: bool) -> PyResult<()> {
        let headers = header_list(headers)?;
        self.with(|exchange| {
            respond::answer_exit(exchange, status, body.map(Bytes::copy_from_slice), &headers, is_json);
            exchange.is_exited = true;
        })
    }

    fn respond_error(&self, status: u16, message: Option<&str>, headers: &Bound<'_, PyList>) -> PyResult<()> {
        let headers = header_list(headers)?;
        self.try_with(|exchange| {
            respond::answer_error(exchange, status, message, &headers).map_err(PyValueError::new_err)?;
            exchange.is_exited = true;
            Ok(())
        })
    }

    fn fail(&self) -> PyResult<()> {
        self.with(crate::runner::fail)
    }

    #[getter]
    fn is_answered(&self) -> PyResult<bool> {
        self.with(|exchange| exchange.answer.is_some() || exchange.is_exited)
    }

    #[getter]
    fn response_source(&self) -> PyResult<&'static str> {
        self.with(|exchange| exchange.source())
    }

    #[getter]
    fn response_status(&self) -> PyResult<u16> {
        self.with(|exchange| exchange.response.status)
    }

    fn set_response_status(&self, status: u16) -> PyResult<()> {
        self.with(|exchange| exchange.response.status = status)
    }

    fn get_response_header<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyString>>> {
        self.try_with(|exchange| first(py, &exchange.response.headers, name))
    }

    fn response_headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.try_with(|exchange| pairs(py, &exchange.response.headers))
    }

    fn set_response_header(&self, name: &Bound<'_, PyString>, values: &Bound<'_, PyList>) -> PyResult<()> {
        let name = response_name(name)?;
        let values = values_of(values)?;
        self.with(|exchange| exchange.response.headers.set(name.as_bytes(), &values))
    }

    fn add_response_header(&self, name: &Bound<'_, PyString>, value: &Bound<'_, PyString>) -> PyResult<()> {
        let name = response_name(name)?;
        let value = field_value(value)?;
        self.with(|exchange| exchange.response.headers.add(name.as_bytes(), &value))
    }

    fn clear_response_header(&self, name: &str) -> PyResult<()> {
        self.with(|exchange| {
            exchange.response.headers.remove(name.as_bytes());
        })
    }

    fn response_chunk<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyBytes>, bool)> {
        self.with(|exchange| (PyBytes::new(py, &exchange.chunk.data), exchange.chunk.is_last))
    }

    fn set_response_chunk(&self, chunk: &[u8], is_last: bool) -> PyResult<()> {
        self.with(|exchange| {
            exchange.chunk.data = Bytes::copy_from_slice(chunk);
            exchange.chunk.is_last = is_last;
        })
    }

    #[getter]
    fn upstream_status(&self) -> PyResult<Option<u16>> {
        self.with(|exchange| exchange.upstream_statuses.last().copied())
    }

    #[getter]
    fn upstream_status_text(&self) -> PyResult<String> {
        self.with(|exchange| {
            exchange
                .upstream_statuses
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        })
    }

    fn get_upstream_header<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyString>>> {
        self.try_with(|exchange| {
            if !sent_by_upstream(exchange, name.as_bytes()) {
                return Ok(None);
            }
            first(py, &exchange.response.headers, name)
        })
    }

    fn upstream_headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.try_with(|exchange| {
            let list = PyList::empty(py);
            for (_, name, value) in exchange.response.headers.iter() {
                if sent_by_upstream(exchange, name) {
                    list.append((text(py, name)?, text(py, value)?))?;
                }
            }
            Ok(list)
        })
    }

    #[getter]
    fn is_buffered(&self) -> PyResult<bool> {
        self.with(|exchange| exchange.buffered.is_some())
    }

    fn buffered_body<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.with(|exchange| PyBytes::new(py, exchange.buffered.as_deref().unwrap_or_default()))
    }

    fn set_buffered_body(&self, body: &[u8]) -> PyResult<()> {
        self.with(|exchange| exchange.buffered = Some(Bytes::copy_from_slice(body)))
    }

    fn websocket_message<'py>(&self, py: Python<'py>) -> PyResult<websocket::MessageParts<'py>> {
        self.try_with(|exchange| websocket::message(py, exchange))
    }

    #[pyo3(signature = (data = None, status = None))]
    fn set_websocket_message(&self, data: Option<&[u8]>, status: Option<u16>) -> PyResult<()> {
        self.try_with(|exchange| websocket::set_message(exchange, data, status))
    }

    fn drop_websocket_message(&self) -> PyResult<()> {
        self.try_with(websocket::drop_message)
    }

    fn close_websocket(&self, client: (u16, &[u8]), upstream: (u16, &[u8])) -> PyResult<()> {
        self.try_with(|exchange| websocket::close(exchange, client, upstream))
    }

    fn set_websocket_limit(&self, side: &str, size_bytes: usize) -> PyResult<()> {
        self.try_with(|exchange| websocket::set_limit(exchange, side, size_bytes))
    }

    #[getter]
    fn upstream_uri<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.try_with(|exchange| text(py, &exchange.upstream_uri))
    }

    #[getter]
    fn request_bytes(&self) -> PyResult<u64> {
        self.with(|exchange| exchange.request_bytes)
    }

    #[getter]
    fn response_bytes(&self) -> PyResult<u64> {
        self.with(|exchange| exchange.response_bytes)
    }

    fn latencies_ms(&self) -> PyResult<(i64, i64, i64, i64)> {
        self.with(|exchange| exchange.latencies_ms())
    }

    fn tries<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.try_with(|exchange| record::tries(py, exchange))
    }

    fn routing_ns(&self) -> PyResult<Option<(u128, u128)>> {
        self.with(|exchange| exchange.routing_ns())
    }

    fn record_upstream_tls(&self) -> PyResult<()> {
        self.with(|exchange| exchange.records_upstream_tls = true)
    }

    fn upstream_tls_facts<'py>(&self, py: Python<'py>) -> PyResult<Option<record::UpstreamTls<'py>>> {
        self.with(|exchange| record::upstream_tls(py, exchange))
    }
}

/// Ask a plugin's callback: it returns (host, port), (host, port, error) or None.
fn retry_target(py: Python<'_>, callback: &Py<PyAny>) -> Result<Option<(String, u16)>, String> {
    let answer = callback.bind(py).call0().map_err(|error| error.to_string())?;
    if answer.is_none() {
        return Ok(None);
    }
    if let Ok((host, port)) = answer.extract::<(String, u16)>() {
        return Ok(Some((host, port)));
    }
    match answer.extract::<(Option<String>, Option<u16>, Option<String>)>() {
        Ok((Some(host), Some(port), None)) => Ok(Some((host, port))),
        Ok((_, _, Some(cause))) => Err(cause),
        Ok(_) => Err("the callback gave no target".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
