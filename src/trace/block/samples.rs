//! Blocks of samples.
//!
//! In: samples; out: a block, and the samples back, in memory that can be used again. Every field is a column of differences
//! from the sample before, addresses of stacks one column of all of them.

use super::numbers::{Bytes, Deltas, Undeltas, put, put_column};
use super::{BlockError, KIND_SAMPLES, MAX_BLOCK, MAX_FRAMES, MAX_GROUP, MAX_RAW};
use crate::trace::record::{Sample, StackEnd};
use crate::units::Nanos;

/// Frames of all samples of one block.
const MAX_BLOCK_FRAMES: usize = MAX_BLOCK * 16;

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Samples with so many addresses, members of the group and bytes of a tracepoint.
    fn samples() -> impl Strategy<Value = Vec<Sample>> {
        let sample = (0usize..5, 0usize..3, 0usize..4).prop_map(|(frames, group, raw)| Sample {
            frames: (0..frames as u64).map(|at| at << 40 | 7).collect(),
            kernel_frames: frames as u16 / 2,
            group: vec![3; group],
            raw: vec![9; raw],
            ..Sample::default()
        });
        prop::collection::vec(sample, 0..20)
    }

    proptest! {
        /// In the memory of other samples the same comes back, and nothing of these is left.
        #[test]
        fn memory_used_again(before in samples(), after in samples()) {
            let mut spare = before;
            spare.iter_mut().for_each(|sample| sample.stack_number = 5);
            let (mut block, mut back) = (Vec::new(), Vec::new());
            encode_samples(&after, &mut block);
            decode_samples(&block, &mut spare, &mut back).unwrap();
            prop_assert_eq!(back, after);
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
    }
}
