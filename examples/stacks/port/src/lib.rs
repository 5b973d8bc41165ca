//! One queue of a device, with what a stack and its probes need around it: running frame numbers, the age of what waits,
//! bursts in both directions, the question whether the device is still there.
//!
//! In: frames asked for by a stack, one at a time; out: bursts to the device, at the latest when a batch waits. What is
//! particular to a stack is said when its port is made: the batch, what a full device means ([`WhenFull`]), whether the
//! device may cut long segments ([`Port::cutting`]). It refuses to know when a round ends and when to drain: that is each
//! stack's architecture.

use bypassprof_probe::{self as probe, Burst, Flow, PollLoop, points};
use stack_netio::{Device, DeviceError, RxFrame, Segment, TxOffload};
use stack_tcp::{FrameMeta, FrameSink, Time, TxFrame, TxHints};
use std::hint::spin_loop;
use std::time::Duration;

/// How often the device is asked whether it is still there, which polling does not tell.
const CHECK_EVERY: Duration = Duration::from_millis(250);

/// How often a full device is tried before a frame is refused: one that is gone never takes anything.
const TRIES: u32 = 1000;

/// What made a burst leave: the codes of `tx_burst`'s trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Each frame at once.
    AtOnce = 0,
    /// A full batch.
    Full = 1,
    /// A drain timer.
    Timer = 2,
    /// The end of a round.
    Round = 3,
}

/// What happens when the device takes less than a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The rest goes with a later burst; frames that find no room are refused until then.
    Later,
    /// Its ring is flushed and tried again in a busy loop, as netmap's is by mTCP.
    Again,
}

/// One queue of a device.
pub struct Port<D> {
    /// The device.
    pub device: D,
    /// The loop's rounds, for the probes.
    pub rounds: PollLoop,
    /// Number of the queue in events.
    pub queue: u8,
    /// A frame was refused since the device last took all that waited.
    pub refused: bool,
    batch: usize,
    when_full: WhenFull,
    cutting: bool,
    received: u32,
    sent: u32,
    /// Counter when the oldest waiting frame was queued; 0 if nobody listens.
    oldest: u64,
    next_check: Time,
}

/// A received burst, whose frames the device holds until they are released.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Its frames.
    pub frames: usize,
    /// Running number of the first one.
    pub first: u32,
    /// Its stamp.
    pub burst: Burst,
}

impl Received {
    /// What TCP is told of the frame at `index`.
    #[inline]
    pub fn meta(&self, index: usize, frame: RxFrame<'_>) -> FrameMeta {
        FrameMeta {
            checksum_ok: frame.checksum_ok,
            frame_no: self.first.wrapping_add(index as u32),
            burst: self.burst,
        }
    }
}

impl<D: Device> Port<D> {
    /// Queue number `queue` of a device, whose frames leave at the latest when `batch` of them wait.
    pub fn new(device: D, queue: u8, batch: usize, when_full: WhenFull) -> Port<D> {
        Port {
            device,
            rounds: PollLoop::new(),
            queue,
            refused: false,
            batch: batch.max(1),
            when_full,
            cutting: false,
            received: 0,
            sent: 0,
            oldest: 0,
            next_check: Time::ZERO,
        }
    }

    /// Lets the device cut long segments, if it can and `yes` (segmentation offload): no stack does it by itself.
    pub fn cutting(mut self, yes: bool) -> Port<D> {
        self.cutting = yes;
        self
    }

    /// Whether the device is still there, asked once in a while: the loop calls it every round.
    #[inline]
    pub fn check(&mut self, now: Time) -> Result<(), DeviceError> {
        if now < self.next_check {
            return Ok(());
        }
        self.next_check = now + CHECK_EVERY;
        self.device.check()
    }

    /// Receives at most `max` frames.
    #[inline(never)]
    pub fn rx_burst(&mut self, max: usize) -> Received {
        let frames = self.device.rx_burst(max);
        let first = self.received;
        self.received = first.wrapping_add(frames as u32);
        let burst = self
            .rounds
            .rx_burst(self.queue, frames as u32, max as u32, first);
        Received {
            frames,
            first,
            burst,
        }
    }

    /// A number that no frame of this queue has had lately or will have soon: for a frame that another queue received, so
    /// that nobody takes one of this queue's bursts for its own.
    pub fn no_frame(&self) -> u32 {
        self.received.wrapping_sub(1 << 31)
    }

    /// Frames that wait.
    pub fn queued(&self) -> usize {
        self.device.tx_queued()
    }

    /// Hands over what waits; how many frames the device took.
    #[inline(never)]
    pub fn tx_burst(&mut self, trigger: Trigger) -> usize {
        let asked = self.device.tx_queued();
        if asked == 0 {
            return 0;
        }
        let first = self.sent.wrapping_sub(asked as u32);
        let age = match self.oldest {
            0 => 0,
            queued => probe::now().raw().saturating_sub(queued),
        };
        let accepted = self.device.tx_burst();
        let age = age.min(u64::from(u32::MAX)) as u32;
        let (n, took) = (asked as u32, accepted as u32);
        self.rounds
            .tx_burst_aged(self.queue, n, took, first, age, trigger as u32);
        if accepted == asked {
            self.oldest = 0;
            self.refused = false;
        } else if self.when_full == WhenFull::Later {
            probe::emit_with(points::FULL, Flow::NONE, n, [1, 0, 0]);
        }
        accepted
    }

    /// A frame finds no room: told by whoever asks before there is one.
    pub fn refuse(&mut self) {
        self.refused = true;
        tell_refused(self.device.tx_queued());
    }

    /// Hands over a batch that is full.
    #[inline]
    fn make_room(&mut self) {
        match self.when_full {
            WhenFull::Later => {
                self.tx_burst(Trigger::Full);
            }
            WhenFull::Again => self.insist(),
        }
    }

    /// Tries a full device until it takes something.
    #[cold]
    #[inline(never)]
    fn insist(&mut self) {
        let mut tries = 1;
        while self.tx_burst(Trigger::Full) == 0 && tries < TRIES {
            tries += 1;
            spin_loop();
        }
        let capacity = self.batch as u32;
        probe::emit_with(points::FULL, Flow::NONE, capacity, [1, tries, 0]);
    }
}

fn tell_refused(waiting: usize) {
    probe::emit_with(points::FULL, Flow::NONE, waiting as u32, [3, 0, 0]);
}

impl<D: Device> FrameSink for Port<D> {
    fn frame(&mut self, len: usize, hints: TxHints) -> Option<TxFrame<'_>> {
        if self.device.tx_queued() >= self.batch {
            self.make_room();
        }
        if self.oldest == 0 && probe::enabled() {
            self.oldest = probe::now().raw();
        }
        let waiting = self.device.tx_queued();
        let offload = TxOffload {
            checksum: hints.checksum,
            segment: hints.cut.map(|cut| Segment {
                header: cut.header,
                payload: cut.payload,
            }),
        };
        let Some(bytes) = self.device.tx_frame_with(len, offload) else {
            self.refused = true;
            tell_refused(waiting);
            return None;
        };
        let number = self.sent;
        self.sent = number.wrapping_add(1);
        probe::count_tx_bytes(len as u64);
        Some(TxFrame { bytes, number })
    }

    fn largest_cut(&self) -> usize {
        if self.cutting {
            self.device.offloads().segmentation.unwrap_or(0)
        } else {
            0
        }
    }
}
