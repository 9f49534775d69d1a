//! The client's half of an exchange, whatever protocol carries it.
//!
//! The pipeline is written once against this trait; `h1::server` and `h2` implement it. All waiting is by polling, so that
//! one task can move both directions of a connection at the same time.

use std::future::Future;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use crate::exchange::Exchange;
use crate::gateway::Gateway;
use crate::http::h1::parse::Framing;
use crate::http::h1::transport::Transport;
use crate::http::head::ResponseHead;
use crate::http::headers::HeaderBlock;
use crate::http::tunnel::TunnelEnd;
use crate::upstream::connect::UpstreamStream;
use crate::ws::relay::Relay;

/// The client's side failed; nothing more can be said to it, unless noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClientFault {
    /// The connection or stream is gone.
    #[error("client closed the connection")]
    Gone,
    /// The body's framing is broken; an answer is still possible.
    #[error("{0}")]
    BadBody(&'static str),
    /// No byte of the body came in time; an answer is still possible.
    #[error("client timed out")]
    BodyTimeout,
    /// The client did not take the response in time.
    #[error("client too slow to take the response")]
    SendTimeout,
}

/// One request's client.
pub trait ClientStream: Send {
    /// Next piece of the request body; None at its end. Sends `100 Continue` when the client waits for it.
    fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ClientFault>>;

    /// A piece of the body that is here already, without waiting and without asking the client for more.
    ///
    /// `Ok(None)`: nothing here now. The end shows as `is_body_done`.
    ///
    /// # Errors
    /// The framing is broken.
    fn buffered_body(&mut self) -> Result<Option<Bytes>, ClientFault>;

    /// The whole body was taken.
    fn is_body_done(&self) -> bool;

    /// Trailers that followed the body, once.
    fn take_trailers(&mut self) -> Option<HeaderBlock>;

    /// Ready when the client has left. Only asked while no body is being read.
    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// Queue the response head. `framing` is what the body will be; `closes` asks to end the connection afterwards.
    fn send_head(&mut self, head: &ResponseHead, framing: Framing, closes: bool);

    /// Queue body bytes.
    fn send_data(&mut self, chunk: Bytes);

    /// Queue the end of the body. False: fewer bytes than announced, the response is cut.
    fn send_end(&mut self, trailers: Option<&HeaderBlock>) -> bool;

    /// Ready when all that was queued has left.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ClientFault>>;

    /// Bytes that are queued and have not left.
    fn queued_bytes(&self) -> usize;

    /// Give up the response in mid-body so that the client notices.
    fn abort(&mut self);

    /// Bytes received and sent for this request so far.
    fn byte_counts(&self) -> (u64, u64);

    /// Chunked coding (or HTTP/2 framing) can end a body of unknown length.
    fn can_chunk(&self) -> bool;

    /// After a `101`: move bytes both ways until both sides are done, for `idle` none came from either, or the worker is
    /// out of time.
    fn tunnel(
        &mut self,
        upstream: &mut Transport<UpstreamStream>,
        idle: Duration,
        gateway: &Gateway,
    ) -> impl Future<Output = TunnelEnd> + Send;

    /// After a `101` of a WebSocket service: move messages both ways until both sides are done.
    fn relay(
        &mut self,
        upstream: &mut Transport<UpstreamStream>,
        relay: Relay<'_>,
    ) -> impl Future<Output = Option<Box<Exchange>>> + Send;
}
