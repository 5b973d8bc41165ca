//! A queue that is short nearly always: its first item lies in it, and only what comes behind needs memory of its own.
//!
//! In and out: items, first in first out. Of ten thousand flows each has mostly one request at a time: what is touched
//! for one of its events is then in one place. It refuses to know what items are.

use std::collections::VecDeque;

/// The queue.
#[derive(Clone, Debug, Default)]
pub struct Queue<T> {
    /// The first item, if there is one. What lies here otherwise is of no meaning: that it can be read all the same is
    /// what [`Queue::near`] is for.
    first: T,
    /// Made when it is needed: there are three queues in a flow.
    #[expect(
        clippy::box_collection,
        reason = "a queue that is seldom there takes 8 bytes, not 32"
    )]
    rest: Option<Box<VecDeque<T>>>,
    /// Items in all. Memory of its own, once it was needed, is far: it is not asked whether something is in it.
    count: u32,
}

impl<T: Copy> Queue<T> {
    /// The memory of the first item, whether there is one or not.
    pub fn near(&self) -> &T {
        &self.first
    }

    /// What lies behind the first item, if anything does.
    fn behind(&self) -> Option<&VecDeque<T>> {
        self.rest.as_deref().filter(|_| self.count > 1)
    }

    fn behind_mut(&mut self) -> Option<&mut VecDeque<T>> {
        self.rest.as_deref_mut().filter(|_| self.count > 1)
    }

    /// Items in it.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Puts an item behind all others.
    pub fn push_back(&mut self, item: T) {
        match self.count {
            0 => self.first = item,
            _ => self.rest.get_or_insert_default().push_back(item),
        }
        self.count += 1;
    }

    /// Takes the first item.
    pub fn pop_front(&mut self) -> Option<T> {
        let first = *self.front()?;
        // Most often nothing lies behind it: then nothing is put in its place.
        if let Some(next) = self.behind_mut().and_then(VecDeque::pop_front) {
            self.first = next;
        }
        self.count -= 1;
        Some(first)
    }

    /// The first item.
    pub fn front(&self) -> Option<&T> {
        (self.count > 0).then_some(&self.first)
    }

    /// The last item.
    pub fn back(&self) -> Option<&T> {
        let last = self.behind().and_then(VecDeque::back);
        last.or(self.front())
    }

    /// The last item, to be changed.
    pub fn back_mut(&mut self) -> Option<&mut T> {
        match self.count {
            0 => None,
            1 => Some(&mut self.first),
            _ => self.rest.as_mut()?.back_mut(),
        }
    }

    /// The item at a place.
    pub fn get(&self, at: usize) -> Option<&T> {
        match at.checked_sub(1) {
            None => self.front(),
            Some(at) => self.behind()?.get(at),
        }
    }

    /// All items in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + Clone {
        let behind = self.behind().map(VecDeque::iter);
        self.front().into_iter().chain(behind.unwrap_or_default())
    }

    /// All items in order, to be changed.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut T> {
        let behind = self.rest.as_deref_mut().filter(|_| self.count > 1);
        let first = (self.count > 0).then_some(&mut self.first);
        let behind = behind.map(VecDeque::iter_mut);
        first.into_iter().chain(behind.unwrap_or_default())
    }

    /// Keeps only some items.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        if let Some(behind) = self.behind_mut() {
            behind.retain(&mut keep);
            self.count = 1 + behind.len() as u32;
        }
        if self.front().is_some_and(|first| !keep(first)) {
            self.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is done to it, it holds what a plain queue holds.
        #[test]
        fn equals_a_plain_queue(steps in proptest::collection::vec((0u8..4, 0u32..9), 0..60)) {
            let (mut queue, mut plain) = (Queue::default(), VecDeque::new());
            for (step, number) in steps {
                match step {
                    0 => prop_assert_eq!(queue.pop_front(), plain.pop_front()),
                    1 => {
                        queue.retain(|item| item % 3 != number % 3);
                        plain.retain(|item| item % 3 != number % 3);
                    }
                    _ => {
                        queue.push_back(number);
                        plain.push_back(number);
                    }
                }
                prop_assert!(queue.iter().eq(&plain));
                prop_assert!(queue.iter_mut().rev().eq(plain.iter_mut().rev()));
                prop_assert_eq!((queue.len(), queue.is_empty()), (plain.len(), plain.is_empty()));
                prop_assert_eq!((queue.front(), queue.back()), (plain.front(), plain.back()));
                prop_assert_eq!(queue.back_mut(), plain.back_mut());
                prop_assert_eq!(queue.get(number as usize), plain.get(number as usize));
            }
        }
    }
}
