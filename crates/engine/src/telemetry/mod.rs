//! What is told about requests: the access log and the queue of log phases.

pub mod access_log;
pub mod limited;
pub mod log_queue;
