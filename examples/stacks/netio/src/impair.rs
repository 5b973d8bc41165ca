//! One direction of a bad link: frames and moments in, frames out, some late, twice, wrong or not at all.
//!
//! In: frames and the time, which never goes back; out: the frames that have arrived by then. All chances come from one
//! seeded sequence. It refuses to know clocks and devices.

use crate::checksum;
use crate::faults::{Chance, Faults};
use std::collections::VecDeque;
use std::time::Duration;

/// What was done to frames so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Frames that came to the link.
    pub frames: u64,
    /// Lost.
    pub lost: u64,
    /// Held back until others had overtaken them.
    pub reordered: u64,
    /// Sent on twice.
    pub duplicated: u64,
    /// Sent on with a wrong bit.
    pub corrupted: u64,
    /// Dropped because too many waited for the link to be free.
    pub overflowed: u64,
}

/// A frame on its way.
#[derive(Debug)]
pub struct Underway {
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
    /// Nobody has to verify its checksums.
    pub checksum_ok: bool,
    due: Duration,
}

/// Frames that overtake one that is held back, unless none come for [`REORDER_WAIT`].
const OVERTAKERS: u8 = 3;
const REORDER_WAIT: Duration = Duration::from_millis(5);
/// How long a frame may wait until the link is free.
const BACKLOG: Duration = Duration::from_millis(50);
/// Frames on their way at once.
const MOST: usize = 1 << 16;
/// Buffers kept for frames to come.
const SPARE: usize = 1024;

/// One direction.
#[derive(Debug)]
pub struct Impairment {
    faults: Faults,
    chances: fastrand::Rng,
    /// In the order they arrive.
    underway: VecDeque<Underway>,
    /// Held back, with how many have to overtake them yet.
    overtaken: VecDeque<(Underway, u8)>,
    free: Duration,
    spare: Vec<Vec<u8>>,
    counts: FaultCounts,
}

impl Impairment {
    /// A link with these faults; `number` tells directions and queues with the same seed apart.
    pub fn new(faults: Faults, number: u64) -> Impairment {
        Impairment {
            faults,
            chances: fastrand::Rng::with_seed(
                faults.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            ),
            underway: VecDeque::new(),
            overtaken: VecDeque::new(),
            free: Duration::ZERO,
            spare: Vec::new(),
            counts: FaultCounts::default(),
        }
    }

    /// A frame comes to the link.
    pub fn push(&mut self, now: Duration, bytes: &[u8], checksum_ok: bool) {
        self.counts.frames += 1;
        // One draw per fault and frame, whatever happens, so that faults do not move when another one is added.
        let [lost, late, twice, wrong] = [
            self.faults.loss,
            self.faults.reorder,
            self.faults.duplicate,
            self.faults.corrupt,
        ]
        .map(|chance| self.happens(chance));
        let bit = self.chances.usize(..);
        if lost {
            self.counts.lost += 1;
            return;
        }
        let Some(due) = self.transmit(now, bytes.len()) else {
            self.counts.overflowed += 1;
            return;
        };
        let mut frame = self.copy(bytes, checksum_ok, due);
        if wrong && corrupt(&mut frame, bit) {
            self.counts.corrupted += 1;
        }
        if twice {
            self.counts.duplicated += 1;
            let copy = self.copy(&frame.bytes, frame.checksum_ok, due);
            self.underway.push_back(copy);
        }
        for (_, left) in &mut self.overtaken {
            *left = left.saturating_sub(1);
        }
        if late {
            self.counts.reordered += 1;
            self.overtaken.push_back((frame, OVERTAKERS));
        } else {
            self.underway.push_back(frame);
        }
        while self.overtaken.front().is_some_and(|(_, left)| *left == 0) {
            self.let_go(due);
        }
    }

    /// When a frame of this length is across, if it may wait for the link at all.
    fn transmit(&mut self, now: Duration, len: usize) -> Option<Duration> {
        if self.waiting() >= MOST {
            return None;
        }
        if self.faults.rate == 0 {
            return Some(now + self.faults.delay);
        }
        let start = self.free.max(now);
        if start - now > BACKLOG {
            return None;
        }
        let bits = len as u128 * 8 * 1_000_000_000;
        let nanos = bits / u128::from(self.faults.rate);
        self.free = start + Duration::from_nanos(nanos as u64);
        Some(self.free + self.faults.delay)
    }

    /// The first one held back goes on, behind what is under way.
    fn let_go(&mut self, due: Duration) {
        if let Some((mut frame, _)) = self.overtaken.pop_front() {
            frame.due = due.max(frame.due);
            self.underway.push_back(frame);
        }
    }

    fn happens(&mut self, chance: Chance) -> bool {
        self.chances.u32(..1_000_000) < chance.millionths()
    }

    fn copy(&mut self, bytes: &[u8], checksum_ok: bool, due: Duration) -> Underway {
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(bytes);
        Underway {
            bytes: copy,
            checksum_ok,
            due,
        }
    }

    /// The next frame that has arrived by now, still on the link.
    pub fn peek(&mut self, now: Duration) -> Option<&[u8]> {
        while let Some((first, _)) = self.overtaken.front()
            && first.due + REORDER_WAIT <= now
        {
            let due = self.underway.back().map_or(first.due, |last| last.due);
            self.let_go(due);
        }
        let first = self.underway.front()?;
        (first.due <= now).then_some(&first.bytes[..])
    }

    /// Takes the next frame that has arrived by now.
    pub fn pop(&mut self, now: Duration) -> Option<Underway> {
        self.peek(now)?;
        self.underway.pop_front()
    }

    /// Takes a frame's memory back.
    pub fn reuse(&mut self, frame: Underway) {
        if self.spare.len() < SPARE {
            self.spare.push(frame.bytes);
        }
    }

    /// Frames on their way.
    pub fn waiting(&self) -> usize {
        self.underway.len() + self.overtaken.len()
    }

    /// What was done so far.
    pub fn counts(&self) -> FaultCounts {
        self.counts
    }
}

/// Turns one bit behind the Ethernet header round; false if there is none. Checksums that were never made are made
/// before, and nobody answers for them after: who receives the frame can tell that it is wrong.
fn corrupt(frame: &mut Underway, bit: usize) -> bool {
    const ETHERNET: usize = 14;
    if frame.bytes.len() <= ETHERNET {
        return false;
    }
    if frame.checksum_ok {
        checksum::complete(&mut frame.bytes);
        frame.checksum_ok = false;
    }
    let payload = &mut frame.bytes[ETHERNET..];
    let bit = bit % (payload.len() * 8);
    payload[bit / 8] ^= 1 << (bit % 8);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FRAMES: u32 = 100_000;

    fn numbered(number: u32) -> Vec<u8> {
        let mut frame = vec![0; 60];
        frame[14..18].copy_from_slice(&number.to_be_bytes());
        frame
    }

    fn number(bytes: &[u8]) -> u32 {
        u32::from_be_bytes(bytes[14..18].try_into().unwrap())
    }

    /// Sends frames, one a microsecond, and takes all that arrives.
    fn through(link: &mut Impairment, frames: u32) -> Vec<(Duration, Vec<u8>)> {
        let mut arrived = Vec::new();
        let mut now = Duration::ZERO;
        for n in 0..frames {
            now = Duration::from_micros(n.into());
            link.push(now, &numbered(n), false);
            while let Some(frame) = link.pop(now) {
                arrived.push((now, frame.bytes.clone()));
                link.reuse(frame);
            }
        }
        while link.waiting() > 0 {
            now += Duration::from_micros(1);
            while let Some(frame) = link.pop(now) {
                arrived.push((now, frame.bytes));
            }
        }
        arrived
    }

    fn one_percent() -> Chance {
        Chance::per_million(10_000)
    }

    /// A share of frames of a seeded sequence stays within five standard deviations of what was asked.
    fn near_one_percent(count: u64) -> bool {
        (843..=1157).contains(&count)
    }

    /// A link without faults passes everything at once, in order.
    #[test]
    fn a_good_link_does_nothing() {
        let mut link = Impairment::new(Faults::default(), 0);
        let arrived = through(&mut link, 100);
        for (n, (at, bytes)) in (0..).zip(&arrived) {
            assert_eq!((*at, number(bytes)), (Duration::from_micros(n), n as u32));
        }
        assert_eq!(arrived.len(), 100);
    }

    /// One per cent of loss, duplicates and wrong bits is one per cent, and each is counted.
    #[test]
    fn shares_are_what_was_asked() {
        let faults = Faults {
            loss: one_percent(),
            duplicate: one_percent(),
            corrupt: one_percent(),
            seed: 3,
            ..Faults::default()
        };
        let mut link = Impairment::new(faults, 0);
        let arrived = through(&mut link, FRAMES);
        let counts = link.counts();
        for count in [counts.lost, counts.duplicated, counts.corrupted] {
            assert!(near_one_percent(count), "{counts:?}");
        }
        let expected = u64::from(FRAMES) - counts.lost + counts.duplicated;
        assert_eq!(arrived.len() as u64, expected);
        let wrong = |(_, bytes): &&(Duration, Vec<u8>)| bytes[18..].iter().any(|b| *b != 0);
        let visible = arrived.iter().filter(wrong).count() as u64;
        // Ten of eleven hit what is zero; a duplicate of a wrong frame is wrong, too.
        assert!(visible > counts.corrupted / 2 && visible <= counts.corrupted * 2);
    }

    /// A reordered frame arrives right behind three later ones; nothing is lost by it.
    #[test]
    fn a_late_frame_is_overtaken_by_three() {
        let faults = Faults {
            reorder: one_percent(),
            ..Faults::default()
        };
        let mut link = Impairment::new(faults, 0);
        let arrived = through(&mut link, FRAMES);
        assert!(near_one_percent(link.counts().reordered));
        let numbers: Vec<_> = arrived.iter().map(|(_, bytes)| number(bytes)).collect();
        let mut newest = 0;
        let mut late = 0;
        for n in &numbers {
            late += u64::from(*n < newest);
            assert!(newest.saturating_sub(*n) <= 6, "{n} behind {newest}");
            newest = newest.max(*n);
        }
        assert!(late.abs_diff(link.counts().reordered) <= 3, "{late}");
        let mut sorted = numbers;
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..FRAMES));
    }

    /// A late frame that nothing overtakes arrives all the same.
    #[test]
    fn the_last_frame_is_not_forgotten() {
        let faults = Faults {
            reorder: Chance::per_million(1_000_000),
            ..Faults::default()
        };
        let mut link = Impairment::new(faults, 0);
        link.push(Duration::ZERO, &numbered(1), false);
        assert!(link.pop(REORDER_WAIT - Duration::from_nanos(1)).is_none());
        assert!(link.pop(REORDER_WAIT).is_some());
    }

    /// A delayed frame is there exactly after the delay.
    #[test]
    fn delay_is_exact() {
        let faults = Faults {
            delay: Duration::from_micros(250),
            ..Faults::default()
        };
        let arrived = through(&mut Impairment::new(faults, 0), 1000);
        for (n, (at, bytes)) in (0..).zip(arrived) {
            assert_eq!(
                (at, number(&bytes)),
                (Duration::from_micros(n + 250), n as u32)
            );
        }
    }

    /// At 48 Mbit/s a frame of 60 bytes takes 10 us, so that of one a microsecond one in ten passes, and what would wait
    /// for more than 50 ms is dropped.
    #[test]
    fn rate_is_kept() {
        let faults = Faults {
            rate: 48_000_000,
            ..Faults::default()
        };
        let mut link = Impairment::new(faults, 0);
        let arrived = through(&mut link, FRAMES);
        let gaps = arrived.windows(2).map(|pair| pair[1].0 - pair[0].0);
        assert!(gaps.into_iter().all(|gap| gap == Duration::from_micros(10)));
        let counts = link.counts();
        assert_eq!(counts.overflowed + arrived.len() as u64, counts.frames);
        assert_eq!(arrived.len(), 10_000 + 5_000);
    }

    /// The same seed gives the same faults, another one others; so do two directions of one device.
    #[test]
    fn the_seed_decides() {
        let run = |seed, number| {
            let faults = Faults {
                loss: Chance::per_million(100_000),
                seed,
                ..Faults::default()
            };
            through(&mut Impairment::new(faults, number), 1000)
        };
        assert_eq!(run(1, 0), run(1, 0));
        assert_ne!(run(1, 0), run(2, 0));
        assert_ne!(run(1, 0), run(1, 1));
    }

    proptest! {
        /// Whatever the faults, what comes out is what went in, less what was counted as lost, plus what was doubled.
        #[test]
        fn every_frame_is_accounted_for(
            shares in prop::array::uniform4(0_u32..1_000_000),
            delay in 0_u64..100_000,
            rate in prop::option::of(1_000_000_u64..1_000_000_000),
            seed in any::<u64>(),
        ) {
            let [loss, reorder, duplicate, corrupt] = shares.map(Chance::per_million);
            let delay = Duration::from_nanos(delay);
            let rate = rate.unwrap_or(0);
            let faults = Faults { loss, reorder, duplicate, corrupt, delay, rate, seed };
            let mut link = Impairment::new(faults, 0);
            let arrived = through(&mut link, 300).len() as u64;
            let counts = link.counts();
            prop_assert_eq!(counts.frames, 300);
            prop_assert_eq!(arrived, 300 - counts.lost - counts.overflowed + counts.duplicated);
        }
    }
}
