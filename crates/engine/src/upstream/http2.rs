//! HTTP/2 to upstreams: shared connections, and one request on a stream of theirs.
//!
//! Used for services of the protocols grpc and grpcs. The `h2` crate owns frames and flow control; each connection has a
//! task that drives it, requests are streams opened through a shared handle.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{ready, Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use rustc_hash::FxHashMap;

use crate::exchange::UpstreamTls;
use crate::http::h1::body::Decoded;
use crate::http::head::ResponseHead;
use crate::http::headers::HeaderBlock;
use crate::timer::Watchdog;
use crate::upstream::connect::UpstreamStream;
use crate::upstream::connection::TalkFault;
use crate::upstream::pool::PoolKey;

/// Bytes an upstream may send on a stream before they are taken.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// The same for a whole connection.
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Open HTTP/2 connections of one worker, one per key.
#[derive(Default)]
pub struct Http2Connections {
    open: Mutex<FxHashMap<PoolKey, Open>>,
}

struct Open {
    sender: SendRequest<Bytes>,
    used: Instant,
    tls: Option<Arc<UpstreamTls>>,
}

impl Http2Connections {
    /// A handle of the open connection for `key`, if it still takes requests.
    pub async fn checkout(&self, key: &PoolKey) -> Option<SendRequest<Bytes>> {
        let sender = {
            let mut open = self.lock();
            let found = open.get_mut(key)?;
            found.used = Instant::now();
            found.sender.clone()
        };
        match sender.ready().await {
            Ok(sender) => Some(sender),
            Err(_) => {
                self.lock().remove(key);
                None
            }
        }
    }

    /// Speak HTTP/2 on a new connection and share it under `key`.
    ///
    /// # Errors
    /// The upstream does not speak HTTP/2.
    pub async fn open(&self, key: &PoolKey, stream: UpstreamStream) -> Result<SendRequest<Bytes>, TalkFault> {
        let tls = stream.tls_facts().map(Arc::new);
        let handshake = Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .enable_push(false)
            .handshake::<_, Bytes>(stream);
        let (sender, connection) = handshake.await.map_err(|error| fault_of(&error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("HTTP/2 connection to an upstream ended: {error}");
            }
        });
        let sender = sender.ready().await.map_err(|error| fault_of(&error))?;
        let used = Instant::now();
        self.lock().insert(
            key.clone(),
            Open {
                sender: sender.clone(),
                used,
                tls,
            },
        );
        Ok(sender)
    }

    /// TLS facts of the open connection for `key`.
    pub fn tls_facts(&self, key: &PoolKey) -> Option<Arc<UpstreamTls>> {
        self.lock().get(key)?.tls.clone()
    }

    /// Let go of connections that no request used for `idle`; they close when their last stream ends.
    pub fn sweep(&self, now: Instant, idle: Duration) {
        if !idle.is_zero() {
            self.lock()
                .retain(|_, open| now.saturating_duration_since(open.used) < idle);
        }
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<PoolKey, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fault_of(error: &h2::Error) -> TalkFault {
    let was_not_processed = error.is_go_away() && error.is_remote() || error.reason() == Some(Reason::REFUSED_STREAM);
    if was_not_processed {
        TalkFault::NotProcessed(error.to_string())
    } else {
        TalkFault::Broken(error.to_string())
    }
}

/// One request on a stream.
pub struct Http2Request {
    send: SendStream<Bytes>,
    response: ResponseFuture,
    receive: Option<RecvStream>,
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
    trailers_to_send: Option<http::HeaderMap>,
    has_ended: bool,
    is_end_sent: bool,
    piece: Option<Bytes>,
    is_body_done: bool,
    trailers: Option<HeaderBlock>,
    read_watchdog: Watchdog,
    write_watchdog: Watchdog,
}

impl Http2Request {
    /// Open a stream with this head; `is_whole`: no body follows.
    ///
    /// # Errors
    /// The connection takes no more requests.
    pub fn start(sender: &mut SendRequest<Bytes>, head: http::Request<()>, is_whole: bool) -> Result<Self, TalkFault> {
        let (response, send) = sender.send_request(head, is_whole).map_err(|error| fault_of(&error))?;
        Ok(Self {
            send,
            response,
            receive: None,
            queue: VecDeque::new(),
            queued_bytes: 0,
            trailers_to_send: None,
            has_ended: is_whole,
            is_end_sent: is_whole,
            piece: None,
            is_body_done: false,
            trailers: None,
            read_watchdog: Watchdog::default(),
            write_watchdog: Watchdog::default(),
        })
    }

    /// Queue body bytes.
    pub fn send_data(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.queued_bytes += chunk.len();
            self.queue.push_back(chunk);
        }
    }

    /// Queue the end of the body.
    pub fn send_end(&mut self, trailers: Option<&HeaderBlock>) {
        self.trailers_to_send = trailers.filter(|block| !block.is_empty()).map(HeaderBlock::to_map);
        self.has_ended = true;
    }

    /// Bytes queued and not accepted by the connection.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Hand what is queued to the connection, as far as the upstream's window allows.
    ///
    /// # Errors
    /// The stream or connection ended, or the window stayed shut for too long.
    pub fn poll_flush(&mut self, within: Duration, context: &mut Context<'_>) -> Poll<Result<(), TalkFault>> {
        while let Some(front) = self.queue.front_mut() {
            if self.send.capacity() == 0 {
                self.send.reserve_capacity(front.len());
                match self.send.poll_capacity(context) {
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(fault_of(&error))),
                    Poll::Ready(None) => {
                        return Poll::Ready(Err(TalkFault::Broken("the upstream takes no more".to_owned())));
                    }
                    Poll::Pending => {
                        if self.write_watchdog.is_disarmed() {
                            self.write_watchdog.arm(within);
                        }
                        ready!(self.write_watchdog.poll_expired(context));
                        return Poll::Ready(Err(TalkFault::WriteTimeout));
                    }
                }
            }
            self.write_watchdog.disarm();
            let part = front.split_to(self.send.capacity().min(front.len()));
            self.queued_bytes -= part.len();
            if front.is_empty() {
                self.queue.pop_front();
            }
            let ends = self.has_ended && self.queue.is_empty() && self.trailers_to_send.is_none();
            self.send.send_data(part, ends).map_err(|error| fault_of(&error))?;
            self.is_end_sent |= ends;
        }
        if self.has_ended && !self.is_end_sent {
            self.is_end_sent = true;
            match self.trailers_to_send.take() {
                Some(trailers) => self.send.send_trailers(trailers),
                None => self.send.send_data(Bytes::new(), true),
            }
            .map_err(|error| fault_of(&error))?;
        }
        Poll::Ready(Ok(()))
    }

    /// The response head.
    ///
    /// # Errors
    /// The stream or connection ended, or nothing came in time.
    pub fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<ResponseHead, TalkFault>> {
        match Pin::new(&mut self.response).poll(context) {
            Poll::Pending => {
                ready!(self.read_watchdog.poll_expired(context));
                Poll::Ready(Err(TalkFault::ReadTimeout))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(fault_of(&error))),
            Poll::Ready(Ok(response)) => {
                let (parts, receive) = response.into_parts();
                self.is_body_done = receive.is_end_stream();
                self.receive = Some(receive);
                let headers = HeaderBlock::from_map(&parts.headers);
                Poll::Ready(Ok(ResponseHead {
                    status: parts.status.as_u16(),
                    headers,
                }))
            }
        }
    }

    /// Wait at most this long for the next bytes.
    pub fn expect_bytes(&mut self, within: Duration) {
        self.read_watchdog.arm(within);
    }

    /// A piece of the body that is here already.
    pub fn next_piece(&mut self) -> Decoded {
        match self.piece.take() {
            Some(piece) => Decoded::Data(piece),
            None if self.is_body_done => Decoded::End,
            None => Decoded::NeedMore,
        }
    }

    /// Read more of the body; Ready when there may be another piece.
    ///
    /// # Errors
    /// The stream or connection ended in mid-body, or was silent for too long.
    pub fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<Result<(), TalkFault>> {
        let Some(receive) = &mut self.receive else {
            return Poll::Ready(Err(TalkFault::Broken("no response yet".to_owned())));
        };
        match receive.poll_data(context) {
            Poll::Pending => {
                ready!(self.read_watchdog.poll_expired(context));
                return Poll::Ready(Err(TalkFault::ReadTimeout));
            }
            Poll::Ready(Some(Ok(data))) => {
                // The window opens again when the piece is taken: one is held at a time.
                let _ = receive.flow_control().release_capacity(data.len());
                if !data.is_empty() {
                    self.piece = Some(data);
                }
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(fault_of(&error))),
            Poll::Ready(None) => {}
        }
        let trailers = ready!(receive.poll_trailers(context)).map_err(|error| fault_of(&error))?;
        self.trailers = trailers.as_ref().map(HeaderBlock::from_map);
        self.is_body_done = true;
        Poll::Ready(Ok(()))
    }

    /// The whole body was taken.
    #[must_use]
    pub fn is_body_done(&self) -> bool {
        self.is_body_done && self.piece.is_none()
    }

    /// Trailers of the response, once.
    pub fn take_trailers(&mut self) -> Option<HeaderBlock> {
        self.trailers.take()
    }
}
