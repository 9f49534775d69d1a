//! After a `101` of an http service: bytes both ways until both sides are done.
//!
//! Bounds: a side is read only when the other one has taken everything, and silence ends the tunnel. A closed side is
//! passed on as a half-close.

use std::future::{poll_fn, Future};
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::gateway::Gateway;
use crate::http::h1::transport::Transport;
use crate::timer::Watchdog;

/// Why a tunnel is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelEnd {
    /// Both sides have closed, or one is broken.
    Closed,
    /// Nothing moved for too long.
    Idle,
    /// The worker drains, and its time is up.
    OutOfTime,
}

/// Move bytes both ways until both sides have closed, one is broken, nothing moved for `idle`, or the worker is out of
/// time.
pub async fn run<A, B>(
    client: &mut Transport<A>,
    upstream: &mut Transport<B>,
    idle: Duration,
    gateway: &Gateway,
) -> TunnelEnd
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut is_client_done = false;
    let mut is_upstream_done = false;
    let mut moved = 0;
    let mut watchdog = Watchdog::default();
    watchdog.arm(idle);
    let mut out_of_time = pin!(gateway.out_of_time());
    poll_fn(|context| {
        let down = poll_pump(upstream, client, &mut is_upstream_done, context);
        let up = poll_pump(client, upstream, &mut is_client_done, context);
        match (down, up) {
            (Err(()), _) | (_, Err(())) => Poll::Ready(TunnelEnd::Closed),
            _ if is_client_done && is_upstream_done => Poll::Ready(TunnelEnd::Closed),
            _ => {
                let all =
                    client.received_bytes() + upstream.received_bytes() + client.sent_bytes() + upstream.sent_bytes();
                if all != moved {
                    moved = all;
                    watchdog.arm(idle);
                }
                if out_of_time.as_mut().poll(context).is_ready() {
                    return Poll::Ready(TunnelEnd::OutOfTime);
                }
                watchdog.poll_expired(context).map(|()| TunnelEnd::Idle)
            }
        }
    })
    .await
}

/// Move bytes one way as far as possible; a closed side is passed on as a half-close.
fn poll_pump<A, B>(
    from: &mut Transport<A>,
    to: &mut Transport<B>,
    is_done: &mut bool,
    context: &mut Context<'_>,
) -> Result<(), ()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    if *is_done {
        return Ok(());
    }
    loop {
        if !from.read.is_empty() {
            let bytes = from.read.split().freeze();
            to.write.push(bytes);
        }
        match to.poll_flush(context) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Err(()),
            Poll::Pending => return Ok(()),
        }
        if from.is_read_closed() {
            if to.poll_shutdown(context).is_ready() {
                *is_done = true;
            }
            return Ok(());
        }
        match from.poll_fill(context) {
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(_)) => return Err(()),
            Poll::Pending => return Ok(()),
        }
    }
}
