//! What a pass over a recording says of its requests.
//!
//! Lengths are in ns; tables follow [`STAGES`] and [`BEHIND`]. It refuses to know where the numbers come from.

use super::stages::{BEHIND, PARTS, STAGES};
use super::way::Way;
use crate::units::Nanos;
use hdrhistogram::Histogram;

/// How many requests, and of what kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Told from beginning to end and passed the filter: these are in the histograms.
    pub complete: u64,
    /// Of these, shared a segment with the one before.
    pub pipelined: u64,
    /// Of these, came in several segments.
    pub split: u64,
    /// Left out: events were lost on their way.
    pub torn: u64,
    /// Left out: still on their way at the end of the recording, or given up for want of room.
    pub unfinished: u64,
    /// Left out: nothing tells how they came in.
    pub headless: u64,
    /// Data segments of replies.
    pub segments: u64,
    /// Segments with nothing but an ACK.
    pub acks: u64,
    /// Segments that were sent again.
    pub retransmissions: u64,
    /// Packets that left a fast path.
    pub detours: u64,
    /// Times that a flow had something to send, or nothing acknowledged, and sent nothing for long.
    pub stalls: u64,
    /// Of the complete ones, were handled by another thread than the one that received them.
    pub crossed: u64,
    /// Transmit bursts by what made them leave: at once, full, timer, end of round.
    pub triggers: [u64; 4],
    /// Events that came too late to be put in their place.
    pub late: u64,
}

/// One request's stages, in ns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// The flow.
    pub flow: u32,
    /// When it began, from the recording's start.
    pub began: Nanos,
    /// Length of each of [`STAGES`] but the last; `None` where nothing tells.
    pub stages: [Option<u64>; PARTS],
    /// For each of [`BEHIND`], how long it was.
    pub behind: [u64; BEHIND.len()],
    /// Its whole length.
    pub total: u64,
    /// Thread that received, thread that handled, thread that sent.
    pub threads: [String; 3],
    /// Data segments of the reply, and ACKs on their own.
    pub segments: (u32, u32),
    /// The same in counter values, to look up what threads did meanwhile.
    pub way: Way,
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Spans {
    /// How many, of what kind.
    pub counts: Counts,
    /// For each of [`STAGES`], lengths in ns of those requests of which it is known.
    pub stages: Vec<Histogram<u64>>,
    /// For each of [`BEHIND`], the same of requests that waited so.
    pub behind: Vec<Histogram<u64>>,
    /// [`super::OUTSIDE`], of requests whose flow had one before; 0 for those that came in before it was over.
    pub outside: Histogram<u64>,
    /// Frames in non-empty receive bursts, and in transmit bursts.
    pub bursts: [Histogram<u64>; 2],
    /// The slowest requests, slowest first.
    pub slowest: Vec<Timeline>,
    /// Requests by when they began, if edges were asked for ([`super::Pass::sliced`]).
    pub slices: Vec<Slice>,
    /// For each stage, ns for which its thread was kept from running, all requests together; 0 if nobody asked.
    pub preempted: [f64; PARTS],
    /// How far to trust it: what was recorded of events. Nothing here rests on samples.
    pub trust: EventTrust,
}

/// Requests that began in a part of the recording's time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slice {
    /// How many.
    pub requests: f64,
    /// Sum of the lengths of each of [`STAGES`] in ns.
    pub sums: [f64; STAGES.len()],
    /// How many had the stage.
    pub counts: [f64; STAGES.len()],
    /// Of the sums, ns for which the stage's thread was kept from running.
    pub preempted: [f64; PARTS],
}

/// What was recorded of events and what is missing. `None` is "not known".
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventTrust {
    /// Rings with events.
    pub rings: usize,
    /// Events read.
    pub events: u64,
    /// Slots that did not fit into rings, or were overwritten before they were read.
    pub dropped: u64,
    /// Rings that the recorder could not reach.
    pub unreached: u64,
    /// How far apart the two clocks may be.
    pub clock_error_ns: Option<u64>,
    /// CPU time of the recorder for each second of recording, in CPUs.
    pub observer_share: Option<f64>,
    /// What is wrong with the file, if it was cut short or damaged.
    pub damage: Option<String>,
    /// Which part of the recording all this is of; `None` is all of it.
    pub filtered: Option<String>,
}

impl Spans {
    /// Which part of the time of flows lies between their requests; `None` where no flow had two.
    pub fn outside_share(&self) -> Option<f64> {
        let total = self.stages.last().filter(|_| !self.outside.is_empty())?;
        let between = self.outside.mean();
        Some(between / (between + total.mean()).max(f64::MIN_POSITIVE))
    }

    /// From which length on a request is among the slowest `share` of all; `None` without requests.
    pub fn slowest_from(&self, share: f64) -> Option<Nanos> {
        slowest_from(self.stages.last()?, share)
    }
}

/// From which of these lengths on one is among the slowest `share`; `None` if there are none.
pub fn slowest_from(lengths: &Histogram<u64>, share: f64) -> Option<Nanos> {
    if lengths.is_empty() {
        return None;
    }
    let least = lengths.value_at_quantile(1.0 - share);
    Some(Nanos::from_ns(lengths.lowest_equivalent(least)))
}
