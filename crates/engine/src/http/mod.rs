//! HTTP towards clients, and what is common to all its versions.

pub mod client;
pub mod forward;
pub mod h1;
pub mod h2;
pub mod h2_stream;
pub mod head;
pub mod headers;
pub mod respond;
pub mod tunnel;
