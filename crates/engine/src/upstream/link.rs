//! One request's way to its upstream, whatever protocol is spoken there.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use crate::http::h1::body::{BodyEncoder, Decoded};
use crate::http::h1::parse::Framing;
use crate::http::head::ResponseHead;
use crate::http::headers::HeaderBlock;
use crate::upstream::connection::{TalkFault, UpstreamConnection};
use crate::upstream::http2::Http2Request;

/// A connection in use, or a stream of one.
pub enum Link {
    /// HTTP/1.1: the connection is this request's alone.
    Http1(Box<UpstreamConnection>, BodyEncoder),
    /// HTTP/2: one stream.
    Http2(Box<Http2Request>),
}

impl Link {
    /// A request on an HTTP/1.1 connection; `framing` is that of the request body.
    #[must_use]
    pub fn http1(connection: Box<UpstreamConnection>, framing: Framing) -> Self {
        Self::Http1(connection, BodyEncoder::new(framing))
    }

    /// Queue bytes of the request body.
    pub fn send_data(&mut self, chunk: Bytes) {
        match self {
            Self::Http1(connection, encoder) => encoder.data(&mut connection.transport.write, chunk),
            Self::Http2(request) => request.send_data(chunk),
        }
    }

    /// Queue the end of the request body.
    pub fn send_end(&mut self, trailers: Option<&HeaderBlock>) {
        match self {
            Self::Http1(connection, encoder) => {
                // A body shorter than announced shows as a broken request at the upstream, as it should.
                let _ = encoder.end(&mut connection.transport.write, trailers);
            }
            Self::Http2(request) => request.send_end(trailers),
        }
    }

    /// Bytes queued and not sent.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        match self {
            Self::Http1(connection, _) => connection.transport.write.len(),
            Self::Http2(request) => request.queued_bytes(),
        }
    }

    /// Send what is queued.
    ///
    /// # Errors
    /// The upstream is gone or took nothing in time.
    pub fn poll_flush(&mut self, within: Duration, context: &mut Context<'_>) -> Poll<Result<(), TalkFault>> {
        match self {
            Self::Http1(connection, _) => connection.poll_flush(within, context),
            Self::Http2(request) => request.poll_flush(within, context),
        }
    }

    /// The final response head.
    ///
    /// # Errors
    /// The upstream is gone, silent, or talks nonsense.
    pub fn poll_head(
        &mut self,
        to_head_request: bool,
        limit_bytes: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<ResponseHead, TalkFault>> {
        match self {
            Self::Http1(connection, _) => connection.poll_head(to_head_request, limit_bytes, context),
            Self::Http2(request) => request.poll_head(context),
        }
    }

    /// Wait at most this long for the next bytes.
    pub fn expect_bytes(&mut self, within: Duration) {
        match self {
            Self::Http1(connection, _) => connection.expect_bytes(within),
            Self::Http2(request) => request.expect_bytes(within),
        }
    }

    /// A piece of the response body that is here already.
    ///
    /// # Errors
    /// The framing is broken.
    pub fn next_piece(&mut self) -> Result<Decoded, TalkFault> {
        match self {
            Self::Http1(connection, _) => connection.next_piece(),
            Self::Http2(request) => Ok(request.next_piece()),
        }
    }

    /// Read more of the response body; Ready when there may be another piece.
    ///
    /// # Errors
    /// The body was cut, or nothing came in time.
    pub fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<Result<(), TalkFault>> {
        match self {
            Self::Http1(connection, _) => connection.poll_more(context),
            Self::Http2(request) => request.poll_more(context),
        }
    }

    /// The whole response body was taken.
    #[must_use]
    pub fn is_body_done(&self) -> bool {
        match self {
            Self::Http1(connection, _) => connection.is_body_done(),
            Self::Http2(request) => request.is_body_done(),
        }
    }

    /// Trailers of the response, once.
    pub fn take_trailers(&mut self) -> Option<HeaderBlock> {
        match self {
            Self::Http1(connection, _) => connection.take_trailers(),
            Self::Http2(request) => request.take_trailers(),
        }
    }

    /// Nothing of a response has come.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        match self {
            Self::Http1(connection, _) => connection.is_silent(),
            // A head that came would have ended the wait.
            Self::Http2(_) => true,
        }
    }

    /// Bytes that have left towards the upstream; a stream's head counts as one.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        match self {
            Self::Http1(connection, _) => connection.transport.sent_bytes(),
            Self::Http2(_) => 1,
        }
    }
}
