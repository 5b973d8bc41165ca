//! A link in memory and the stack's end of it.

use stack_netio::{Device, RxFrame};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

pub const SERVER: [u8; 4] = [10, 123, 0, 2];
pub const CLIENT: [u8; 4] = [10, 123, 0, 1];
pub const PORT: u16 = 8080;

#[derive(Default)]
pub struct Link {
    pub to_stack: VecDeque<Vec<u8>>,
    pub from_stack: VecDeque<Vec<u8>>,
}

/// The stack's end, with room for `room` frames that wait.
pub struct LinkDevice {
    link: Rc<RefCell<Link>>,
    held: Vec<Vec<u8>>,
    waiting: VecDeque<Vec<u8>>,
    room: usize,
    /// Sizes of the bursts received.
    pub bursts: Vec<usize>,
}

impl LinkDevice {
    pub fn new(link: &Rc<RefCell<Link>>, room: usize) -> LinkDevice {
        LinkDevice {
            link: link.clone(),
            held: Vec::new(),
            waiting: VecDeque::new(),
            room,
            bursts: Vec::new(),
        }
    }
}

impl Device for LinkDevice {
    fn mac(&self) -> [u8; 6] {
        [2, 0, 0, 0, 0, 2]
    }

    fn mtu(&self) -> u16 {
        1500
    }

    fn rx_burst(&mut self, max: usize) -> usize {
        assert!(self.held.is_empty(), "frames of the last burst are held");
        let arrived = &mut self.link.borrow_mut().to_stack;
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
        let n = self.waiting.len();
        let left = self.waiting.drain(..);
        self.link.borrow_mut().from_stack.extend(left);
        n
    }

    fn rx_dropped(&mut self) -> u64 {
        0
    }
}

/// Who has the server's address? Tell the client.
pub fn arp_request() -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend([2, 0, 0, 0, 0, 1]);
    frame.extend(CLIENT);
    frame.extend([0; 6]);
    frame.extend(SERVER);
    frame
}
