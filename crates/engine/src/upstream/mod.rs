//! The way to upstreams: names to addresses, the choice of a target, connections and their reuse.
//!
//! The parts do not know each other; the pipeline puts them together for each attempt: `balance` picks a target,
//! `resolve` finds its address, `pool` gives an idle connection or `connect` opens one.

pub mod attempt;
pub mod balance;
pub mod body_pump;
pub mod connect;
pub mod connection;
pub mod destination;
pub mod hash_input;
pub mod health;
pub mod http2;
pub mod link;
pub mod pool;
pub mod reports;
pub mod resolve;
