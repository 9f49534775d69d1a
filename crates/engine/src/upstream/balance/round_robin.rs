//! Round-robin by weight: over one round, which is the sum of the weights, each address is picked exactly as often as
//! its weight says, and its turns are spread over the round.
//!
//! The wheel is not stored. Its places are 0 to the sum of the weights; an address owns as many places in a row as its
//! weight. Turn k is place k·step modulo the sum: a step without common divisor visits every place once a round, and one
//! near the golden section of the sum never stays with one address for long. One counter and a binary search are all
//! a pick costs, whatever the weights are.

use super::{Avoid, Entry};

#[derive(Debug)]
pub(super) struct RoundRobin {
    /// Where the places of each usable address end.
    ends: Vec<u64>,
    /// Position of each usable address among the entries.
    positions: Vec<u32>,
    sum: u64,
    step: u64,
}

/// Part of the sum that a step is near to.
const GOLDEN_SECTION: f64 = 0.618_033_988_749_894_9;

impl RoundRobin {
    pub(super) fn new(entries: &[Entry]) -> Self {
        let usable = || {
            entries
                .iter()
                .enumerate()
                .filter(|(_, entry)| entry.address.is_available())
        };
        let divisor = usable()
            .fold(0, |divisor, (_, entry)| {
                greatest_common_divisor(divisor, u64::from(entry.weight))
            })
            .max(1);
        let mut ends = Vec::new();
        let mut positions = Vec::new();
        let mut sum = 0;
        for (position, entry) in usable() {
            sum += u64::from(entry.weight) / divisor;
            ends.push(sum);
            positions.push(position as u32);
        }
        let is_even = sum == ends.len() as u64;
        let mut step = if is_even || sum < 3 {
            1
        } else {
            (sum as f64 * GOLDEN_SECTION).round() as u64
        };
        while sum > 1 && greatest_common_divisor(step, sum) != 1 {
            step += 1;
        }
        Self {
            ends,
            positions,
            sum,
            step,
        }
    }

    /// The address whose turn it is; `take_turn` gives the number of the next turn.
    pub(super) fn pick(&self, mut take_turn: impl FnMut() -> u64, avoid: &Avoid<'_>) -> Option<usize> {
        let first = self.at(take_turn())?;
        if avoid.is_empty() || !avoid.contains(self.positions[first] as usize) {
            return Some(self.positions[first] as usize);
        }
        // After a failed attempt: the next one in the list that was not tried, else the one whose turn it is.
        let count = self.positions.len();
        (first..first + count)
            .map(|index| self.positions[index % count] as usize)
            .find(|position| !avoid.contains(*position))
            .or(Some(self.positions[first] as usize))
    }

    fn at(&self, turn: u64) -> Option<usize> {
        if self.sum == 0 {
            return None;
        }
        let place = u128::from(turn % self.sum) * u128::from(self.step) % u128::from(self.sum);
        let index = self.ends.partition_point(|end| u128::from(*end) <= place);
        (index < self.positions.len()).then_some(index)
    }
}

fn greatest_common_divisor(one: u64, other: u64) -> u64 {
    if other == 0 {
        one
    } else {
        greatest_common_divisor(other, one % other)
    }
}
