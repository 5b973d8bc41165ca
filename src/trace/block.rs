//! Blocks of many records as columns of small differences: what the compressor sees instead of plain structures.
//!
//! In: records; out: bytes, and records back from untrusted bytes. A block is `kind, count, columns`, each column with
//! its length in front; numbers are LEB128, signed ones zigzag. Ring slots predict every field from the last one like
//! it: stamps from the stamp before, flows from a table of recent ones, arguments from the same point's last. It
//! refuses to know files, compression and clocks. Decoding allocates at most what [`MAX_BLOCK`] records need.

use super::format::MAX_BLOCK;
use super::record::{Sample, StackEnd, Switch, SwitchKind};
use crate::units::Nanos;
use bypassprof_wire::{Slot, points};

/// First byte of a block of slots.
pub(super) const KIND_SLOTS: u8 = 1;
/// First byte of a block of samples.
pub(super) const KIND_SAMPLES: u8 = 2;
/// First byte of a block of switches.
pub(super) const KIND_SWITCHES: u8 = 3;
/// Deepest stack that a sample may carry.
pub const MAX_FRAMES: usize = 1024;
/// Most group values that a sample may carry.
pub const MAX_GROUP: usize = 64;
/// Most bytes that a sample's tracepoint may carry: the kernel's own limit.
pub const MAX_RAW: usize = 8192;
/// Frames of all samples of one block.
const MAX_BLOCK_FRAMES: usize = MAX_BLOCK * 16;

/// A block that is not what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// It ends inside a number or a column.
    #[error("the block is cut short")]
    Short,
    /// It is of another kind than its channel.
    #[error("the block is of kind {0}, which does not belong here")]
    Kind(u8),
    /// A number is larger than its field or the bound allows.
    #[error("a {0} in the block is out of range")]
    Range(&'static str),
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn zigzag(value: u64) -> u64 {
    (value << 1) ^ ((value as i64 >> 63) as u64)
}

fn unzigzag(value: u64) -> u64 {
    (value >> 1) ^ (value & 1).wrapping_neg()
}

fn put_column(out: &mut Vec<u8>, column: &[u8]) {
    put(out, column.len() as u64);
    out.extend_from_slice(column);
}

/// Bytes that are read from the front.
#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn byte(&mut self) -> Result<u8, BlockError> {
        let (&first, rest) = self.0.split_first().ok_or(BlockError::Short)?;
        self.0 = rest;
        Ok(first)
    }

    /// Most are a byte long, most others two.
    #[inline(always)]
    fn number(&mut self) -> Result<u64, BlockError> {
        match self.0 {
            [first, rest @ ..] if *first < 0x80 => {
                self.0 = rest;
                Ok(u64::from(*first))
            }
            [first, second, rest @ ..] if *second < 0x80 => {
                self.0 = rest;
                Ok(u64::from(*first & 0x7f) | u64::from(*second) << 7)
            }
            _ => self.eight_bytes(),
        }
    }

    /// A number of up to eight bytes, all of them at once.
    #[inline]
    fn eight_bytes(&mut self) -> Result<u64, BlockError> {
        let Some((&bytes, _)) = self.0.split_first_chunk() else {
            return self.long_number();
        };
        let bytes = u64::from_le_bytes(bytes);
        let ends = !bytes & 0x8080_8080_8080_8080;
        if ends == 0 {
            return self.long_number();
        }
        // The groups of seven bits up to the first byte that ends, moved together by pairs, fours and eights.
        let sevens = bytes & (ends ^ (ends - 1)) & 0x7f7f_7f7f_7f7f_7f7f;
        let pairs = (sevens & 0x007f_007f_007f_007f) | (sevens & 0x7f00_7f00_7f00_7f00) >> 1;
        let fours = (pairs & 0x0000_3fff_0000_3fff) | (pairs & 0x3fff_0000_3fff_0000) >> 2;
        let value = (fours & 0x0fff_ffff) | (fours & 0x0fff_ffff_0000_0000) >> 4;
        self.0 = &self.0[ends.trailing_zeros() as usize / 8 + 1..];
        Ok(value)
    }

    fn long_number(&mut self) -> Result<u64, BlockError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(BlockError::Range("number"))
    }

    fn bounded<T: TryFrom<u64>>(&mut self, what: &'static str) -> Result<T, BlockError> {
        T::try_from(self.number()?).map_err(|_| BlockError::Range(what))
    }

    fn column(&mut self) -> Result<Bytes<'a>, BlockError> {
        let len: usize = self.bounded("column length")?;
        let (column, rest) = self.0.split_at_checked(len).ok_or(BlockError::Short)?;
        self.0 = rest;
        Ok(Bytes(column))
    }

    fn count(&mut self) -> Result<usize, BlockError> {
        let count = self.bounded("count")?;
        if count > MAX_BLOCK {
            return Err(BlockError::Range("count"));
        }
        Ok(count)
    }

    fn kind(&mut self, want: u8) -> Result<(), BlockError> {
        match self.byte()? {
            kind if kind == want => Ok(()),
            kind => Err(BlockError::Kind(kind)),
        }
    }
}

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

/// A column of numbers, each kept as its difference from the one before.
#[derive(Default)]
struct Deltas {
    bytes: Vec<u8>,
    last: u64,
}

impl Deltas {
    fn push(&mut self, value: u64) {
        put(&mut self.bytes, zigzag(value.wrapping_sub(self.last)));
        self.last = value;
    }
}

/// The other side of [`Deltas`].
struct Undeltas<'a> {
    bytes: Bytes<'a>,
    last: u64,
}

impl<'a> Undeltas<'a> {
    fn new(bytes: &mut Bytes<'a>) -> Result<Self, BlockError> {
        Ok(Undeltas {
            bytes: bytes.column()?,
            last: 0,
        })
    }

    #[inline]
    fn next(&mut self) -> Result<u64, BlockError> {
        self.last = self.last.wrapping_add(unzigzag(self.bytes.number()?));
        Ok(self.last)
    }

    /// Appends the next `count` numbers, most of which are longer than a byte.
    fn extend(&mut self, count: usize, out: &mut Vec<u64>) -> Result<(), BlockError> {
        let (mut bytes, mut last) = (self.bytes, self.last);
        out.reserve(count);
        for _ in 0..count {
            last = last.wrapping_add(unzigzag(bytes.eight_bytes()?));
            out.push(last);
        }
        (self.bytes, self.last) = (bytes, last);
        Ok(())
    }

    fn bounded<T: TryFrom<u64>>(&mut self, what: &'static str) -> Result<T, BlockError> {
        T::try_from(self.next()?).map_err(|_| BlockError::Range(what))
    }
}

/// Appends one block of at most [`MAX_BLOCK`] samples; frames beyond [`MAX_FRAMES`] are cut and the stack marked so. What
/// tracepoints recorded follows in two columns of its own if there is any: readers of version 1.0 pass over them.
pub fn encode_samples(samples: &[Sample], out: &mut Vec<u8>) {
    let samples = &samples[..samples.len().min(MAX_BLOCK)];
    let mut columns: [Deltas; 11] = Default::default();
    let [
        time,
        pid,
        tid,
        cpu,
        event,
        period,
        kernel,
        shape,
        depth,
        frames,
        group,
    ] = &mut columns;
    for sample in samples {
        time.push(sample.time.ns());
        pid.push(u64::from(sample.pid));
        tid.push(u64::from(sample.tid));
        cpu.push(u64::from(sample.cpu));
        event.push(u64::from(sample.event));
        period.push(sample.period);
        let kept = sample.frames.len().min(MAX_FRAMES);
        let end = if kept < sample.frames.len() {
            StackEnd::Truncated
        } else {
            sample.stack
        };
        kernel.push(u64::from(sample.kernel_frames));
        let values = sample.group.len().min(MAX_GROUP);
        shape.push((values as u64) << 2 | end as u64);
        depth.push(kept as u64);
        for &frame in &sample.frames[..kept] {
            frames.push(frame);
        }
        for &value in &sample.group[..values] {
            group.push(value);
        }
    }
    out.push(KIND_SAMPLES);
    put(out, samples.len() as u64);
    for column in &columns {
        put_column(out, &column.bytes);
    }
    if samples.iter().any(|s| !s.raw.is_empty()) {
        let kept = |s: &Sample| s.raw.len().min(MAX_RAW);
        let mut lengths = Deltas::default();
        samples.iter().for_each(|s| lengths.push(kept(s) as u64));
        put_column(out, &lengths.bytes);
        put(out, samples.iter().map(|s| kept(s) as u64).sum());
        for sample in samples {
            out.extend_from_slice(&sample.raw[..kept(sample)]);
        }
    }
}

/// How many records a sample or switch block says it holds.
pub fn peek_count(block: &[u8]) -> Result<usize, BlockError> {
    let mut bytes = Bytes(block);
    bytes.byte()?;
    bytes.count()
}

/// Reads a block of samples. Their memory is that of `spare` samples, as far as there are any.
pub fn decode_samples(
    block: &[u8],
    spare: &mut Vec<Sample>,
    out: &mut Vec<Sample>,
) -> Result<(), BlockError> {
    let mut bytes = Bytes(block);
    bytes.kind(KIND_SAMPLES)?;
    let count = bytes.count()?;
    let mut column = || Undeltas::new(&mut bytes);
    let (mut time, mut pid, mut tid, mut cpu) = (column()?, column()?, column()?, column()?);
    let (mut event, mut period, mut kernel) = (column()?, column()?, column()?);
    let (mut shape, mut depth, mut frames, mut group) =
        (column()?, column()?, column()?, column()?);
    let mut raw = match bytes.0 {
        [] => None,
        _ => Some((Undeltas::new(&mut bytes)?, bytes.column()?)),
    };
    let mut total_frames = 0;
    out.clear();
    for _ in 0..count {
        let used = spare.pop().unwrap_or_default();
        let shape = shape.next()?;
        let mut sample = Sample {
            time: Nanos::from_ns(time.next()?),
            pid: pid.bounded("pid")?,
            tid: tid.bounded("tid")?,
            cpu: cpu.bounded("cpu")?,
            event: event.bounded("event number")?,
            period: period.next()?,
            stack_number: 0,
            kernel_frames: kernel.bounded("frame count")?,
            stack: match shape & 3 {
                0 => StackEnd::Whole,
                1 => StackEnd::Truncated,
                2 => StackEnd::Broken,
                _ => StackEnd::KernelOnly,
            },
            ..used
        };
        sample.frames.clear();
        sample.group.clear();
        sample.raw.clear();
        let depth: usize = depth.bounded("stack depth")?;
        total_frames += depth.min(MAX_BLOCK_FRAMES);
        if depth > MAX_FRAMES || total_frames > MAX_BLOCK_FRAMES {
            return Err(BlockError::Range("stack depth"));
        }
        frames.extend(depth, &mut sample.frames)?;
        // A stack cut when it was written may have lost some of its kernel frames.
        sample.kernel_frames = sample.kernel_frames.min(depth as u16);
        let values = (shape >> 2) as usize;
        if values > MAX_GROUP {
            return Err(BlockError::Range("group size"));
        }
        for _ in 0..values {
            sample.group.push(group.next()?);
        }
        if let Some((lengths, records)) = &mut raw {
            let len: usize = lengths.bounded("record length")?;
            let (record, rest) = records.0.split_at_checked(len).ok_or(BlockError::Short)?;
            sample.raw.extend_from_slice(record);
            records.0 = rest;
        }
        out.push(sample);
    }
    Ok(())
}

/// Appends one block of at most [`MAX_BLOCK`] switches.
pub fn encode_switches(switches: &[Switch], out: &mut Vec<u8>) {
    let switches = &switches[..switches.len().min(MAX_BLOCK)];
    let mut columns: [Deltas; 5] = Default::default();
    let [time, pid, tid, cpu, kind] = &mut columns;
    for switch in switches {
        time.push(switch.time.ns());
        pid.push(u64::from(switch.pid));
        tid.push(u64::from(switch.tid));
        cpu.push(u64::from(switch.cpu));
        kind.push(switch.kind as u64);
    }
    out.push(KIND_SWITCHES);
    put(out, switches.len() as u64);
    for column in &columns {
        put_column(out, &column.bytes);
    }
}

/// Reads a block of switches.
pub fn decode_switches(block: &[u8], out: &mut Vec<Switch>) -> Result<(), BlockError> {
    let mut bytes = Bytes(block);
    bytes.kind(KIND_SWITCHES)?;
    let count = bytes.count()?;
    let mut column = || Undeltas::new(&mut bytes);
    let (mut time, mut pid, mut tid, mut cpu, mut kind) =
        (column()?, column()?, column()?, column()?, column()?);
    out.clear();
    for _ in 0..count {
        out.push(Switch {
            time: Nanos::from_ns(time.next()?),
            pid: pid.bounded("pid")?,
            tid: tid.bounded("tid")?,
            cpu: cpu.bounded("cpu")?,
            kind: match kind.next()? {
                0 => SwitchKind::In,
                1 => SwitchKind::OutWaiting,
                2 => SwitchKind::OutPreempted,
                _ => return Err(BlockError::Range("switch kind")),
            },
        });
    }
    Ok(())
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
        /// A number is the same however many bytes lie behind it, and however many it is written with.
        #[test]
        fn numbers(value: u64, bits in 0u32..=64, longer in 0usize..3, behind in prop::collection::vec(any::<u8>(), 0..9)) {
            let value = value.checked_shr(bits).unwrap_or(0);
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            let longer = longer.min(10 - bytes.len());
            if longer > 0 {
                *bytes.last_mut().unwrap() |= 0x80;
                bytes.extend(std::iter::repeat_n(0x80, longer - 1).chain([0]));
            }
            bytes.extend(&behind);
            let mut left = Bytes(&bytes);
            prop_assert_eq!(left.number(), Ok(value));
            prop_assert_eq!(left.0, &behind[..]);
        }

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

        /// What tracepoints recorded comes back with its samples, cut at what a sample may carry, and costs nothing where
        /// there is none.
        #[test]
        fn raw_round_trip(lengths in prop::collection::vec(0usize..40, 1..20), long: bool) {
            let raw = |(at, &len): (usize, &usize)| {
                let len = if long && at == 0 { MAX_RAW + 1 } else { len };
                Sample { tid: at as u32, raw: vec![at as u8; len], ..Sample::default() }
            };
            let mut samples: Vec<Sample> = lengths.iter().enumerate().map(raw).collect();
            let (mut block, mut back) = (Vec::new(), Vec::new());
            encode_samples(&samples, &mut block);
            decode_samples(&block, &mut Vec::new(), &mut back).unwrap();
            samples[0].raw.truncate(MAX_RAW);
            prop_assert_eq!(&back, &samples);
            // The last byte is the last record's, unless there is no record.
            if samples.iter().any(|s| !s.raw.is_empty()) {
                prop_assert!(decode_samples(&block[..block.len() - 1], &mut Vec::new(), &mut back).is_err());
            }
            samples.iter_mut().for_each(|s| s.raw.clear());
            let mut without = Vec::new();
            encode_samples(&samples, &mut without);
            prop_assert!(block.starts_with(&without));
        }

        /// Random bytes never panic and never make more records than the bound.
        #[test]
        fn random_bytes(kind in 0u8..5, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let block: Vec<u8> = std::iter::once(kind).chain(bytes).collect();
            let (mut slots, mut samples, mut switches) = (Vec::new(), Vec::new(), Vec::new());
            let outcomes = [
                decode_slots(&block, &mut slots).is_ok(),
                decode_samples(&block, &mut Vec::new(), &mut samples).is_ok(),
                decode_switches(&block, &mut switches).is_ok(),
            ];
            prop_assert!(outcomes.iter().filter(|&&ok| ok).count() <= 1);
            prop_assert!(slots.len() + samples.len() + switches.len() <= MAX_BLOCK);
        }
    }
}
