//! HTTP/1.1 on one upstream connection: send a request, take its response.
//!
//! Lean on purpose: no task and no channel per connection. The exchange's own task polls both directions, so a wake-up is
//! one poll away from the bytes.

use std::task::{Context, Poll};
use std::time::Duration;

use crate::http::h1::body::{BodyDecoder, Decoded};
use crate::http::h1::parse::{parse_response, Framing, Parsed};
use crate::http::h1::transport::Transport;
use crate::http::head::ResponseHead;
use crate::http::headers::HeaderBlock;
use crate::timer::Watchdog;
use crate::upstream::connect::UpstreamStream;

/// What can go wrong while talking to an upstream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TalkFault {
    /// The connection broke or ended.
    #[error("{0}")]
    Broken(String),
    /// The upstream says that it did not begin to process the request.
    #[error("{0}")]
    NotProcessed(String),
    /// What came is no valid HTTP.
    #[error("invalid response: {0}")]
    Invalid(&'static str),
    /// Nothing came in time.
    #[error("timed out while reading")]
    ReadTimeout,
    /// Nothing could be written in time.
    #[error("timed out while sending")]
    WriteTimeout,
}

/// One connection.
#[derive(Debug)]
pub struct UpstreamConnection {
    /// Buffers and stream.
    pub transport: Transport<UpstreamStream>,
    /// Requests begun on it.
    pub requests: u64,
    decoder: BodyDecoder,
    watchdog: Watchdog,
    write_watchdog: Watchdog,
    closes: bool,
}

impl UpstreamConnection {
    /// A new connection.
    #[must_use]
    pub fn new(stream: UpstreamStream) -> Self {
        Self {
            transport: Transport::new(stream, bytes::BytesMut::new()),
            requests: 0,
            decoder: BodyDecoder::new(Framing::None),
            watchdog: Watchdog::default(),
            write_watchdog: Watchdog::default(),
            closes: false,
        }
    }

    /// Another request begins: deadlines of the one before, which may have passed in the pool, are none of its own.
    pub fn begin(&mut self) {
        self.requests += 1;
        self.watchdog.disarm();
        self.write_watchdog.disarm();
    }

    /// A pooled connection is usable when nothing has come on it: neither an end nor stray bytes.
    pub fn is_usable(&mut self) -> bool {
        let mut context = Context::from_waker(std::task::Waker::noop());
        self.transport.read.is_empty() && self.transport.poll_fill(&mut context).is_pending()
    }

    /// Nothing of a response to the current request has come.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.transport.read.is_empty()
    }

    /// Wait at most this long for the next bytes.
    pub fn expect_bytes(&mut self, within: Duration) {
        self.watchdog.arm(within);
    }

    /// Write what is queued.
    ///
    /// # Errors
    /// The connection broke, or took nothing in time.
    pub fn poll_flush(&mut self, within: Duration, context: &mut Context<'_>) -> Poll<Result<(), TalkFault>> {
        let before = self.transport.sent_bytes();
        match self.transport.poll_flush(context) {
            Poll::Ready(Ok(())) => {
                self.write_watchdog.disarm();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(TalkFault::Broken(format!("writing: {error}")))),
            Poll::Pending => {
                if self.transport.sent_bytes() != before || self.write_watchdog.is_disarmed() {
                    self.write_watchdog.arm(within);
                }
                if self.write_watchdog.poll_expired(context).is_ready() {
                    return Poll::Ready(Err(TalkFault::WriteTimeout));
                }
                Poll::Pending
            }
        }
    }

    /// The next final response head; interim ones (1xx but 101) are passed over.
    ///
    /// # Errors
    /// The connection broke, or what came is no response.
    pub fn poll_head(
        &mut self,
        to_head_request: bool,
        limit_bytes: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<ResponseHead, TalkFault>> {
        loop {
            if !self.transport.read.is_empty() {
                match parse_response(&self.transport.read, to_head_request, limit_bytes) {
                    Ok(Some(Parsed {
                        head,
                        framing,
                        length,
                        closes,
                    })) => {
                        let _ = self.transport.read.split_to(length);
                        if head.status < 200 && head.status != 101 {
                            continue;
                        }
                        self.decoder = BodyDecoder::new(framing);
                        self.closes = closes;
                        return Poll::Ready(Ok(head));
                    }
                    Ok(None) => {}
                    Err(cause) => return Poll::Ready(Err(TalkFault::Invalid(cause))),
                }
            }
            match self.transport.poll_fill(context) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(TalkFault::Broken("closed before a response".to_owned())));
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(TalkFault::Broken(format!("reading: {error}")))),
                Poll::Pending => {
                    if self.watchdog.poll_expired(context).is_ready() {
                        return Poll::Ready(Err(TalkFault::ReadTimeout));
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// A piece of the response body that is here already.
    ///
    /// # Errors
    /// The framing is broken.
    pub fn next_piece(&mut self) -> Result<Decoded, TalkFault> {
        self.decoder
            .decode(&mut self.transport.read)
            .map_err(|fault| TalkFault::Invalid(fault.0))
    }

    /// Read more of the response body; Ready when there may be another piece.
    ///
    /// # Errors
    /// The connection ended in mid-body, broke, or was silent for too long.
    pub fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<Result<(), TalkFault>> {
        match self.transport.poll_fill(context) {
            Poll::Ready(Ok(0)) => Poll::Ready(
                self.decoder
                    .finish_at_close()
                    .map_err(|fault| TalkFault::Invalid(fault.0)),
            ),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(TalkFault::Broken(format!("reading: {error}")))),
            Poll::Pending => {
                if self.watchdog.poll_expired(context).is_ready() {
                    return Poll::Ready(Err(TalkFault::ReadTimeout));
                }
                Poll::Pending
            }
        }
    }

    /// The whole response body was taken.
    #[must_use]
    pub fn is_body_done(&self) -> bool {
        self.decoder.is_done()
    }

    /// Trailers of the response, once.
    pub fn take_trailers(&mut self) -> Option<HeaderBlock> {
        self.decoder.take_trailers()
    }

    /// Another request may be sent on it.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        !self.closes && self.decoder.is_done() && self.transport.read.is_empty() && self.transport.write.is_empty()
    }
}

#[cfg(test)]
mod tests;
