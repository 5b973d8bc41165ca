//! The rings that a round looks into, and their other ends.
//!
//! In: frames and questions from other threads; out: what a round takes. It refuses to know what frames mean.

use crate::main_loop::Totals;
use bypassprof_probe::{self as probe, Flow, points};
use ringbuf::traits::{Consumer, Observer, Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Questions that may wait: F-Stack's message ring.
const MESSAGES: usize = 32;

/// A frame on its way between cores.
pub struct Handed {
    pub frame: Vec<u8>,
    /// The checksums are known to be right.
    pub checksum_ok: bool,
    /// Counter when it was handed over; 0 if nobody listened.
    stamp: u64,
}

/// The other end of a ring of frames: of a dispatch ring, those that another thread received for this one; of the side
/// ring, those that another stack sends through this one's device.
pub struct Injector(HeapProd<Handed>);

impl Injector {
    /// Hands a frame over; it comes back if the ring is full.
    pub fn hand_over(&mut self, frame: Vec<u8>) -> Result<(), Vec<u8>> {
        let handed = Handed::now(frame, false);
        self.0.try_push(handed).map_err(|back| back.frame)
    }

    /// Hands a copy of a received frame to the core at the other end, or drops it if the ring is full.
    pub(crate) fn dispatch(&mut self, frame: &[u8], checksum_ok: bool) {
        if self.0.is_full() {
            let capacity = self.0.capacity().get() as u32;
            probe::emit_with(points::FULL, Flow::NONE, capacity, [0, 0, 0]);
            probe::emit(points::DROP, Flow::NONE, DROP_DISPATCH);
            return;
        }
        // There is room, and no one else fills it.
        let _ = self.0.try_push(Handed::now(frame.to_vec(), checksum_ok));
    }
}

/// `drop`'s layer and reason for a frame that found a full dispatch ring.
const DROP_DISPATCH: u32 = (2 << 24) | 1;

impl Handed {
    fn now(frame: Vec<u8>, checksum_ok: bool) -> Handed {
        let stamp = if probe::enabled() {
            probe::now().raw()
        } else {
            0
        };
        Handed {
            frame,
            checksum_ok,
            stamp,
        }
    }

    /// Ticks since it was handed over; 0 if that is not known.
    pub fn age(&self) -> u32 {
        if self.stamp == 0 {
            return 0;
        }
        let ticks = probe::now().raw().saturating_sub(self.stamp);
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }
}

/// A dispatch ring's taking end.
pub struct Dispatched {
    /// Number of the core that fills it.
    pub from: u8,
    pub ring: HeapCons<Handed>,
}

impl Dispatched {
    /// The next frame, and how many wait behind it.
    pub fn take(&mut self) -> Option<(Handed, usize)> {
        let handed = self.ring.try_pop()?;
        Some((handed, self.ring.occupied_len()))
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
    /// One from each thread that receives for this one.
    pub dispatch: Vec<Dispatched>,
    pub side: HeapCons<Handed>,
    pub messages: HeapCons<SyncSender<Totals>>,
    /// Frames that a ring of frames holds.
    frames: usize,
}

/// The ends that others hold; each can be taken once.
pub struct Ends {
    pub side: Option<Injector>,
    pub messages: Option<Controller>,
}

/// Rings whose frame rings hold `frames` frames each.
pub fn make(frames: usize) -> (Rings, Ends) {
    let frames = frames.max(1);
    let (side_in, side) = HeapRb::new(frames).split();
    let (messages_in, messages) = HeapRb::new(MESSAGES).split();
    let rings = Rings {
        dispatch: Vec::new(),
        side,
        messages,
        frames,
    };
    let ends = Ends {
        side: Some(Injector(side_in)),
        messages: Some(Controller(messages_in)),
    };
    (rings, ends)
}

impl Rings {
    /// One more dispatch ring, filled by core `from`.
    pub fn dispatch_from(&mut self, from: u8) -> Injector {
        let (fill, ring) = HeapRb::new(self.frames).split();
        self.dispatch.push(Dispatched { from, ring });
        Injector(fill)
    }
}
