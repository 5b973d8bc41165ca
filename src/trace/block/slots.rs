//! Blocks of ring slots.
//!
//! In: a ring's slots; out: a block, and the slots back. Every field is predicted from the last one like it: stamps from the
//! stamp before, flows from a table of recent ones, arguments from the same point's last.

use super::numbers::{Bytes, put, put_column, unzigzag, zigzag};
use super::{BlockError, KIND_SLOTS, MAX_BLOCK};
use bypassprof_wire::{Slot, points};

/// Where a block of slots belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotHeader {
    /// The ring's number.
    pub ring: u32,
    /// Position of the first slot.
    pub first: u64,
    /// How many there are.
    pub count: usize,
}

const FLOW_TABLE: usize = 128;
const FLOW_LITERAL: u8 = 0xff;

/// What the next slot is predicted from; both sides keep the same one.
struct SlotModel {
    stamp: u64,
    flows: [u32; FLOW_TABLE],
    /// Last argument of points with the same low byte.
    args: [u32; 256],
    /// Last words of continuation slots by point and place.
    conts: [(u64, u64); 256],
    point: u16,
    place: u8,
}

impl SlotModel {
    fn new() -> Self {
        SlotModel {
            stamp: 0,
            flows: [0; FLOW_TABLE],
            args: [0; 256],
            conts: [(0, 0); 256],
            point: 0,
            place: 0,
        }
    }

    /// The continuation entry for the slot that follows.
    fn cont(&mut self) -> &mut (u64, u64) {
        let at = (self.point as u8).wrapping_add(self.place.wrapping_mul(85));
        self.place = self.place.wrapping_add(1);
        &mut self.conts[usize::from(at)]
    }

    fn head(&mut self, point: u16) {
        self.point = point;
        self.place = 0;
    }
}

fn flow_place(flow: u32) -> usize {
    (flow ^ (flow >> 16)) as usize % FLOW_TABLE
}

/// Codes slots again and again without allocating each time.
#[derive(Default)]
pub struct SlotEncoder {
    low: Vec<u8>,
    high: Vec<u8>,
    stamps: Vec<u8>,
    flows: Vec<u8>,
    literals: Vec<u8>,
    args: Vec<u8>,
    conts: Vec<u8>,
}

impl SlotEncoder {
    /// Appends one block of at most [`MAX_BLOCK`] slots to `out`.
    pub fn encode(&mut self, ring: u32, first: u64, slots: &[Slot], out: &mut Vec<u8>) {
        let slots = &slots[..slots.len().min(MAX_BLOCK)];
        let columns = [
            &mut self.low,
            &mut self.high,
            &mut self.stamps,
            &mut self.flows,
            &mut self.literals,
            &mut self.args,
            &mut self.conts,
        ];
        for column in columns {
            column.clear();
            column.reserve(slots.len());
        }
        let mut model = SlotModel::new();
        for slot in slots {
            let point = slot.word0 as u16;
            self.low.push(point as u8);
            self.high.push((point >> 8) as u8);
            let upper = slot.word0 >> 16;
            if point == points::CONT.id() {
                // The argument below, the spare bits above, so that small arguments stay small numbers.
                let word0 = (upper >> 16) | ((upper & 0xffff) << 32);
                let last = model.cont();
                put(&mut self.conts, zigzag(word0.wrapping_sub(last.0)));
                let (high, low) = ((slot.word1 >> 32) as u32, slot.word1 as u32);
                let high_change = high.wrapping_sub((last.1 >> 32) as u32) as i32;
                let low_change = low.wrapping_sub(last.1 as u32) as i32;
                put(&mut self.conts, zigzag(i64::from(high_change) as u64));
                put(&mut self.conts, zigzag(i64::from(low_change) as u64));
                *last = (word0, slot.word1);
                continue;
            }
            model.head(point);
            put(&mut self.stamps, zigzag(upper.wrapping_sub(model.stamp)));
            model.stamp = upper;
            let flow = (slot.word1 >> 32) as u32;
            let place = flow_place(flow);
            if model.flows[place] == flow {
                self.flows.push(place as u8);
            } else {
                self.flows.push(FLOW_LITERAL);
                self.literals.extend_from_slice(&flow.to_le_bytes());
                model.flows[place] = flow;
            }
            let arg = slot.word1 as u32;
            let last = &mut model.args[usize::from(point as u8)];
            put(
                &mut self.args,
                zigzag(i64::from(arg.wrapping_sub(*last) as i32) as u64),
            );
            *last = arg;
        }
        out.push(KIND_SLOTS);
        put(out, u64::from(ring));
        put(out, first);
        put(out, slots.len() as u64);
        for column in [
            &self.low,
            &self.high,
            &self.stamps,
            &self.flows,
            &self.literals,
            &self.args,
            &self.conts,
        ] {
            put_column(out, column);
        }
    }
}

fn slot_header(bytes: &mut Bytes<'_>) -> Result<SlotHeader, BlockError> {
    bytes.kind(KIND_SLOTS)?;
    Ok(SlotHeader {
        ring: bytes.bounded("ring number")?,
        first: bytes.number()?,
        count: bytes.count()?,
    })
}

/// Reads only where a slot block belongs.
pub fn peek_slots(block: &[u8]) -> Result<SlotHeader, BlockError> {
    slot_header(&mut Bytes(block))
}

/// Reads a block of slots.
pub fn decode_slots(block: &[u8], out: &mut Vec<Slot>) -> Result<SlotHeader, BlockError> {
    let mut bytes = Bytes(block);
    let header = slot_header(&mut bytes)?;
    let [
        low,
        high,
        mut stamps,
        mut flows,
        mut literals,
        mut args,
        mut conts,
    ] = {
        let mut column = || bytes.column();
        [
            column()?,
            column()?,
            column()?,
            column()?,
            column()?,
            column()?,
            column()?,
        ]
    };
    let mut model = SlotModel::new();
    // Every slot has a byte of its own in these two.
    let points = low.0.get(..header.count).zip(high.0.get(..header.count));
    let (low, high) = points.ok_or(BlockError::Short)?;
    // All are written again: what was there before does not matter.
    out.resize(header.count, Slot::default());
    for ((slot, low), high) in out.iter_mut().zip(low).zip(high) {
        let point = u16::from(*low) | u16::from(*high) << 8;
        if point == points::CONT.id() {
            let changes = [conts.number()?, conts.number()?, conts.number()?].map(unzigzag);
            let last = model.cont();
            let word0 = last.0.wrapping_add(changes[0]);
            if word0 >> 48 != 0 {
                return Err(BlockError::Range("continuation"));
            }
            let high = ((last.1 >> 32) as u32).wrapping_add(changes[1] as u32);
            let low = (last.1 as u32).wrapping_add(changes[2] as u32);
            let word1 = u64::from(high) << 32 | u64::from(low);
            *last = (word0, word1);
            let upper = (word0 & 0xffff_ffff) << 16 | word0 >> 32;
            *slot = Slot {
                word0: upper << 16 | u64::from(point),
                word1,
            };
            continue;
        }
        model.head(point);
        let stamp = model.stamp.wrapping_add(unzigzag(stamps.number()?));
        if stamp >> 48 != 0 {
            return Err(BlockError::Range("stamp"));
        }
        model.stamp = stamp;
        let flow = match flows.byte()? {
            FLOW_LITERAL => {
                let mut raw = [0; 4];
                for byte in &mut raw {
                    *byte = literals.byte()?;
                }
                let flow = u32::from_le_bytes(raw);
                model.flows[flow_place(flow)] = flow;
                flow
            }
            place => *model
                .flows
                .get(usize::from(place))
                .ok_or(BlockError::Range("flow"))?,
        };
        let last = &mut model.args[usize::from(point as u8)];
        *last = last.wrapping_add(unzigzag(args.number()?) as u32);
        *slot = Slot {
            word0: stamp << 16 | u64::from(point),
            word1: u64::from(flow) << 32 | u64::from(*last),
        };
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slots() -> impl Strategy<Value = Vec<Slot>> {
        let slot =
            (any::<u64>(), any::<u64>(), 0u8..4).prop_map(|(word0, word1, kind)| match kind {
                0 => Slot { word0, word1 },
                1 => Slot {
                    word0: word0 | 0xffff,
                    word1,
                },
                2 => Slot {
                    word0: word0 & 0xffff_ff03,
                    word1: word1 & 0x3_0000_00ff,
                },
                _ => Slot {
                    word0: (word0 & 0xffff_ffff_0000) | 0xffff,
                    word1: word1 & 0xff_0000_00ff,
                },
            });
        prop::collection::vec(slot, 0..200)
    }

    proptest! {
        /// Any slots come back as they were, hostile ones too.
        #[test]
        fn slots_round_trip(ring: u32, first: u64, slots in slots()) {
            let mut block = Vec::new();
            SlotEncoder::default().encode(ring, first, &slots, &mut block);
            let mut back = Vec::new();
            let header = decode_slots(&block, &mut back).unwrap();
            prop_assert_eq!(header, SlotHeader { ring, first, count: slots.len() });
            prop_assert_eq!(&back, &slots);
            // Cut anywhere, it is an error and never a panic.
            for len in 0..block.len() {
                prop_assert!(decode_slots(&block[..len], &mut back).is_err());
            }
        }
    }
}
