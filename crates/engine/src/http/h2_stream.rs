//! One HTTP/2 stream as a stream of bytes, once a WebSocket runs over it (RFC 8441, section 5).
//!
//! Flow control is the back-pressure: room is given back to the client when its bytes are taken, and what has no room
//! waits. The end of the stream is the half-close, a reset is an error.

use std::io;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Both halves of an accepted stream.
#[derive(Debug)]
pub struct StreamIo<'a> {
    receive: &'a mut RecvStream,
    send: &'a mut SendStream<Bytes>,
    /// Came, and was not taken yet.
    pending: Bytes,
    is_shut: bool,
}

impl<'a> StreamIo<'a> {
    /// Over the halves of one stream.
    pub fn new(receive: &'a mut RecvStream, send: &'a mut SendStream<Bytes>) -> Self {
        Self {
            receive,
            send,
            pending: Bytes::new(),
            is_shut: false,
        }
    }

    /// Our half was ended.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        self.is_shut
    }
}

impl AsyncRead for StreamIo<'_> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.pending.is_empty() {
            match ready!(this.receive.poll_data(context)) {
                Some(Ok(data)) => this.pending = data,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = this.pending.len().min(buffer.remaining());
        buffer.put_slice(&this.pending.split_to(count));
        let _ = this.receive.flow_control().release_capacity(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StreamIo<'_> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        this.send.reserve_capacity(bytes.len());
        while this.send.capacity() == 0 {
            match ready!(this.send.poll_capacity(context)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let count = this.send.capacity().min(bytes.len());
        let part = Bytes::copy_from_slice(bytes.get(..count).unwrap_or_default());
        this.send.send_data(part, false).map_err(io::Error::other)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's own task writes.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_shut {
            this.is_shut = true;
            this.send.send_data(Bytes::new(), true).map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
    }
}
