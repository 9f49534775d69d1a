//! The UDP sessions of a worker: found by their two ends, bounded, the idlest first to go.
//!
//! A doubly linked list over a slab keeps the order of use, so that every datagram costs a lookup and a few moves,
//! however many sessions there are. Ends come from the network: the hash is keyed.

use std::collections::HashMap;
use std::sync::Arc;

use crate::stream::datagrams::Ends;

/// (Descriptor of the listener, the two ends): what makes datagrams one session.
pub type Key = (i32, Ends);

const NONE: usize = usize::MAX;

/// Sessions in order of use.
#[derive(Debug)]
pub struct UdpTable<T> {
    places: HashMap<Key, usize>,
    entries: Vec<Option<Entry<T>>>,
    free: Vec<usize>,
    newest: usize,
    idlest: usize,
}

#[derive(Debug)]
struct Entry<T> {
    key: Key,
    session: Arc<T>,
    newer: usize,
    older: usize,
}

impl<T> Default for UdpTable<T> {
    fn default() -> Self {
        Self {
            places: HashMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
            newest: NONE,
            idlest: NONE,
        }
    }
}

impl<T> UdpTable<T> {
    /// Sessions in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// No session is in the table.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The session of these ends, which becomes the one used last.
    pub fn touch(&mut self, key: &Key) -> Option<Arc<T>> {
        let place = *self.places.get(key)?;
        if place != self.newest {
            self.unlink(place);
            self.link(place);
        }
        self.entry(place).map(|entry| entry.session.clone())
    }

    /// Add a session as the one used last; there must be none of this key.
    pub fn insert(&mut self, key: Key, session: Arc<T>) {
        let entry = Entry {
            key,
            session,
            newer: NONE,
            older: NONE,
        };
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.entries.push(None);
                self.entries.len() - 1
            }
        };
        if let Some(slot) = self.entries.get_mut(place) {
            *slot = Some(entry);
        }
        self.places.insert(key, place);
        self.link(place);
    }

    /// Remove this very session, unless another one has taken its key.
    pub fn remove(&mut self, key: &Key, session: &Arc<T>) {
        let Some(&place) = self.places.get(key) else {
            return;
        };
        if self
            .entry(place)
            .is_some_and(|entry| Arc::ptr_eq(&entry.session, session))
        {
            self.take(place);
        }
    }

    /// Remove the session that was not used for longest.
    pub fn remove_idlest(&mut self) -> Option<Arc<T>> {
        self.take(self.idlest)
    }

    fn take(&mut self, place: usize) -> Option<Arc<T>> {
        self.entry(place)?;
        self.unlink(place);
        let entry = self.entries.get_mut(place).and_then(Option::take)?;
        self.places.remove(&entry.key);
        self.free.push(place);
        Some(entry.session)
    }

    fn entry(&mut self, place: usize) -> Option<&mut Entry<T>> {
        self.entries.get_mut(place).and_then(Option::as_mut)
    }

    fn link(&mut self, place: usize) {
        let older = self.newest;
        if let Some(entry) = self.entry(place) {
            (entry.newer, entry.older) = (NONE, older);
        }
        match self.entry(older) {
            Some(entry) => entry.newer = place,
            None => self.idlest = place,
        }
        self.newest = place;
    }

    fn unlink(&mut self, place: usize) {
        let Some((newer, older)) = self.entry(place).map(|entry| (entry.newer, entry.older)) else {
            return;
        };
        match self.entry(newer) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
        match self.entry(older) {
            Some(entry) => entry.newer = newer,
            None => self.idlest = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> Key {
        let at = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let ends = Ends {
            client: at(port),
            local: at(1),
        };
        (3, ends)
    }

    #[test]
    fn the_session_that_was_not_used_for_longest_goes_first() {
        let mut table = UdpTable::default();
        for port in 1..=4 {
            table.insert(key(port), Arc::new(port));
        }
        assert_eq!(table.touch(&key(1)).as_deref(), Some(&1));
        assert_eq!(table.touch(&key(3)).as_deref(), Some(&3));
        let gone: Vec<u16> = std::iter::from_fn(|| table.remove_idlest()).map(|port| *port).collect();
        assert_eq!(gone, [2, 4, 1, 3]);
        assert!(table.is_empty() && table.touch(&key(1)).is_none());
    }

    #[test]
    fn an_ended_session_does_not_remove_its_successor() {
        let mut table = UdpTable::default();
        let (old, new) = (Arc::new(1), Arc::new(2));
        table.insert(key(5), old.clone());
        assert!(table.remove_idlest().is_some());
        table.insert(key(5), new.clone());
        table.remove(&key(5), &old);
        assert_eq!(table.len(), 1);
        table.remove(&key(5), &new);
        assert!(table.is_empty() && table.remove_idlest().is_none());
    }

    #[test]
    fn places_are_used_again() {
        let mut table = UdpTable::default();
        for port in 0..10_000 {
            if table.len() == 8 {
                table.remove_idlest();
            }
            table.insert(key(port), Arc::new(port));
        }
        assert_eq!((table.entries.len(), table.len()), (8, 8));
    }
}
