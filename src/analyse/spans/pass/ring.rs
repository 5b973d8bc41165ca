//! What a pass knows of one ring and of the thread that writes it, while events go by.
//!
//! In: what the events of the ring tell; out: the burst that a frame was received in, and short memories of losses,
//! moves and frames on their way. It refuses to know flows.

use super::super::turns::Turns;
use crate::trace::record::{Pid, Ring};
use std::collections::VecDeque;

/// What is known of a ring, and of the thread that writes it.
pub struct RingState {
    /// Its number in the file.
    pub number: u32,
    pub name: String,
    /// Whether its thread passes the filter.
    pub wanted: bool,
    /// From when on its thread ran on which CPU; only kept if CPUs are asked for.
    pub ran_on: VecDeque<(u64, u32)>,
    /// First frame, frames and stamp of receive bursts.
    pub received: VecDeque<(u32, u32, u64)>,
    /// Frames that left TCP and wait for their burst.
    pub sent: VecDeque<Sent>,
    /// When data was made ready for the application last.
    pub delivered: u64,
    /// What the application did on this thread.
    pub turns: Turns,
    pub wake: Option<u64>,
    /// Process of its thread.
    pub pid: Pid,
    /// It tells when the device takes frames.
    pub drains: bool,
    /// It tells of bursts, received or sent.
    pub has_device: bool,
    /// Place of the ring whose bursts carry its frames: its own, or that of the one device in its process if it has none.
    pub device: u32,
    /// What it took out of another thread's queue and no segment has claimed: its flow, and since when it waited.
    pub handed: Option<(u32, u64)>,
    /// When events were lost, from the last one before to the first one after; the newest losses.
    pub losses: VecDeque<(u64, u64)>,
}

/// A frame that left TCP.
pub struct Sent {
    pub frame: u32,
    pub flow: u32,
    pub tsc: u64,
    /// First and last request that it is of.
    pub requests: Option<(u64, u64)>,
}

impl RingState {
    /// A ring at this place that nothing has come from yet.
    pub fn new(place: u32, ring: &Ring, name: String, wanted: bool) -> RingState {
        RingState {
            number: ring.ring,
            wanted,
            ran_on: VecDeque::new(),
            name,
            received: VecDeque::new(),
            sent: VecDeque::new(),
            delivered: 0,
            turns: Turns::default(),
            wake: None,
            pid: ring.pid,
            drains: false,
            has_device: false,
            device: place,
            handed: None,
            losses: VecDeque::new(),
        }
    }

    /// Stamp of the burst that a frame was received in.
    pub fn burst_of(&self, frame: u32) -> Option<u64> {
        let bursts = self.received.iter().rev();
        let mut of = bursts.filter(|(first, n, _)| frame.wrapping_sub(*first) < *n);
        of.next().map(|(.., tsc)| *tsc)
    }
}

/// Puts an item at the end of a queue that holds `most`; the oldest makes room.
pub fn push<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    if queue.len() == most {
        queue.pop_front();
    }
    queue.push_back(item);
}
