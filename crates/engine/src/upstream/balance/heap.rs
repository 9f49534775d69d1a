//! A heap whose keys change: the position with the smallest key on top, every change costs O(log n).
//!
//! Of equal keys the one that was used longest ago is on top, so that idle addresses take turns.

use std::cmp::Ordering;
use std::sync::{Mutex, PoisonError};

use super::{Avoid, Entry};

/// Entries by the smallest key: what algorithms are that differ only in what they order by.
#[derive(Debug)]
pub(super) struct Smallest {
    heap: Mutex<Heap>,
    key_of: fn(&Entry) -> f64,
}

impl Smallest {
    /// Order the available ones of these entries.
    pub(super) fn new(entries: &[Entry], key_of: fn(&Entry) -> f64) -> Self {
        let keys = entries
            .iter()
            .map(|entry| entry.address.is_available().then(|| key_of(entry)));
        Self {
            heap: Mutex::new(Heap::new(keys)),
            key_of,
        }
    }

    pub(super) fn pick(&self, avoid: &Avoid<'_>) -> Option<usize> {
        let mut heap = self.heap.lock().unwrap_or_else(PoisonError::into_inner);
        heap.smallest(|position| avoid.contains(position))
    }

    /// What the key of an entry is made of has changed.
    pub(super) fn changed(&self, position: usize, entry: &Entry) {
        let mut heap = self.heap.lock().unwrap_or_else(PoisonError::into_inner);
        heap.update(position, (self.key_of)(entry));
    }
}

/// Positions 0 to n, each with a key.
#[derive(Debug, Default)]
pub(super) struct Heap {
    /// Position at each place of the heap.
    order: Vec<u32>,
    /// Place of each position; `ABSENT` when it is not in the heap.
    places: Vec<u32>,
    keys: Vec<Key>,
    uses: u64,
}

#[derive(Debug, Clone, Copy)]
struct Key {
    value: f64,
    last_use: u64,
}

const ABSENT: u32 = u32::MAX;

impl Heap {
    /// A heap of those of `count` positions that have a key.
    pub(super) fn new(keys: impl ExactSizeIterator<Item = Option<f64>>) -> Self {
        let mut heap = Self {
            order: Vec::new(),
            places: vec![ABSENT; keys.len()],
            keys: Vec::with_capacity(keys.len()),
            uses: 0,
        };
        for (position, key) in keys.enumerate() {
            heap.keys.push(Key {
                value: key.unwrap_or(f64::INFINITY),
                last_use: 0,
            });
            if key.is_some() {
                heap.places[position] = heap.order.len() as u32;
                heap.order.push(position as u32);
                heap.rise(heap.order.len() - 1);
            }
        }
        heap
    }

    /// The position with the smallest key, away from those that `is_avoided` names while there are others.
    pub(super) fn smallest(&mut self, is_avoided: impl Fn(usize) -> bool) -> Option<usize> {
        let top = *self.order.first()? as usize;
        let chosen = if is_avoided(top) {
            // Only after a failed attempt: looking at all of them is cheaper than taking the heap apart.
            self.order
                .iter()
                .map(|position| *position as usize)
                .filter(|position| !is_avoided(*position))
                .min_by(|one, other| compare(self.keys[*one], self.keys[*other]))
                .unwrap_or(top)
        } else {
            top
        };
        self.uses += 1;
        self.keys[chosen].last_use = self.uses;
        self.settle(chosen);
        Some(chosen)
    }

    /// Give a position another key.
    pub(super) fn update(&mut self, position: usize, value: f64) {
        if let Some(key) = self.keys.get_mut(position) {
            key.value = value;
            self.settle(position);
        }
    }

    fn settle(&mut self, position: usize) {
        let place = self.places[position];
        if place != ABSENT {
            let place = self.rise(place as usize);
            self.sink(place);
        }
    }

    fn rise(&mut self, mut place: usize) -> usize {
        while place > 0 {
            let parent = (place - 1) / 2;
            if !self.is_before(place, parent) {
                break;
            }
            self.swap(place, parent);
            place = parent;
        }
        place
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let left = 2 * place + 1;
            if left >= self.order.len() {
                return;
            }
            let right = left + 1;
            let child = if right < self.order.len() && self.is_before(right, left) {
                right
            } else {
                left
            };
            if !self.is_before(child, place) {
                return;
            }
            self.swap(child, place);
            place = child;
        }
    }

    fn is_before(&self, one: usize, other: usize) -> bool {
        compare(
            self.keys[self.order[one] as usize],
            self.keys[self.order[other] as usize],
        ) == Ordering::Less
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.order.swap(one, other);
        self.places[self.order[one] as usize] = one as u32;
        self.places[self.order[other] as usize] = other as u32;
    }
}

fn compare(one: Key, other: Key) -> Ordering {
    one.value
        .total_cmp(&other.value)
        .then(one.last_use.cmp(&other.last_use))
}
