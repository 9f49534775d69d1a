//! One HTTP/1 byte stream with its read buffer and write queue; both the client's and the upstream's side use it.
//!
//! Reads go into one buffer that is cut, never copied. Writes gather: small pieces are copied together, large ones keep
//! their own memory and leave in one vectored write.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_read_buf;

/// Chunks up to this size are copied behind each other instead of being queued on their own.
const COPY_BYTES: usize = 4 * 1024;
/// Most slices handed to one vectored write.
const SLICES: usize = 16;
/// Size of one read; a body at full speed doubles up to `READ_LARGE_BYTES`.
const READ_BYTES: usize = 8 * 1024;
/// Largest single read.
const READ_LARGE_BYTES: usize = 64 * 1024;

/// Bytes on their way out.
#[derive(Debug, Default)]
pub struct WriteQueue {
    whole: VecDeque<Bytes>,
    tail: BytesMut,
    queued_bytes: usize,
}

impl WriteQueue {
    /// Bytes not written yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queued_bytes
    }

    /// True when all is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queued_bytes == 0
    }

    /// Queue a copy of `bytes`.
    pub fn push_slice(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.queued_bytes += bytes.len();
    }

    /// Queue `bytes`, copying only small ones.
    pub fn push(&mut self, bytes: Bytes) {
        if bytes.len() <= COPY_BYTES {
            self.push_slice(&bytes);
            return;
        }
        if !self.tail.is_empty() {
            self.whole.push_back(self.tail.split().freeze());
        }
        self.queued_bytes += bytes.len();
        self.whole.push_back(bytes);
    }

    /// Queue a chunk-size line.
    pub fn push_hex_line(&mut self, size: usize) {
        let mut digits = [0_u8; 18];
        let mut position = 16;
        let mut rest = size;
        digits[16] = b'\r';
        digits[17] = b'\n';
        while position > 0 {
            position -= 1;
            digits[position] = b"0123456789abcdef"[rest & 15];
            rest >>= 4;
            if rest == 0 {
                break;
            }
        }
        self.push_slice(&digits[position..]);
    }

    /// Queue a decimal number.
    pub fn push_number(&mut self, mut number: u64) {
        let mut digits = [0_u8; 20];
        let mut position = digits.len();
        loop {
            position -= 1;
            digits[position] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.push_slice(&digits[position..]);
    }

    /// A copy of all that is queued.
    #[cfg(test)]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all: Vec<u8> = self.whole.iter().flat_map(|part| part.iter().copied()).collect();
        all.extend_from_slice(&self.tail);
        all
    }

    fn advance(&mut self, mut count: usize) {
        self.queued_bytes -= count;
        while count > 0 {
            match self.whole.front_mut() {
                Some(front) if front.len() > count => {
                    front.advance(count);
                    return;
                }
                Some(front) => {
                    count -= front.len();
                    self.whole.pop_front();
                }
                None => {
                    if count == self.tail.len() {
                        self.tail.clear();
                    } else {
                        self.tail.advance(count);
                    }
                    return;
                }
            }
        }
    }
}

/// A byte stream with buffers.
#[derive(Debug)]
pub struct Transport<S> {
    io: S,
    /// Bytes that have arrived and were not taken.
    pub read: BytesMut,
    /// Bytes to be written.
    pub write: WriteQueue,
    read_size_bytes: usize,
    received_bytes: u64,
    sent_bytes: u64,
    is_read_closed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Transport<S> {
    /// A transport over `io`; `already_read` are bytes that were taken from it before.
    pub fn new(io: S, already_read: BytesMut) -> Self {
        Self {
            io,
            received_bytes: already_read.len() as u64,
            read: already_read,
            write: WriteQueue::default(),
            read_size_bytes: READ_BYTES,
            sent_bytes: 0,
            is_read_closed: false,
        }
    }

    /// All bytes read so far.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// All bytes written so far.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// The peer has closed its sending side.
    #[must_use]
    pub fn is_read_closed(&self) -> bool {
        self.is_read_closed
    }

    /// The stream itself.
    pub fn io(&self) -> &S {
        &self.io
    }

    /// Give up the buffers: the stream, what was read ahead.
    pub fn into_parts(self) -> (S, BytesMut) {
        (self.io, self.read)
    }

    /// Read once into the buffer; 0 is the end of the stream.
    ///
    /// # Errors
    /// The stream's own.
    pub fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.read.reserve(self.read_size_bytes);
        let count = ready!(poll_read_buf(Pin::new(&mut self.io), context, &mut self.read))?;
        if count == 0 {
            self.is_read_closed = true;
            return Poll::Ready(Ok(0));
        }
        self.received_bytes += count as u64;
        if count >= self.read_size_bytes && self.read_size_bytes < READ_LARGE_BYTES {
            self.read_size_bytes *= 2;
        }
        Poll::Ready(Ok(count))
    }

    /// Write until the queue is empty.
    ///
    /// # Errors
    /// The stream's own; a write of 0 bytes is `WriteZero`.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.write.is_empty() {
            let count = if self.write.whole.is_empty() {
                ready!(Pin::new(&mut self.io).poll_write(context, &self.write.tail))?
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let mut used = 0;
                let parts = self
                    .write
                    .whole
                    .iter()
                    .map(|part| &part[..])
                    .chain(Some(&self.write.tail[..]));
                for (slot, part) in slices.iter_mut().zip(parts.filter(|part| !part.is_empty())) {
                    *slot = IoSlice::new(part);
                    used += 1;
                }
                ready!(Pin::new(&mut self.io).poll_write_vectored(context, &slices[..used]))?
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent_bytes += count as u64;
            self.write.advance(count);
        }
        Pin::new(&mut self.io).poll_flush(context)
    }

    /// Close the sending side.
    ///
    /// # Errors
    /// The stream's own.
    pub fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
