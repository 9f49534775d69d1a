//! Phases carried over to Python: the engine's `PhaseRunner` over a Python object.
//!
//! One call per phase. A handler that is done when the call returns costs nothing more; one that awaits goes on as a task
//! of the worker's asyncio loop, and its request waits for a message. Wake-ups of the loop are batched: many requests that
//! begin to wait at once cost one.

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headgate_engine::error::Refusal;
use headgate_engine::exchange::Exchange;
use headgate_engine::http::respond;
use headgate_engine::phase::Phase;
use headgate_engine::runner::{Finished, Handshake, HandshakeStep, PhaseRunner, Step};
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use tokio::sync::oneshot;

use crate::exchange::{BodyWaiter, PyExchange};
use crate::handshake::PyHandshake;
use crate::need_body::NeedBody;

/// Something the asyncio loop has to do.
enum Errand {
    /// Run this awaitable, then give the exchange back.
    Phase(Py<PyAny>, Py<PyExchange>),
    /// Run this awaitable, then give the handshake back.
    Handshake(Py<PyAny>, Py<PyHandshake>),
    /// Run this awaitable; nobody waits.
    Log(Py<PyAny>, Py<PyExchange>),
    /// The body was read: wake the handler that waits for it.
    Body(Py<PyAny>, bool),
}

/// The asyncio loop as the engine thread sees it.
struct Loop {
    call_soon_threadsafe: Py<PyAny>,
    errands: Mutex<Vec<Errand>>,
}

/// Calls a Python runner.
pub struct PythonRunner {
    certificate: Py<PyAny>,
    preread: Py<PyAny>,
    stream_log: Py<PyAny>,
    rewrite: Py<PyAny>,
    access: Py<PyAny>,
    response: Py<PyAny>,
    header_filter: Py<PyAny>,
    body_filter: Py<PyAny>,
    log: Py<PyAny>,
    ws_handshake: Py<PyAny>,
    ws_client_frame: Py<PyAny>,
    ws_upstream_frame: Py<PyAny>,
    ws_close: Py<PyAny>,
    event_loop: Arc<Loop>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PythonRunner {
    /// Take the runner's bound methods, once.
    pub fn new(runner: &Bound<'_, PyAny>, call_soon_threadsafe: Py<PyAny>) -> PyResult<Self> {
        let method = |name: &str| runner.getattr(name).map(Bound::unbind);
        Ok(Self {
            certificate: method("certificate")?,
            preread: method("preread")?,
            stream_log: method("stream_log")?,
            rewrite: method("rewrite")?,
            access: method("access")?,
            response: method("response")?,
            header_filter: method("header_filter")?,
            body_filter: method("body_filter")?,
            log: method("log")?,
            ws_handshake: method("ws_handshake")?,
            ws_client_frame: method("ws_client_frame")?,
            ws_upstream_frame: method("ws_upstream_frame")?,
            ws_close: method("ws_close")?,
            event_loop: Arc::new(Loop {
                call_soon_threadsafe,
                errands: Mutex::new(Vec::new()),
            }),
        })
    }

    fn run(&self, method: &Py<PyAny>, mut exchange: Box<Exchange>) -> Step {
        Python::attach(|py| {
            let known = exchange.runner_state.take();
            let known_view = known.as_ref().and_then(|state| state.downcast_ref::<Py<PyExchange>>());
            let view = match known_view {
                Some(view) => view.clone_ref(py),
                None => match Py::new(py, PyExchange::new()) {
                    Ok(view) => view,
                    Err(error) => return Step::Done(broken(py, exchange, &error)),
                },
            };
            let state: Box<dyn Any + Send + Sync> = match known {
                Some(state) => state,
                None => Box::new(view.clone_ref(py)),
            };
            view.get().enter(exchange, state);
            let outcome = method.call1(py, (&view,));
            self.settle(py, &view, outcome)
        })
    }

    /// From what a call returned to the engine's next step.
    fn settle(&self, py: Python<'_>, view: &Py<PyExchange>, outcome: PyResult<Py<PyAny>>) -> Step {
        let slot = view.get();
        let result = match outcome {
            Ok(result) => result,
            Err(error) => {
                return match slot.leave() {
                    Some(exchange) => Step::Done(broken(py, exchange, &error)),
                    None => lost(),
                };
            }
        };
        if result.is_none(py) {
            return slot.leave().map_or_else(lost, Step::Done);
        }
        if let Ok(need) = result.cast_bound::<NeedBody>(py) {
            let need = need.get();
            slot.remember_resume(need.resume.clone_ref(py));
            let limit_bytes = need.limit_bytes;
            return slot
                .leave()
                .map_or_else(lost, |exchange| Step::NeedBody { exchange, limit_bytes });
        }
        let (sender, receiver) = oneshot::channel();
        slot.wait_with(sender);
        self.event_loop.send(py, Errand::Phase(result, view.clone_ref(py)));
        wait(receiver)
    }
}

/// A future over a message that brings the next step.
fn wait(receiver: oneshot::Receiver<Step>) -> Step {
    Step::Wait(Box::pin(async move { receiver.await.ok() }))
}

/// The exchange did not come back: its request is cut.
fn lost() -> Step {
    Step::Wait(Box::pin(async { None }))
}

/// The runner itself raised: log it and answer 500.
fn broken(py: Python<'_>, mut exchange: Box<Exchange>, error: &PyErr) -> Box<Exchange> {
    let text = traceback(py, error);
    tracing::error!(request_id = exchange.id_text(), "the runner failed: {text}");
    fail(&mut exchange);
    exchange
}

/// Answer 500, cut a response that has begun, or close a WebSocket.
pub fn fail(exchange: &mut Exchange) {
    match exchange.phase {
        Phase::BodyFilter => exchange.must_cut = true,
        Phase::WsClientFrame | Phase::WsUpstreamFrame => {
            if let Some(session) = exchange.websocket.as_mut() {
                session.fail();
            }
        }
        Phase::Log | Phase::WsClose => {}
        _ => {
            let cause = Refusal::Internal(format!("a plugin failed in {}", exchange.phase.name()));
            respond::refuse(exchange, &cause);
        }
    }
    exchange.is_failed = true;
}

fn traceback(py: Python<'_>, error: &PyErr) -> String {
    error
        .traceback(py)
        .and_then(|trace| trace.format().ok())
        .map_or_else(|| error.to_string(), |trace| format!("{error}\n{trace}"))
}

impl Loop {
    fn send(self: &Arc<Self>, py: Python<'_>, errand: Errand) {
        let is_first = {
            let mut errands = lock(&self.errands);
            errands.push(errand);
            errands.len() == 1
        };
        if !is_first {
            return;
        }
        let this = self.clone();
        let outcome = PyCFunction::new_closure(
            py,
            None,
            None,
            move |arguments: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
                this.run_errands(arguments.py());
            },
        )
        .and_then(|callback| self.call_soon_threadsafe.call1(py, (callback,)));
        if let Err(error) = outcome {
            // The loop is closed: nobody will run them. Dropping them tells the waiting requests.
            tracing::error!("the asyncio loop takes no work: {error}");
            let dropped = std::mem::take(&mut *lock(&self.errands));
            for errand in dropped {
                errand.abandon();
            }
        }
    }

    /// On the loop's thread: start everything that was sent since.
    fn run_errands(self: &Arc<Self>, py: Python<'_>) {
        let errands = std::mem::take(&mut *lock(&self.errands));
        for errand in errands {
            if let Err(error) = errand.start(py) {
                error.write_unraisable(py, None);
            }
        }
    }
}

impl Errand {
    fn start(self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Phase(awaitable, view) => when_done(py, &awaitable, move |py, failure| {
                let slot = view.get();
                let step = slot.leave().map(|exchange| match failure {
                    Some(error) => Step::Done(broken(py, exchange, &error)),
                    None => Step::Done(exchange),
                });
                slot.finish_wait(step);
            }),
            Self::Handshake(awaitable, view) => when_done(py, &awaitable, move |py, failure| {
                if let Some(error) = failure {
                    tracing::error!("certificate phase failed: {}", traceback(py, &error));
                    view.get().set_failed();
                }
                view.get().finish_wait();
            }),
            Self::Log(awaitable, view) => when_done(py, &awaitable, move |py, failure| {
                if let Some(error) = failure {
                    tracing::error!("log phase failed: {}", traceback(py, &error));
                }
                drop(view.get().leave());
            }),
            Self::Body(future, is_whole) => {
                if !future.call_method0(py, "done")?.is_truthy(py)? {
                    future.call_method1(py, "set_result", (is_whole,))?;
                }
                Ok(())
            }
        }
    }

    fn abandon(self) {
        match self {
            Self::Phase(_, view) => view.get().finish_wait(None),
            Self::Handshake(_, view) => {
                view.get().set_failed();
                view.get().finish_wait();
            }
            Self::Log(..) | Self::Body(..) => {}
        }
    }
}

/// Run an awaitable as a task; `then` gets the exception it ended with, if any.
fn when_done(
    py: Python<'_>,
    awaitable: &Py<PyAny>,
    then: impl Fn(Python<'_>, Option<PyErr>) + Send + Sync + 'static,
) -> PyResult<()> {
    let task = py.import("asyncio")?.call_method1("ensure_future", (awaitable,))?;
    let callback = PyCFunction::new_closure(
        py,
        None,
        None,
        move |arguments: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
            let py = arguments.py();
            let failure = match arguments.get_item(0).and_then(|task| task.call_method0("exception")) {
                Ok(exception) if exception.is_none() => None,
                Ok(exception) => Some(PyErr::from_value(exception)),
                // The task was cancelled.
                Err(error) => Some(error),
            };
            then(py, failure);
        },
    )?;
    task.call_method1("add_done_callback", (callback,))?;
    Ok(())
}

impl PhaseRunner for PythonRunner {
    fn certificate(&self, mut handshake: Box<Handshake>) -> HandshakeStep {
        Python::attach(|py| {
            handshake.runner_state = None;
            let view = match Py::new(py, PyHandshake::new(handshake)) {
                Ok(view) => view,
                Err(error) => {
                    tracing::error!("certificate phase failed: {error}");
                    return HandshakeStep::Wait(Box::pin(async { None }));
                }
            };
            match self.certificate.call1(py, (&view,)) {
                Ok(result) if result.is_none(py) => {}
                Ok(awaitable) => {
                    let (sender, receiver) = oneshot::channel();
                    view.get().wait_with(sender);
                    self.event_loop.send(py, Errand::Handshake(awaitable, view));
                    return HandshakeStep::Wait(Box::pin(async move { receiver.await.ok() }));
                }
                Err(error) => {
                    tracing::error!("certificate phase failed: {}", traceback(py, &error));
                    view.get().set_failed();
                }
            }
            match view.get().leave() {
                Some(handshake) => HandshakeStep::Done(handshake),
                None => HandshakeStep::Wait(Box::pin(async { None })),
            }
        })
    }

    fn preread(&self, exchange: Box<Exchange>) -> Step {
        self.run(&self.preread, exchange)
    }

    fn rewrite(&self, exchange: Box<Exchange>) -> Step {
        self.run(&self.rewrite, exchange)
    }

    fn access(&self, exchange: Box<Exchange>) -> Step {
        self.run(&self.access, exchange)
    }

    fn response(&self, exchange: Box<Exchange>) -> Step {
        self.run(&self.response, exchange)
    }

    fn header_filter(&self, exchange: Box<Exchange>) -> Step {
        self.run(&self.header_filter, exchange)
    }

    fn body_filter(&self, exchange: Box<Exchange>) -> Step {
        self.run(&self.body_filter, exchange)
    }

    fn ws_handshake(&self, exchange: Box<Exchange>) -> Step {
        self.run(&self.ws_handshake, exchange)
    }

    fn client_frame(&self, exchange: Box<Exchange>) -> Step {
        self.run(&self.ws_client_frame, exchange)
    }

    fn upstream_frame(&self, exchange: Box<Exchange>) -> Step {
        self.run(&self.ws_upstream_frame, exchange)
    }

    fn log(&self, exchanges: Finished) {
        Python::attach(|py| {
            for exchange in exchanges {
                // The future of a waiting step is dropped: nobody waits for a log phase.
                drop(self.log_one(py, exchange));
            }
        });
    }

    fn resume(&self, exchange: Box<Exchange>) -> Step {
        Python::attach(|py| {
            let view = exchange
                .runner_state
                .as_ref()
                .and_then(|state| state.downcast_ref::<Py<PyExchange>>())
                .map(|view| view.clone_ref(py));
            let Some(view) = view else { return lost() };
            let is_whole = exchange.body.is_complete;
            let slot = view.get();
            slot.enter_again(exchange);
            match slot.take_waiter() {
                Some(BodyWaiter::Future(future)) => {
                    let (sender, receiver) = oneshot::channel();
                    slot.wait_with(sender);
                    self.event_loop.send(py, Errand::Body(future, is_whole));
                    wait(receiver)
                }
                Some(BodyWaiter::Resume(resume)) => {
                    let outcome = resume.call0(py);
                    self.settle(py, &view, outcome)
                }
                None => lost(),
            }
        })
    }
}

impl PythonRunner {
    fn log_one(&self, py: Python<'_>, mut exchange: Box<Exchange>) -> PyResult<()> {
        let known = exchange.runner_state.take();
        let known_view = known.as_ref().and_then(|state| state.downcast_ref::<Py<PyExchange>>());
        let view = match known_view {
            Some(view) => view.clone_ref(py),
            None => Py::new(py, PyExchange::new())?,
        };
        let method = match exchange.phase {
            Phase::WsClose => &self.ws_close,
            _ if exchange.session.is_some() => &self.stream_log,
            _ => &self.log,
        };
        // No way back for the view: the exchange ends here.
        view.get().enter(exchange, Box::new(()));
        match method.call1(py, (&view,)) {
            Ok(result) if result.is_none(py) => {
                drop(view.get().leave());
            }
            Ok(awaitable) => self.event_loop.send(py, Errand::Log(awaitable, view)),
            Err(error) => {
                tracing::error!("log phase failed: {}", traceback(py, &error));
                drop(view.get().leave());
            }
        }
        Ok(())
    }
}
