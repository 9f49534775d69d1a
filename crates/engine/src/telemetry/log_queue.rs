//! Requests that are over and wait for their log phase.
//!
//! The log phase never delays a client: finished requests are collected and handed to the runner together once the tasks
//! that are ready now have run, so a busy worker pays one hand-over for many requests.

use std::sync::{Arc, Mutex, PoisonError};

use crate::exchange::Exchange;
use crate::gateway::Gateway;
use crate::runner::Finished;

/// The queue; bounded by `BATCH`, beyond which it is handed over at once.
#[derive(Debug, Default)]
pub struct LogQueue {
    waiting: Mutex<Finished>,
}

/// Requests handed over together at most.
const BATCH: usize = 64;

impl LogQueue {
    /// Queue a finished request.
    pub fn push(gateway: &Arc<Gateway>, exchange: Box<Exchange>) {
        let count = {
            let mut waiting = gateway.log_queue.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push(exchange);
            waiting.len()
        };
        if count >= BATCH {
            Self::hand_over(gateway);
        } else if count == 1 {
            let gateway = gateway.clone();
            tokio::spawn(async move {
                tokio::task::yield_now().await;
                Self::hand_over(&gateway);
            });
        }
    }

    /// Hand over what waits now.
    pub fn hand_over(gateway: &Gateway) {
        let batch = {
            let mut waiting = gateway.log_queue.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *waiting)
        };
        if !batch.is_empty() {
            gateway.runner.log(batch);
        }
    }
}
