//! Flows of the frames that were looked at: whose traffic a program's ports carry, and on which queues it comes and goes.
//!
//! In: each ring's events of bursts and frames, and the queues that bursts name; out: a row for each flow. Where only some
//! bursts were looked at (`--per-packet=N`) these are shares of the traffic, not all of it. Of flows beyond the bound only
//! frames are counted.

use crate::trace::record::{Pid, Queue, Ring};
use bypassprof_wire::{Decoder, Event, Slot, Tsc, points};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

/// Most flows with a row of their own.
const MOST: usize = 1 << 16;
/// TCP's flags.
const FIN: u32 = 1;
const SYN: u32 = 2;
const RST: u32 = 4;
/// An age that is not known.
const NO_AGE: u32 = u32::MAX;
/// The queue of a burst whose number found no room in its event.
const LATER_QUEUE: u32 = 255;

/// A flow's frames, as far as they were looked at.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FlowRow {
    /// Its label, as other commands print it; `None` for frames that have none.
    pub flow: Option<String>,
    /// Frames received.
    pub frames_in: u64,
    /// Frames sent.
    pub frames_out: u64,
    /// Their bytes.
    pub bytes: u64,
    /// TCP segments that open a connection.
    pub syn: u64,
    /// Those that close one.
    pub fin: u64,
    /// Those that reset one.
    pub rst: u64,
    /// Mean age of frames that had a stamp, in nanoseconds.
    pub mean_age_ns: Option<f64>,
    /// Where frames came and went: port, direction and queue.
    pub queues: BTreeSet<String>,
}

/// All flows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Flows {
    /// Those with most frames first.
    pub rows: Vec<FlowRow>,
    /// Frames of flows that found no room.
    pub further_frames: u64,
}

#[derive(Default)]
struct Sum {
    row: FlowRow,
    ages: u64,
    age_ns: u64,
}

/// Flows while rings are read.
pub struct Looking {
    names: HashMap<(Pid, u32), String>,
    sums: BTreeMap<u32, Sum>,
    further: u64,
    /// Counter values of the time that counts.
    time: Range<u64>,
}

impl Looking {
    /// Bursts name these queues; frames count whose stamps lie in this time.
    pub fn new(counted: &[Queue], time: Range<u64>) -> Looking {
        let name = |q: &Queue| {
            let direction = if q.receives { "rx" } else { "tx" };
            let queue = q.queue.map_or_else(|| "?".to_owned(), |n| n.to_string());
            ((q.pid, q.number), format!("{}:{direction}{queue}", q.port))
        };
        Looking {
            names: counted.iter().map(name).collect(),
            sums: BTreeMap::new(),
            further: 0,
            time,
        }
    }

    /// Reads a ring to its end.
    pub fn ring(&mut self, ring: &Ring, slots: impl Iterator<Item = Slot>) {
        let base = (ring.base_tsc > 0).then(|| Tsc::from_raw(ring.base_tsc));
        let (mut decoder, mut queue) = (Decoder::new(base), LATER_QUEUE);
        let mut take = |event: Event| match event.point {
            points::RX_BURST | points::TX_BURST => queue = event.flow.raw() >> 24,
            points::FRAME_IN | points::FRAME_OUT if self.time.contains(&event.tsc.raw()) => {
                self.frame(ring.pid, queue, &event);
            }
            points::LOST => queue = LATER_QUEUE,
            _ => {}
        };
        for slot in slots {
            decoder.push(slot, &mut take);
        }
        decoder.flush(&mut take);
    }

    fn frame(&mut self, pid: Pid, queue: u32, event: &Event) {
        let label = event.flow.raw();
        if self.sums.len() >= MOST && !self.sums.contains_key(&label) {
            self.further += 1;
            return;
        }
        let sum = self.sums.entry(label).or_default();
        let row = &mut sum.row;
        let (flags, bytes, age) = (
            event.args[1] >> 24,
            event.args[1] & 0xff_ffff,
            event.args[3],
        );
        if event.point == points::FRAME_IN {
            row.frames_in += 1;
        } else {
            row.frames_out += 1;
        }
        row.bytes += u64::from(bytes);
        row.syn += u64::from(flags & SYN > 0);
        row.fin += u64::from(flags & FIN > 0);
        row.rst += u64::from(flags & RST > 0);
        if age != NO_AGE {
            sum.ages += 1;
            sum.age_ns += u64::from(age);
        }
        if queue != LATER_QUEUE
            && let Some(name) = self.names.get(&(pid, queue))
            && !row.queues.contains(name)
        {
            row.queues.insert(name.clone());
        }
    }

    /// What was found.
    pub fn finish(self) -> Flows {
        let told = |(label, mut sum): (u32, Sum)| {
            sum.row.flow = (label > 0).then(|| format!("{label:08x}"));
            sum.row.mean_age_ns = (sum.ages > 0).then(|| sum.age_ns as f64 / sum.ages as f64);
            sum.row
        };
        let mut rows: Vec<_> = self.sums.into_iter().map(told).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.frames_in + row.frames_out));
        Flows {
            rows,
            further_frames: self.further,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bypassprof_wire::{Flow, Point};

    fn frame(at: u64, point: Point, flow: u32, flags: u32, bytes: u32, age: u32) -> [Slot; 2] {
        [
            Slot::head(Tsc::from_raw(at), point, Flow::from_raw(flow), 0),
            Slot::cont(flags << 24 | bytes, 7, age),
        ]
    }

    fn burst(at: u64, point: Point, queue: u32) -> Slot {
        let field = Flow::from_raw(queue << 24 | 32 << 12 | 2);
        Slot::head(Tsc::from_raw(at), point, field, 0)
    }

    /// Frames are told by flow, with the queues of the bursts that they came in; after a loss the queue is not guessed.
    #[test]
    fn frames_by_flow() {
        let queue = |number, receives| Queue {
            pid: 1,
            number,
            port: 3,
            queue: Some(number as u16),
            receives,
            ..Queue::default()
        };
        let mut looking = Looking::new(&[queue(0, true), queue(1, false)], 10..31);
        let mut slots = vec![
            Slot::epoch(Tsc::from_raw(5)),
            burst(10, points::RX_BURST, 0),
        ];
        slots.extend(frame(10, points::FRAME_IN, 9, SYN, 60, 100));
        slots.extend(frame(10, points::FRAME_IN, 9, 16, 1500, NO_AGE));
        slots.push(burst(20, points::TX_BURST, 1));
        slots.extend(frame(20, points::FRAME_OUT, 9, FIN | 16, 60, 300));
        slots.extend(frame(20, points::FRAME_OUT, 0, 0, 42, NO_AGE));
        slots.push(Slot::lost(Tsc::from_raw(25), 7));
        slots.extend(frame(30, points::FRAME_IN, 4, RST, 60, NO_AGE));
        slots.extend(frame(31, points::FRAME_IN, 4, RST, 60, NO_AGE));
        let ring = Ring {
            pid: 1,
            ..Ring::default()
        };
        looking.ring(&ring, slots.into_iter());
        let found = looking.finish();
        let [nine, none, four] = &found.rows[..] else {
            panic!("{found:?}")
        };
        assert_eq!((nine.frames_in, nine.frames_out, nine.bytes), (2, 1, 1620));
        assert_eq!((nine.syn, nine.fin, nine.rst), (1, 1, 0));
        assert_eq!(nine.flow.as_deref(), Some("00000009"));
        assert_eq!(nine.mean_age_ns, Some(200.0));
        let queues: Vec<_> = nine.queues.iter().map(String::as_str).collect();
        assert_eq!(queues, ["3:rx0", "3:tx1"]);
        assert_eq!((none.flow.as_deref(), none.frames_out), (None, 1));
        assert!(four.queues.is_empty() && four.rst == 1);
        assert_eq!(found.further_frames, 0);
    }
}
