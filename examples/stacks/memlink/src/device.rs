//! The link, and the stack's end of it.

use crate::SERVER_MAC;
use stack_netio::{Device, RxFrame};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
struct Wire {
    to_stack: VecDeque<Vec<u8>>,
    from_stack: Vec<Vec<u8>>,
}

/// Frames on their way in both directions.
#[derive(Clone, Debug, Default)]
pub struct Link(Arc<Mutex<Wire>>);

impl Link {
    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts frames on their way to the stack.
    pub fn put(&self, frames: impl IntoIterator<Item = Vec<u8>>) {
        self.wire().to_stack.extend(frames);
    }

    /// Takes the frames that came from the stack.
    pub fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.wire().from_stack)
    }

    /// Frames that came from the stack and nobody has taken.
    pub fn arrived(&self) -> usize {
        self.wire().from_stack.len()
    }
}

/// The stack's end of the link: room for `room` frames that wait, of which each burst takes `takes`.
#[derive(Debug)]
pub struct LinkDevice {
    link: Link,
    held: Vec<Vec<u8>>,
    waiting: VecDeque<Vec<u8>>,
    room: usize,
    takes: usize,
    /// Sizes of the bursts received.
    pub bursts: Vec<usize>,
}

impl LinkDevice {
    /// An end of this link.
    pub fn new(link: &Link, room: usize, takes: usize) -> LinkDevice {
        LinkDevice {
            link: link.clone(),
            held: Vec::new(),
            waiting: VecDeque::new(),
            room,
            takes,
            bursts: Vec::new(),
        }
    }
}

impl Device for LinkDevice {
    fn mac(&self) -> [u8; 6] {
        SERVER_MAC
    }

    fn mtu(&self) -> u16 {
        1500
    }

    fn rx_burst(&mut self, max: usize) -> usize {
        assert!(self.held.is_empty(), "frames of the last burst are held");
        let arrived = &mut self.link.wire().to_stack;
        let n = max.min(arrived.len());
        self.held.extend(arrived.drain(..n));
        self.bursts.extend((n > 0).then_some(n));
        n
    }

    fn rx_frame(&self, index: usize) -> RxFrame<'_> {
        RxFrame {
            bytes: &self.held[index],
            checksum_ok: false,
        }
    }

    fn rx_release(&mut self) {
        self.held.clear();
    }

    fn tx_frame(&mut self, len: usize) -> Option<&mut [u8]> {
        if self.waiting.len() == self.room {
            return None;
        }
        self.waiting.push_back(vec![0; len]);
        self.waiting.back_mut().map(Vec::as_mut_slice)
    }

    fn tx_queued(&self) -> usize {
        self.waiting.len()
    }

    fn tx_burst(&mut self) -> usize {
        let n = self.takes.min(self.waiting.len());
        self.link.wire().from_stack.extend(self.waiting.drain(..n));
        n
    }

    fn rx_dropped(&mut self) -> u64 {
        0
    }
}
