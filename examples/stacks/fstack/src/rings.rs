//! The rings that a round looks into, and their other ends.
//!
//! In: frames and questions from other threads; out: what a round takes. It refuses to know what frames mean.

use crate::main_loop::Totals;
use ringbuf::traits::{Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Questions that may wait: F-Stack's message ring.
const MESSAGES: usize = 32;

/// The other end of a ring of frames: of the dispatch ring, those that another thread received for this one; of the side
/// ring, those that another stack sends through this one's device.
pub struct Injector(HeapProd<Vec<u8>>);

impl Injector {
    /// Hands a frame over; it comes back if the ring is full.
    pub fn hand_over(&mut self, frame: Vec<u8>) -> Result<(), Vec<u8>> {
        self.0.try_push(frame)
    }
}

/// The other end of the message ring.
pub struct Controller(HeapProd<SyncSender<Totals>>);

impl Controller {
    /// Asks the loop for its totals, which come once it gets to it; `None` if too many questions wait.
    pub fn ask_totals(&mut self) -> Option<Receiver<Totals>> {
        let (answer, question) = sync_channel(1);
        self.0.try_push(answer).ok()?;
        Some(question)
    }
}

/// The ends that the loop holds.
pub struct Rings {
    pub dispatch: HeapCons<Vec<u8>>,
    pub side: HeapCons<Vec<u8>>,
    pub messages: HeapCons<SyncSender<Totals>>,
}

/// The ends that others hold; each can be taken once.
pub struct Ends {
    pub dispatch: Option<Injector>,
    pub side: Option<Injector>,
    pub messages: Option<Controller>,
}

/// Rings whose frame rings hold `frames` frames each.
pub fn make(frames: usize) -> (Rings, Ends) {
    let (dispatch_in, dispatch) = HeapRb::new(frames).split();
    let (side_in, side) = HeapRb::new(frames).split();
    let (messages_in, messages) = HeapRb::new(MESSAGES).split();
    let rings = Rings {
        dispatch,
        side,
        messages,
    };
    let ends = Ends {
        dispatch: Some(Injector(dispatch_in)),
        side: Some(Injector(side_in)),
        messages: Some(Controller(messages_in)),
    };
    (rings, ends)
}
