//! All threads of the pass, found by process and thread.
//!
//! In: who is asked for; out: its place, which stays. Whoever was asked for last is found at once, since records of a
//! thread come in rows. It refuses to know what a thread is at its beginning.

use super::thread::Thread;
use crate::trace::record::{Pid, Tid};
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// Process and thread.
pub type Key = (Pid, Tid);

/// The threads, in the order they were first seen.
#[derive(Default)]
pub struct Threads {
    all: Vec<(Key, Thread)>,
    places: HashMap<Key, usize, RandomState>,
    last: Option<(Key, usize)>,
}

impl Threads {
    /// Where a thread stands, if it was seen before.
    #[inline]
    pub fn place(&mut self, key: Key) -> Option<usize> {
        match self.last {
            Some((last, place)) if last == key => Some(place),
            _ => {
                let place = *self.places.get(&key)?;
                self.last = Some((key, place));
                Some(place)
            }
        }
    }

    /// Adds one that was not there; gives its place.
    pub fn add(&mut self, key: Key, thread: Thread) -> usize {
        let place = self.all.len();
        self.places.insert(key, place);
        self.all.push((key, thread));
        place
    }

    /// The one at a place.
    #[inline]
    pub fn at(&mut self, place: usize) -> &mut Thread {
        &mut self.all[place].1
    }

    /// The one that is asked for, if it was seen before.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut Thread> {
        let place = self.place(key)?;
        Some(self.at(place))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Thread> {
        self.all.iter().map(|(_, thread)| thread)
    }

    /// All of them, with who they are.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut Thread)> {
        self.all.iter_mut().map(|(key, thread)| (*key, thread))
    }

    /// All of them, by process and thread.
    pub fn into_sorted(mut self) -> impl Iterator<Item = (Key, Thread)> {
        self.all.sort_unstable_by_key(|(key, _)| *key);
        self.all.into_iter()
    }
}
