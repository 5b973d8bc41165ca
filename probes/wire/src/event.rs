//! Events as 16-byte slots.
//!
//! ```text
//! word 0   [ tsc: 48 | point: 16 ]        word 1   [ flow: 32 | arg: 32 ]
//! ```
//!
//! In: stamps, points, flows, arguments; out: pairs of words, and events back from untrusted words. A slot that
//! continues the event before it carries [`points::CONT`] and no stamp: three more 32-bit arguments, at most three
//! such slots. The stamp keeps the low 48 bits of the counter; [`points::EPOCH`] slots carry all 64, one at the start
//! of a ring and one whenever bit 47 changes, so a reader that has seen one knows the full time of every later event.
//! This module refuses to know where slots are stored.

use crate::points::{self, Point};
use crate::{Flow, Tsc};

/// Bits of a stamp kept in a slot.
pub const STAMP_BITS: u32 = 48;
const STAMP_MASK: u64 = (1 << STAMP_BITS) - 1;
/// Arguments carried by one continuation slot.
pub const ARGS_PER_CONT: usize = 3;
/// Slots of one event, the head included.
pub const MAX_SLOTS: usize = 4;
/// Arguments of one event, the head's own included.
pub const MAX_ARGS: usize = 1 + ARGS_PER_CONT * (MAX_SLOTS - 1);

/// One 16-byte slot as two words in the machine's byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Slot {
    /// `[tsc:48 | point:16]`, or `[arg:32 | spare:16 | CONT:16]`.
    pub word0: u64,
    /// `[flow:32 | arg:32]`, or two more arguments.
    pub word1: u64,
}

/// Bytes of a slot.
pub const SLOT_BYTES: usize = 16;
const _: () = assert!(size_of::<Slot>() == SLOT_BYTES);

impl Slot {
    /// The first slot of an event.
    #[inline(always)]
    pub const fn head(stamp: Tsc, point: Point, flow: Flow, arg: u32) -> Slot {
        Slot {
            word0: (stamp.raw() << 16) | point.id() as u64,
            word1: ((flow.raw() as u64) << 32) | arg as u64,
        }
    }

    /// A slot that carries three more arguments of the event before it.
    #[inline(always)]
    pub const fn cont(a: u32, b: u32, c: u32) -> Slot {
        Slot {
            word0: ((a as u64) << 32) | points::CONT.id() as u64,
            word1: ((b as u64) << 32) | c as u64,
        }
    }

    /// All 64 bits of the counter at `stamp`.
    #[inline(always)]
    pub const fn epoch(stamp: Tsc) -> Slot {
        Slot {
            word0: (stamp.raw() << 16) | points::EPOCH.id() as u64,
            word1: stamp.raw(),
        }
    }

    /// `slots` slots were not written before this one, because the ring was full; writing went on at `stamp`.
    #[inline(always)]
    pub const fn lost(stamp: Tsc, slots: u64) -> Slot {
        Slot {
            word0: (stamp.raw() << 16) | points::LOST.id() as u64,
            word1: slots,
        }
    }

    /// The point field of word 0.
    #[inline(always)]
    pub const fn point(self) -> Point {
        Point::from_id(self.word0 as u16)
    }

    /// The arguments of a slot that continues an event.
    #[inline(always)]
    const fn cont_args(self) -> [u32; ARGS_PER_CONT] {
        let above = (self.word0 >> 32) as u32;
        [above, (self.word1 >> 32) as u32, self.word1 as u32]
    }

    /// The stamp's low 48 bits.
    #[inline(always)]
    pub const fn stamp48(self) -> u64 {
        self.word0 >> 16
    }
}

/// One whole event, its time complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in counter ticks.
    pub tsc: Tsc,
    /// Where.
    pub point: Point,
    /// Which flow, or the point's own use of the field (see [`points`]).
    pub flow: Flow,
    /// Arguments; those the event did not carry are 0.
    pub args: [u32; MAX_ARGS],
    /// How many of `args` were carried: 1, 4, 7 or 10.
    pub arg_count: u8,
}

impl Event {
    /// The 64-bit word of `EPOCH`, `LOST` and `IDLE_END`: flow and first argument together.
    pub const fn wide(&self) -> u64 {
        ((self.flow.raw() as u64) << 32) | self.args[0] as u64
    }
}

/// What a decoder found besides events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecodeCounts {
    /// Events given out.
    pub events: u64,
    /// Slots the writer said it could not write (`LOST`).
    pub lost_slots: u64,
    /// Continuation slots with no head before them: the reader started in the middle of an event.
    pub orphan_slots: u64,
    /// Slots before the first `EPOCH`, whose time cannot be completed from the ring alone.
    pub undated_slots: u64,
    /// Never-written slots (all zero) and points that do not exist.
    pub invalid_slots: u64,
}

/// Turns slots into events. Keeps its state between calls, so blocks may be cut anywhere.
///
/// Accepts any bytes: what makes no sense is counted, never guessed.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    epoch: Option<u64>,
    pending: Option<Event>,
    counts: DecodeCounts,
}

impl Decoder {
    /// A decoder for a ring read from its start, or from the middle when `base` (any full stamp taken within 2^47 ticks
    /// of the first slot, for example from the ring's header) is given.
    pub fn new(base: Option<Tsc>) -> Self {
        Decoder {
            epoch: base.map(Tsc::raw),
            ..Decoder::default()
        }
    }

    /// What was found so far.
    pub fn counts(&self) -> DecodeCounts {
        self.counts
    }

    /// Takes one slot; calls `out` with the event that it completes, if any. `LOST` is given out as an event too,
    /// since the poll state is unknown from there on; `EPOCH` and continuations are not.
    #[inline]
    pub fn push(&mut self, slot: Slot, out: &mut impl FnMut(Event)) {
        match slot.point() {
            points::CONT => self.continue_event(slot),
            points::EPOCH => {
                self.flush(out);
                self.epoch = Some(slot.word1);
            }
            point if !point.is_valid() => {
                self.flush(out);
                self.counts.invalid_slots += 1;
            }
            point => self.start_event(slot, point, out),
        }
    }

    /// Takes slots that follow each other as [`Decoder::push`] does one by one, in less time: an event whose slots all lie
    /// here waits for none.
    #[inline]
    pub fn block(&mut self, slots: &[Slot], out: &mut impl FnMut(&Event)) {
        let mut rest = slots;
        while let [head, after @ ..] = rest {
            rest = after;
            let point = head.point();
            let special = point == points::CONT || point == points::EPOCH || point == points::LOST;
            let following = after.iter().take(MAX_SLOTS - 1);
            let conts = following
                .take_while(|slot| slot.point() == points::CONT)
                .count();
            let epoch = self.epoch.filter(|_| !special && point.is_valid());
            let (Some(epoch), true) = (epoch, conts < after.len()) else {
                self.push(*head, &mut |event| out(&event));
                continue;
            };
            self.flush(&mut |event| out(&event));
            let tsc = complete_stamp(head.stamp48(), epoch);
            let mut args = [0; MAX_ARGS];
            args[0] = head.word1 as u32;
            let (own, next) = after.split_at(conts);
            for (args, slot) in args[1..].chunks_exact_mut(ARGS_PER_CONT).zip(own) {
                args.copy_from_slice(&slot.cont_args());
            }
            self.epoch = Some(tsc.raw());
            self.counts.events += 1;
            out(&Event {
                tsc,
                point,
                flow: Flow::from_raw((head.word1 >> 32) as u32),
                args,
                arg_count: (1 + conts * ARGS_PER_CONT) as u8,
            });
            rest = next;
        }
    }

    /// Gives out the event that was waiting for continuation slots. Call at the end of a ring, never between blocks.
    #[inline]
    pub fn flush(&mut self, out: &mut impl FnMut(Event)) {
        if let Some(event) = self.pending.take() {
            self.counts.events += 1;
            out(event);
        }
    }

    /// Forgets the event in the making: slots were skipped, so what follows may not belong to it.
    pub fn gap(&mut self) {
        if let Some(event) = self.pending.take() {
            self.counts.orphan_slots += 1 + u64::from(event.arg_count - 1) / ARGS_PER_CONT as u64;
        }
    }

    #[inline]
    fn start_event(&mut self, slot: Slot, point: Point, out: &mut impl FnMut(Event)) {
        self.flush(out);
        let Some(epoch) = self.epoch else {
            self.counts.undated_slots += 1;
            return;
        };
        let tsc = complete_stamp(slot.stamp48(), epoch);
        self.epoch = Some(tsc.raw());
        let mut args = [0; MAX_ARGS];
        args[0] = slot.word1 as u32;
        let event = Event {
            tsc,
            point,
            flow: Flow::from_raw((slot.word1 >> 32) as u32),
            args,
            arg_count: 1,
        };
        if point == points::LOST {
            self.counts.lost_slots = self.counts.lost_slots.saturating_add(slot.word1);
            out(event);
        } else {
            self.pending = Some(event);
        }
    }

    #[inline]
    fn continue_event(&mut self, slot: Slot) {
        match &mut self.pending {
            Some(event) if usize::from(event.arg_count) < MAX_ARGS => {
                let at = usize::from(event.arg_count);
                event.args[at..at + ARGS_PER_CONT].copy_from_slice(&slot.cont_args());
                event.arg_count += ARGS_PER_CONT as u8;
            }
            _ => self.counts.orphan_slots += 1,
        }
    }
}

/// The full stamp nearest to `reference` (within 2^47 ticks either way) whose low 48 bits are `stamp48`.
#[inline]
pub fn complete_stamp(stamp48: u64, reference: u64) -> Tsc {
    let half = 1u64 << (STAMP_BITS - 1);
    let distance = stamp48.wrapping_sub(reference) & STAMP_MASK;
    Tsc::from_raw(if distance < half {
        reference.wrapping_add(distance)
    } else {
        reference.wrapping_sub(STAMP_MASK + 1 - distance)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::points::{LOST, RX_BURST, TCP_IN, TCP_OUT};
    use proptest::prelude::*;

    fn decode(slots: &[Slot]) -> (Vec<Event>, DecodeCounts) {
        let mut events = Vec::new();
        let mut decoder = Decoder::new(None);
        for &slot in slots {
            decoder.push(slot, &mut |e| events.push(e));
        }
        decoder.flush(&mut |e| events.push(e));
        (events, decoder.counts())
    }

    /// Head and continuation slots come back as one event with all arguments.
    #[test]
    fn continued_event_is_whole() {
        let t = Tsc::from_raw(0x1234_5678_9abc_def0);
        let flow = Flow::from_raw(7);
        let (events, counts) = decode(&[
            Slot::epoch(t),
            Slot::head(t, TCP_OUT, flow, 1),
            Slot::cont(2, 3, 4),
            Slot::cont(5, 6, 7),
            Slot::head(Tsc::from_raw(t.raw() + 9), TCP_IN, flow, 8),
        ]);
        assert_eq!(events.len(), 2);
        assert_eq!(events[0].args[..7], [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(events[0].arg_count, 7);
        assert_eq!(events[0].tsc, t);
        assert_eq!(events[1].tsc.raw(), t.raw() + 9);
        assert_eq!(counts.events, 2);
    }

    /// A reader that starts in the middle counts what it cannot use and recovers at the next head.
    #[test]
    fn middle_start_is_counted() {
        let t = Tsc::from_raw(1 << 50);
        let (events, counts) = decode(&[
            Slot::cont(1, 2, 3),
            Slot::head(t, TCP_IN, Flow::NONE, 1),
            Slot::cont(1, 2, 3),
            Slot::epoch(t),
            Slot::head(t, RX_BURST, Flow::NONE, 2),
        ]);
        assert_eq!(events.len(), 1);
        assert_eq!((counts.orphan_slots, counts.undated_slots), (2, 1));
    }

    /// Loss is an event of its own and is summed; continuations right after it belong to nothing.
    #[test]
    fn loss_is_given_out() {
        let t = Tsc::from_raw(99);
        let (events, counts) = decode(&[
            Slot::epoch(t),
            Slot::head(t, TCP_IN, Flow::NONE, 1),
            Slot::lost(t, 1_000_000_000_000),
            Slot::cont(1, 2, 3),
        ]);
        assert_eq!(events.len(), 2);
        assert_eq!(events[1].point, LOST);
        assert_eq!(events[1].wide(), 1_000_000_000_000);
        assert_eq!(
            (counts.lost_slots, counts.orphan_slots),
            (1_000_000_000_000, 1)
        );
    }

    proptest! {
        /// Any stamp is completed from any reference less than 2^47 ticks away.
        #[test]
        fn stamps_complete(reference in (1u64 << 48)..(u64::MAX >> 1), delta in -(1i64 << 46)..(1i64 << 46)) {
            let full = reference.wrapping_add_signed(delta);
            prop_assert_eq!(complete_stamp(full & STAMP_MASK, reference).raw(), full);
        }

        /// No words make the decoder panic, and every slot is accounted for once.
        #[test]
        fn any_words_decode(words in proptest::collection::vec((any::<u64>(), any::<u64>()), 0..200)) {
            let slots: Vec<Slot> = words.iter().map(|&(word0, word1)| Slot { word0, word1 }).collect();
            let (events, counts) = decode(&slots);
            let lost = events.iter().filter(|e| e.point == LOST).count();
            prop_assert_eq!(events.len() - lost, counts.events as usize);
        }

        /// Block by block, wherever they are cut, slots of every kind give the events and counts that they give one by one.
        #[test]
        fn blocks_give_the_same(
            kinds in proptest::collection::vec((0u8..9, any::<u64>(), any::<u64>()), 0..200),
            dated in any::<bool>(),
            cut in 0usize..200,
        ) {
            let slot = |&(kind, word0, word1): &(u8, u64, u64)| {
                let point = match kind {
                    0..4 => points::CONT.id(),
                    4 => points::EPOCH.id(),
                    5 => LOST.id(),
                    6 => 0,
                    _ => word0 as u16,
                };
                Slot { word0: word0 & !0xffff | u64::from(point), word1 }
            };
            let slots: Vec<Slot> = kinds.iter().map(slot).collect();
            let base = dated.then(|| Tsc::from_raw(1 << 50));
            let (mut one, mut all) = (Decoder::new(base), Decoder::new(base));
            let (mut ones, mut events) = (Vec::new(), Vec::new());
            slots.iter().for_each(|&slot| one.push(slot, &mut |e| ones.push(e)));
            let (first, second) = slots.split_at(cut.min(slots.len()));
            for block in [first, second] {
                all.block(block, &mut |e| events.push(*e));
            }
            one.flush(&mut |e| ones.push(e));
            all.flush(&mut |e| events.push(e));
            prop_assert_eq!(ones, events);
            prop_assert_eq!(one.counts(), all.counts());
        }

        /// What is encoded is what is decoded, for every argument count.
        #[test]
        fn round_trip(stamp in any::<u64>(), id in 1u16..0xff00, flow in any::<u32>(), args in proptest::array::uniform10(any::<u32>()), conts in 0usize..=3) {
            let stamp = Tsc::from_raw(stamp);
            let mut slots = vec![Slot::epoch(stamp), Slot::head(stamp, Point::from_id(id), Flow::from_raw(flow), args[0])];
            slots.extend((0..conts).map(|i| Slot::cont(args[1 + 3 * i], args[2 + 3 * i], args[3 + 3 * i])));
            let (events, _) = decode(&slots);
            prop_assert_eq!(events.len(), 1);
            prop_assert_eq!(events[0].tsc, stamp);
            prop_assert_eq!(events[0].arg_count as usize, 1 + 3 * conts);
            prop_assert_eq!(&events[0].args[..1 + 3 * conts], &args[..1 + 3 * conts]);
        }
    }
}
