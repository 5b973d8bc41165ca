//! A queue that is short nearly always: its first item lies in it, and only what comes behind needs memory of its own.
//!
//! In and out: items, first in first out. Of ten thousand flows each has mostly one request at a time: what is touched
//! for one of its events is then in one place. It refuses to know what items are.

use std::collections::VecDeque;

/// The queue.
#[derive(Clone, Debug)]
pub struct Queue<T> {
    /// `None` only if `rest` is empty too.
    first: Option<T>,
    /// Made when it is needed: there are three queues in a flow.
    #[expect(
        clippy::box_collection,
        reason = "a queue that is seldom there takes 8 bytes, not 32"
    )]
    rest: Option<Box<VecDeque<T>>>,
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue {
            first: None,
            rest: None,
        }
    }
}

impl<T> Queue<T> {
    /// Items in it.
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.as_ref().map_or(0, |rest| rest.len())
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Puts an item behind all others.
    pub fn push_back(&mut self, item: T) {
        match self.first {
            None => self.first = Some(item),
            Some(_) => self.rest.get_or_insert_default().push_back(item),
        }
    }

    /// Takes the first item.
    pub fn pop_front(&mut self) -> Option<T> {
        match self.rest.as_mut().and_then(|rest| rest.pop_front()) {
            // Most often nothing lies behind it: then nothing is put in its place.
            None => self.first.take(),
            next => std::mem::replace(&mut self.first, next),
        }
    }

    /// The first item.
    pub fn front(&self) -> Option<&T> {
        self.first.as_ref()
    }

    /// The last item.
    pub fn back(&self) -> Option<&T> {
        let rest = self.rest.as_ref().and_then(|rest| rest.back());
        rest.or(self.first.as_ref())
    }

    /// The last item, to be changed.
    pub fn back_mut(&mut self) -> Option<&mut T> {
        let rest = self.rest.as_mut().and_then(|rest| rest.back_mut());
        rest.or(self.first.as_mut())
    }

    /// The item at a place.
    pub fn get(&self, at: usize) -> Option<&T> {
        match at.checked_sub(1) {
            None => self.first.as_ref(),
            Some(at) => self.rest.as_ref()?.get(at),
        }
    }

    /// All items in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + Clone {
        let rest = self.rest.as_deref().map(VecDeque::iter);
        self.first.iter().chain(rest.unwrap_or_default())
    }

    /// All items in order, to be changed.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut T> {
        let rest = self.rest.as_deref_mut().map(VecDeque::iter_mut);
        self.first.iter_mut().chain(rest.unwrap_or_default())
    }

    /// Keeps only some items.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        if let Some(rest) = &mut self.rest {
            rest.retain(&mut keep);
        }
        if self.first.as_ref().is_some_and(|first| !keep(first)) {
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
