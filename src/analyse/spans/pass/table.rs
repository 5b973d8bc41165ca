//! The states of all flows by label, with those that were asked for last at hand.
//!
//! In: labels; out: states. States are large and seldom in the caches, so a table of labels alone lies before them; and a
//! label that was asked for before, as nearly all are, is found without a hash. It
//! refuses to know what states are, and how many there may be.

use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::mem::take;

/// Labels at hand, 8 bytes each: nearly all of ten thousand flows find room for their own, and what is asked for all the
/// time still lies in the first cache.
const AT_HAND: usize = 1 << 15;
/// The place of no state.
const NOWHERE: u32 = u32::MAX;

/// States by label.
pub struct Table<T> {
    places: HashMap<u32, u32, RandomState>,
    states: Vec<T>,
    free: Vec<u32>,
    at_hand: Box<[(u32, u32)]>,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table {
            places: HashMap::default(),
            states: Vec::new(),
            free: Vec::new(),
            at_hand: vec![(0, NOWHERE); AT_HAND].into(),
        }
    }
}

impl<T: Default> Table<T> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// All labels, in any order.
    pub fn labels(&self) -> impl Iterator<Item = u32> + '_ {
        self.places.keys().copied()
    }

    /// All of them, in any order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let all = self.places.iter();
        all.map(|(&label, &place)| (label, &self.states[place as usize]))
    }

    /// Where the state of a label is: to be looked at, by [`Table::at`], and of no use for anything else.
    pub fn find(&mut self, label: u32) -> Option<u32> {
        let at_hand = &mut self.at_hand[near(label)];
        if at_hand.0 == label && at_hand.1 != NOWHERE {
            return Some(at_hand.1);
        }
        let place = *self.places.get(&label)?;
        *at_hand = (label, place);
        Some(place)
    }

    /// What lies at a place, whoever's it is by now.
    pub fn at(&self, place: u32) -> Option<&T> {
        self.states.get(place as usize)
    }

    /// The state of a label.
    pub fn get(&mut self, label: u32) -> Option<&mut T> {
        let place = self.find(label)?;
        self.states.get_mut(place as usize)
    }

    /// The same, made if it is new.
    pub fn get_or_new(&mut self, label: u32) -> &mut T {
        let place = self.find(label).unwrap_or_else(|| {
            let place = self.free.pop().unwrap_or(self.states.len() as u32);
            if place as usize == self.states.len() {
                self.states.push(T::default());
            }
            self.places.insert(label, place);
            place
        });
        &mut self.states[place as usize]
    }

    /// Takes a state out.
    pub fn remove(&mut self, label: u32) -> Option<T> {
        let place = self.places.remove(&label)?;
        self.at_hand[near(label)].1 = NOWHERE;
        self.free.push(place);
        Some(take(&mut self.states[place as usize]))
    }

    /// Keeps only some.
    pub fn retain(&mut self, mut keep: impl FnMut(u32, &mut T) -> bool) {
        self.places.retain(|&label, &mut place| {
            let state = &mut self.states[place as usize];
            let stays = keep(label, state);
            if !stays {
                *state = T::default();
                self.free.push(place);
            }
            stays
        });
        self.at_hand.fill((0, NOWHERE));
    }
}

/// Where a label is looked for first. Labels are hashes.
fn near(label: u32) -> usize {
    (label ^ (label >> 16)) as usize % AT_HAND
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is asked of it, labels that share a place included, it holds what a plain map holds.
        #[test]
        fn equals_a_plain_map(steps in proptest::collection::vec((0u8..6, 0u32..4, 0u32..3), 0..200)) {
            let (mut table, mut plain) = (Table::<u32>::default(), HashMap::new());
            for (step, high, low) in steps {
                let label = high << 15 | low;
                match step {
                    0 => prop_assert_eq!(table.remove(label), plain.remove(&label)),
                    1 => {
                        table.retain(|label, n| (label + *n) % 3 != low);
                        plain.retain(|label, n| (label + *n) % 3 != low);
                    }
                    2 => prop_assert_eq!(table.get(label), plain.get_mut(&label)),
                    _ => {
                        *table.get_or_new(label) += 1;
                        *plain.entry(label).or_default() += 1;
                    }
                }
                let all: HashMap<u32, u32> = table.iter().map(|(label, n)| (label, *n)).collect();
                prop_assert_eq!(&all, &plain);
                prop_assert_eq!(table.len(), plain.len());
                prop_assert!(table.labels().all(|label| plain.contains_key(&label)));
                prop_assert!(table.states.len() <= 12);
            }
        }
    }
}
