//! Which target an attempt goes to.
//!
//! One file per algorithm behind `Balance`; `Balancer` is what a plan's upstream becomes. A balancer knows targets by
//! their position in the upstream and nothing about addresses, connections or health. Its counters are its own, so a
//! new plan takes over those of every upstream that did not change.

use std::sync::Arc;

use crate::plan::UpstreamPlan;

mod round_robin;

#[cfg(test)]
mod tests;

use self::round_robin::RoundRobin;

/// Picks targets, one per attempt.
pub trait Balance {
    /// The position of the next target, away from those in `tried` while there are others; None: no target can be used.
    fn pick(&self, tried: &[usize]) -> Option<usize>;
}

/// The algorithms that exist.
#[derive(Debug)]
enum Algorithm {
    RoundRobin(RoundRobin),
}

/// One upstream's balancer.
#[derive(Debug, Clone)]
pub struct Balancer {
    source: Arc<Source>,
    algorithm: Arc<Algorithm>,
}

/// What a balancer was built from: equal sources may share counters.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    upstream_id: String,
    algorithm: String,
    /// Host, port and weight of each target in order.
    targets: Vec<(String, u16, u32)>,
}

/// A balancer and what the operator should be told about it.
#[derive(Debug)]
pub struct BuiltBalancer {
    /// Ready to pick.
    pub balancer: Balancer,
    /// To be logged once per plan.
    pub notice: Option<String>,
}

impl Balancer {
    /// Build the balancer of an upstream, with fresh counters.
    #[must_use]
    pub fn build(upstream: &UpstreamPlan) -> BuiltBalancer {
        let weights = upstream.targets.iter().map(|target| target.weight);
        let notice = (upstream.algorithm != "round-robin").then(|| {
            format!(
                "upstream {}: algorithm {} is served as round-robin by this version",
                upstream.name, upstream.algorithm
            )
        });
        let source = Source {
            upstream_id: upstream.id.clone(),
            algorithm: upstream.algorithm.clone(),
            targets: upstream
                .targets
                .iter()
                .map(|target| (target.host.clone(), target.port, target.weight))
                .collect(),
        };
        BuiltBalancer {
            balancer: Self {
                source: Arc::new(source),
                algorithm: Arc::new(Algorithm::RoundRobin(RoundRobin::new(weights))),
            },
            notice,
        }
    }

    /// Go on with the counters of `old` if it balances the same targets with the same weights.
    #[must_use]
    pub fn carry_over(self, old: &Self) -> Self {
        if self.source == old.source {
            old.clone()
        } else {
            self
        }
    }
}

impl Balance for Balancer {
    fn pick(&self, tried: &[usize]) -> Option<usize> {
        match self.algorithm.as_ref() {
            Algorithm::RoundRobin(round_robin) => round_robin.pick(tried),
        }
    }
}
