//! The request body on its way from the client to the upstream.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use crate::exchange::RequestBody;
use crate::http::client::{ClientFault, ClientStream};
use crate::upstream::connection::TalkFault;
use crate::upstream::link::Link;

/// Body bytes queued towards a slow upstream before the client is no longer read.
const QUEUE_BYTES: usize = 64 * 1024;

/// Moves a request body, as both ends allow.
#[derive(Debug)]
pub struct BodyPump {
    is_done: bool,
    /// The upstream took no more; its response may still come.
    pub is_refused: bool,
    keep_bytes: usize,
    limit_bytes: u64,
    moved_bytes: u64,
}

impl BodyPump {
    /// A pump for this request: what is held goes out first, up to `keep_bytes` more are kept for another attempt.
    pub fn start(link: &mut Link, body: &RequestBody, keep_bytes: usize, limit_bytes: u64) -> Self {
        link.send_data(Bytes::copy_from_slice(&body.held));
        let is_done = body.is_complete;
        let has_body = body.is_replaced || !body.held.is_empty() || body.trailers.is_some();
        if is_done && has_body {
            link.send_end(body.trailers.as_ref());
        }
        Self {
            is_done,
            is_refused: false,
            keep_bytes,
            limit_bytes,
            moved_bytes: body.held.len() as u64,
        }
    }

    /// The whole body is queued.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// Move what can be moved now. Ready(Ok) when all is written; the task is woken for more otherwise.
    ///
    /// # Errors
    /// What happened at the client's or the upstream's end.
    pub fn poll<C: ClientStream>(
        &mut self,
        client: &mut C,
        link: &mut Link,
        body: &mut RequestBody,
        write_within: Duration,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), PumpFault>> {
        if self.is_refused {
            return Poll::Ready(Ok(()));
        }
        loop {
            let flushed = link.poll_flush(write_within, context).map_err(PumpFault::Upstream)?;
            if self.is_done {
                return flushed.map(Ok);
            }
            if link.queued_bytes() >= QUEUE_BYTES {
                return Poll::Pending;
            }
            match client.poll_body(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(fault)) => return Poll::Ready(Err(PumpFault::Client(fault))),
                Poll::Ready(Ok(None)) => {
                    self.is_done = true;
                    body.trailers = client.take_trailers();
                    link.send_end(body.trailers.as_ref());
                    body.is_complete = !body.is_gone;
                }
                Poll::Ready(Ok(Some(chunk))) => {
                    self.moved_bytes += chunk.len() as u64;
                    if self.limit_bytes != 0 && self.moved_bytes > self.limit_bytes {
                        return Poll::Ready(Err(PumpFault::TooLarge));
                    }
                    if !body.is_gone && body.held.len() + chunk.len() <= self.keep_bytes {
                        body.held.extend_from_slice(&chunk);
                    } else {
                        body.is_gone = true;
                    }
                    link.send_data(chunk);
                }
            }
        }
    }
}

/// Where a body got stuck.
#[derive(Debug)]
pub enum PumpFault {
    /// At the client.
    Client(ClientFault),
    /// At the upstream.
    Upstream(TalkFault),
    /// Beyond `client_max_body_size`.
    TooLarge,
}
