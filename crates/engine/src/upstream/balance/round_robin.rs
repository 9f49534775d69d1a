//! Round-robin by weight, smoothly: a target of weight 5 among ones of weight 1 is not picked five times in a row.
//!
//! Each pick adds every candidate's weight to its credit, takes the candidate with the most and charges it the sum.
//! Over one round (the sum of the weights) each target is picked exactly as often as its weight says.

use std::sync::{Mutex, PoisonError};

use super::Balance;

#[derive(Debug)]
pub(super) struct RoundRobin {
    targets: Mutex<Vec<Share>>,
}

/// One target of positive weight.
#[derive(Debug)]
struct Share {
    position: usize,
    weight: i64,
    credit: i64,
}

impl RoundRobin {
    /// Weights in the order of the targets; those of weight 0 are never picked.
    pub(super) fn new(weights: impl Iterator<Item = u32>) -> Self {
        let targets = weights
            .enumerate()
            .filter(|(_, weight)| *weight > 0)
            .map(|(position, weight)| Share {
                position,
                weight: i64::from(weight),
                credit: 0,
            })
            .collect();
        Self {
            targets: Mutex::new(targets),
        }
    }
}

impl Balance for RoundRobin {
    fn pick(&self, tried: &[usize]) -> Option<usize> {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        pick_among(&mut targets, |position| !tried.contains(&position)).or_else(|| pick_among(&mut targets, |_| true))
    }
}

fn pick_among(targets: &mut [Share], is_candidate: impl Fn(usize) -> bool) -> Option<usize> {
    let mut sum = 0;
    let mut best: Option<&mut Share> = None;
    for share in targets {
        if !is_candidate(share.position) {
            continue;
        }
        sum += share.weight;
        share.credit += share.weight;
        if best.as_ref().is_none_or(|leader| share.credit > leader.credit) {
            best = Some(share);
        }
    }
    let best = best?;
    best.credit -= sum;
    Some(best.position)
}
