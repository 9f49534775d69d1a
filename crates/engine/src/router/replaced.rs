//! Which routes of a layer are left out of its lookups, as another layer has what is in their place.

/// Positions of routes, one bit each.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    words: Vec<u64>,
}

impl Replaced {
    /// No route.
    pub(super) const NONE: Self = Self { words: Vec::new() };

    /// These positions; those of `count` and above are of no route.
    pub(super) fn of(positions: impl Iterator<Item = usize>, count: usize) -> Self {
        let mut words = vec![0; count.div_ceil(64)];
        for position in positions {
            if let Some(word) = words.get_mut(position / 64) {
                *word |= 1 << (position % 64);
            }
        }
        Self { words }
    }

    /// Whether the route at a position is left out.
    pub(super) fn contains(&self, position: usize) -> bool {
        self.words
            .get(position / 64)
            .is_some_and(|word| word >> (position % 64) & 1 == 1)
    }
}
