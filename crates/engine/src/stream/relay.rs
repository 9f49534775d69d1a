//! Copying bytes both ways between two connections, until both directions have ended or nothing moved for too long.
//!
//! The end of one direction is passed on as the end of the writing half, and the other direction goes on (half-close).
//! A side that breaks instead of ending (a reset, TLS cut without its end mark) ends the stream once its bytes are
//! delivered, and not as an end of TLS, so that the other side can tell.
//! Each direction holds at most one buffer's bytes that its receiver did not take yet: then nothing more is read, so
//! the sender feels it. The buffer for reading is one per thread; an idle stream holds none.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::timer::Watchdog;

/// Bytes read at once (own choice; larger ones gained nothing over loopback).
const BUFFER_BYTES: usize = 64 * 1024;
/// Reads of one direction before others get their turn.
const TURN_READS: u32 = 32;

/// Bytes that moved.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Read from the client.
    pub received: u64,
    /// Written to the client.
    pub sent: u64,
    /// Read from the upstream.
    pub upstream_received: u64,
    /// Written to the upstream.
    pub upstream_sent: u64,
}

/// Copy both ways; true when the sides ended it, false after `idle` without a byte.
///
/// # Cancel safety
/// Dropping the future ends the stream; `moved` is right at every time.
pub async fn relay<C, U>(client: &mut C, upstream: &mut U, idle: Duration, moved: &mut Moved) -> bool
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let mut up = Direction::default();
    let mut down = Direction::default();
    let mut watchdog = Watchdog::default();
    watchdog.arm(idle);
    let before = *moved;
    poll_fn(|context| {
        let seen = (up.read, up.written, down.read, down.written);
        let up_is_over = up.poll(client, upstream, context).is_ready();
        let down_is_over = down.poll(upstream, client, context).is_ready();
        if seen != (up.read, up.written, down.read, down.written) {
            watchdog.arm(idle);
            moved.received = before.received + up.read;
            moved.upstream_sent = before.upstream_sent + up.written;
            moved.upstream_received = before.upstream_received + down.read;
            moved.sent = before.sent + down.written;
        }
        if (up_is_over && down_is_over) || up.is_cut() || down.is_cut() {
            return Poll::Ready(true);
        }
        watchdog.poll_expired(context).map(|()| false)
    })
    .await
}

/// One direction of a stream.
#[derive(Debug, Default)]
struct Direction {
    /// Read, not written; from `written_to` on.
    waiting: Vec<u8>,
    written_to: usize,
    read: u64,
    written: u64,
    has_unflushed: bool,
    has_ended: bool,
    is_broken: bool,
    is_over: bool,
}

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER_BYTES]);
}

impl Direction {
    /// Its sender broke, and what had come is delivered.
    fn is_cut(&self) -> bool {
        self.is_broken && self.is_over
    }

    /// Ready when the direction is over.
    fn poll<R, W>(&mut self, reader: &mut R, writer: &mut W, context: &mut Context<'_>) -> Poll<()>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if self.is_over {
            return Poll::Ready(());
        }
        let outcome = BUFFER.with_borrow_mut(|buffer| self.step(reader, writer, buffer, context));
        match outcome {
            Poll::Pending => Poll::Pending,
            // A receiver that takes no more bytes ends its direction; what it still sends goes on.
            Poll::Ready(_) => {
                self.is_over = true;
                self.waiting = Vec::new();
                Poll::Ready(())
            }
        }
    }

    fn step<R, W>(
        &mut self,
        reader: &mut R,
        writer: &mut W,
        buffer: &mut [u8],
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut reads = 0;
        loop {
            while let Some(rest) = self.waiting.get(self.written_to..).filter(|rest| !rest.is_empty()) {
                match Pin::new(&mut *writer).poll_write(context, rest) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(count)) => {
                        self.written_to += count;
                        self.written += count as u64;
                        self.has_unflushed = true;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                }
            }
            self.waiting.clear();
            self.written_to = 0;
            if self.is_broken {
                return Pin::new(&mut *writer).poll_flush(context);
            }
            if self.has_ended {
                return Pin::new(&mut *writer).poll_shutdown(context);
            }
            if reads == TURN_READS {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            reads += 1;
            let mut read = ReadBuf::new(buffer);
            match Pin::new(&mut *reader).poll_read(context, &mut read) {
                Poll::Pending => {
                    self.waiting = Vec::new();
                    if self.has_unflushed && Pin::new(&mut *writer).poll_flush(context)?.is_ready() {
                        self.has_unflushed = false;
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Err(_)) => self.is_broken = true,
                Poll::Ready(Ok(())) if read.filled().is_empty() => self.has_ended = true,
                Poll::Ready(Ok(())) => {
                    let bytes = read.filled();
                    self.read += bytes.len() as u64;
                    let count = match Pin::new(&mut *writer).poll_write(context, bytes) {
                        Poll::Pending => 0,
                        Poll::Ready(Ok(count)) => count,
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    };
                    self.written += count as u64;
                    self.has_unflushed = true;
                    self.waiting.extend_from_slice(bytes.get(count..).unwrap_or_default());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{duplex, AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_closed_half_leaves_the_other_one_open() {
        let (mut client, mut outside) = duplex(1024);
        let (mut upstream, mut inside) = duplex(1024);
        let mut moved = Moved::default();
        let serving = tokio::spawn(async move {
            let mut asked = Vec::new();
            inside.read_to_end(&mut asked).await.expect("asked");
            for _ in 0..100 {
                inside.write_all(&asked).await.expect("answer");
            }
            inside.shutdown().await.expect("shutdown");
        });
        let asking = tokio::spawn(async move {
            outside.write_all(b"hello").await.expect("ask");
            outside.shutdown().await.expect("shutdown");
            let mut answer = Vec::new();
            outside.read_to_end(&mut answer).await.expect("answer");
            answer
        });
        assert!(relay(&mut client, &mut upstream, Duration::from_secs(9), &mut moved).await);
        assert_eq!(asking.await.expect("client"), b"hello".repeat(100));
        serving.await.expect("upstream");
        assert_eq!((moved.received, moved.upstream_sent), (5, 5));
        assert_eq!((moved.sent, moved.upstream_received), (500, 500));
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_takes_nothing_stops_the_reading() {
        let (mut client, mut outside) = duplex(16 * 1024);
        let (mut upstream, inside) = duplex(1024);
        let mut moved = Moved::default();
        let writing = tokio::spawn(async move { outside.write_all(&[7; 1 << 20]).await });
        let ended = relay(&mut client, &mut upstream, Duration::from_secs(5), &mut moved).await;
        assert!(!ended);
        assert_eq!(moved.upstream_sent, 1024);
        assert!(moved.received <= 2 * BUFFER_BYTES as u64, "{}", moved.received);
        drop((client, upstream, inside));
        assert!(writing.await.expect("task").is_err());
    }
}
