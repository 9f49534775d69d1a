//! The boundary to whoever decides: one method per phase, the exchange handed over by value.
//!
//! The engine knows no plugin and no Python. It calls a method only when the plan says that the phase has handlers
//! (`Exchange::has`), and goes on when it gets the exchange back.

use std::any::Any;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use crate::exchange::Exchange;
use crate::live::Live;
use crate::tls::wishes::HandshakeWishes;

/// What a phase gave back.
pub enum Step {
    /// The phase is over.
    Done(Box<Exchange>),
    /// The phase goes on elsewhere; the future gives the next step, None when the exchange was lost (the request is cut).
    Wait(Pin<Box<dyn Future<Output = Option<Step>> + Send>>),
    /// The request body is needed: read it up to the limit, then call `PhaseRunner::resume`.
    NeedBody {
        /// The exchange whose phase is interrupted.
        exchange: Box<Exchange>,
        /// Stop reading beyond this size.
        limit_bytes: usize,
    },
}

/// A TLS handshake in its certificate phase.
pub struct Handshake {
    /// Configuration in force.
    pub live: Arc<Live>,
    /// Name asked for by the client.
    pub server_name: Option<String>,
    /// Direct peer.
    pub peer: SocketAddr,
    /// Client after real-IP processing.
    pub forwarded: SocketAddr,
    /// VPC endpoint of AWS through which the client came, as a trusted balancer says.
    pub vpce_id: Option<String>,
    /// Local address.
    pub local: SocketAddr,
    /// The connection is a stream.
    pub is_stream: bool,
    /// A handler failed: abort.
    pub is_failed: bool,
    /// What handlers asked for.
    pub wishes: HandshakeWishes,
    /// The runner's own state.
    pub runner_state: Option<Box<dyn Any + Send + Sync>>,
}

/// What a certificate phase gave back.
pub enum HandshakeStep {
    /// The phase is over.
    Done(Box<Handshake>),
    /// The phase goes on elsewhere; None when the handshake was lost.
    Wait(Pin<Box<dyn Future<Output = Option<HandshakeStep>> + Send>>),
}

/// Finished requests on their way to the log phase.
pub type Finished = Vec<Box<Exchange>>;

/// Runs handlers. Implemented over PyO3 by `headgate-engine-py`, by closures in tests.
pub trait PhaseRunner: Send + Sync + 'static {
    /// TLS: the certificate is chosen, the handshake has not gone on.
    fn certificate(&self, handshake: Box<Handshake>) -> HandshakeStep;
    /// A stream's route is known; `Step::NeedBody` has no meaning there.
    fn preread(&self, exchange: Box<Exchange>) -> Step;
    /// The head has arrived.
    fn rewrite(&self, exchange: Box<Exchange>) -> Step;
    /// The route is known.
    fn access(&self, exchange: Box<Exchange>) -> Step;
    /// The whole upstream response is in memory.
    fn response(&self, exchange: Box<Exchange>) -> Step;
    /// The response head is about to be sent.
    fn header_filter(&self, exchange: Box<Exchange>) -> Step;
    /// A chunk is about to be sent.
    fn body_filter(&self, exchange: Box<Exchange>) -> Step;
    /// A WebSocket handshake of a route whose service is a WebSocket endpoint; in place of access.
    fn ws_handshake(&self, exchange: Box<Exchange>) -> Step;
    /// A WebSocket message of the client, in `Exchange::websocket`, is about to be passed on.
    fn client_frame(&self, exchange: Box<Exchange>) -> Step;
    /// A WebSocket message of the upstream is about to be passed on.
    fn upstream_frame(&self, exchange: Box<Exchange>) -> Step;
    /// Requests that are over, each in its log or ws_close phase (`Exchange::phase`), several at once when the worker is busy; never awaited by a client.
    fn log(&self, exchanges: Finished);
    /// Go on with a phase that needed the body.
    fn resume(&self, exchange: Box<Exchange>) -> Step;
}

/// A runner without handlers, for engines that only proxy.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoHandlers;

impl PhaseRunner for NoHandlers {
    fn certificate(&self, handshake: Box<Handshake>) -> HandshakeStep {
        HandshakeStep::Done(handshake)
    }
    fn preread(&self, exchange: Box<Exchange>) -> Step {
        Step::Done(exchange)
    }
    fn rewrite(&self, exchange: Box<Exchange>) -> Step {
        Step::Done(exchange)
    }
    fn access(&self, exchange: Box<Exchange>) -> Step {
        Step::Done(exchange)
    }
    fn response(&self, exchange: Box<Exchange>) -> Step {
        Step::Done(exchange)
    }
    fn header_filter(&self, exchange: Box<Exchange>) -> Step {
        Step::Done(exchange)
    }
    fn body_filter(&self, exchange: Box<Exchange>) -> Step {
        Step::Done(exchange)
    }
    fn ws_handshake(&self, exchange: Box<Exchange>) -> Step {
        Step::Done(exchange)
    }
    fn client_frame(&self, exchange: Box<Exchange>) -> Step {
        Step::Done(exchange)
    }
    fn upstream_frame(&self, exchange: Box<Exchange>) -> Step {
        Step::Done(exchange)
    }
    fn log(&self, _exchanges: Finished) {}
    fn resume(&self, exchange: Box<Exchange>) -> Step {
        Step::Done(exchange)
    }
}
