//! Deadlines that are set far more often than they pass.
//!
//! Every read and write of a busy connection has a deadline, nearly none is met. A `Watchdog` remembers the wanted time
//! and arms one tokio timer lazily: moving the deadline later costs a clock read, not a visit to the timer wheel.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{sleep_until, Instant, Sleep};

/// One movable deadline.
#[derive(Debug, Default)]
pub struct Watchdog {
    deadline: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Watchdog {
    /// Expire after this time from now.
    pub fn arm(&mut self, after: Duration) {
        self.deadline = Some(Instant::now() + after);
    }

    /// Do not expire.
    pub fn disarm(&mut self) {
        self.deadline = None;
    }

    /// No deadline is set.
    #[must_use]
    pub fn is_disarmed(&self) -> bool {
        self.deadline.is_none()
    }

    /// Ready when the deadline has passed; registers the task otherwise.
    pub fn poll_expired(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else {
            return Poll::Pending;
        };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(context).is_ready() {
            if Instant::now() >= deadline {
                self.deadline = None;
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test(start_paused = true)]
    async fn a_moved_deadline_expires_at_its_last_time() {
        let started = Instant::now();
        let mut watchdog = Watchdog::default();
        watchdog.arm(Duration::from_millis(50));
        assert!(poll_fn(|cx| Poll::Ready(watchdog.poll_expired(cx))).await.is_pending());
        tokio::time::advance(Duration::from_millis(30)).await;
        watchdog.arm(Duration::from_millis(50));
        poll_fn(|cx| watchdog.poll_expired(cx)).await;
        assert_eq!(started.elapsed().as_millis() / 10, 8);
        watchdog.disarm();
        assert!(poll_fn(|cx| Poll::Ready(watchdog.poll_expired(cx))).await.is_pending());
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_deadline_is_kept() {
        let started = Instant::now();
        let mut watchdog = Watchdog::default();
        watchdog.arm(Duration::from_secs(60));
        assert!(poll_fn(|cx| Poll::Ready(watchdog.poll_expired(cx))).await.is_pending());
        watchdog.arm(Duration::from_millis(10));
        poll_fn(|cx| watchdog.poll_expired(cx)).await;
        assert!(started.elapsed() < Duration::from_secs(1));
    }
}
