//! The things that happen on a tape.
//!
//! Threads are places in the profile's list of them, stacks and frames the numbers they have there; times are since the
//! recording's start. It refuses to know where things come from and in which order.

use crate::analyse::pollstate::PollState;
use crate::analyse::spans::PARTS;
use crate::analyse::stacks::{FrameId, NodeId};
use crate::units::Nanos;
use bypassprof_wire::Event;

/// One thing that happened. Times are since the recording's start; threads are places in [`Profile::threads`](crate::analyse::Profile::threads).
#[derive(Clone, Debug)]
pub enum Moment<'a> {
    /// A sample was taken.
    Sample(&'a Sampled),
    /// A thread entered a CPU, or left it.
    Running {
        /// Its thread.
        thread: usize,
        /// When.
        time: Nanos,
        /// Which CPU, and what it does from here on; `None` where a stretch of time ends that counts.
        running: Option<(u32, Running)>,
    },
    /// A polling loop is in another state from here on.
    State {
        /// Its thread.
        thread: usize,
        /// From when on.
        time: Nanos,
        /// The state; `None` where a stretch of time ends that counts.
        state: Option<PollState>,
    },
    /// A probe wrote an event.
    Event {
        /// Its thread.
        thread: usize,
        /// When.
        time: Nanos,
        /// Its point's name.
        point: &'a str,
        /// The whole of it.
        event: &'a Event,
    },
    /// A request is over.
    Request(&'a Request),
}

/// What a switch left a thread doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Running {
    /// It runs.
    On,
    /// It waits for something.
    Waiting,
    /// It could run, and does not.
    Preempted,
}

/// A sample of the profile's event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sampled {
    /// Its thread.
    pub thread: usize,
    /// When.
    pub time: Nanos,
    /// On which CPU.
    pub cpu: u32,
    /// Its stack.
    pub node: NodeId,
    /// What it stands for.
    pub period: u64,
    /// Which of the session's events.
    pub event: u16,
    /// What a tracepoint or uprobe recorded, `name=value` each; empty for other events.
    pub fields: String,
    /// The same stack with addresses, innermost first; inlined functions share one. Frames without one have 0.
    pub addresses: Vec<(u64, FrameId)>,
}

/// A request on its way; lengths in ns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The flow.
    pub flow: u32,
    /// When it began.
    pub began: Nanos,
    /// Length of each stage; `None` where nothing tells.
    pub stages: [Option<u64>; PARTS],
    /// The whole length.
    pub total: u64,
    /// Places of the threads that received, handled and sent.
    pub threads: [Option<usize>; 3],
}
