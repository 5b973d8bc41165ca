//! The answer: who used the time, in which state, in which functions.
//!
//! In: what [`super::join`] added up; out: rows for tables and stacks for pictures, in shares of 1. Time by state is
//! exact where probes bound it; time by function is what samples say.

use super::estimate::Estimate;
use super::grouped::Grouped;
use super::phases;
use super::stacks::{FrameId, NodeId, Stacks};
use super::timeline::Shares;
use super::trust::Trust;
use crate::trace::record::{Notice, Pid, Session, Tid};
use std::collections::{BTreeMap, HashMap};

/// What a sample's thread was doing: the first frame of every stack in pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Root {
    /// A round of work.
    Useful,
    /// A round that found nothing.
    EmptyPolling,
    /// Probes were there but could not tell: events lost, or none yet.
    Unknown,
    /// The thread has no probes.
    NoProbes,
    /// It has none, and was not sampled in a poll symbol.
    UsefulEstimated,
    /// It has none, and was sampled in a poll symbol.
    EmptyPollingEstimated,
}

impl Root {
    /// The name in tables and pictures.
    pub fn name(self) -> &'static str {
        match self {
            Root::Useful => "useful",
            Root::EmptyPolling => "empty polling",
            Root::Unknown => "unknown (events lost)",
            Root::NoProbes => "no probes",
            Root::UsefulEstimated => "useful (estimated)",
            Root::EmptyPollingEstimated => "empty polling (estimated)",
        }
    }

    /// Whether poll symbols tell, not probes.
    pub fn is_estimated(self) -> bool {
        matches!(self, Root::UsefulEstimated | Root::EmptyPollingEstimated)
    }
}

/// Samples added up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weight {
    /// How many.
    pub samples: u64,
    /// What they stand for: nanoseconds or counts of the sampled event.
    pub weight: u64,
    /// Sum of the squares of what each stands for.
    pub squares: f64,
}

impl Weight {
    /// Adds other samples.
    pub fn add(&mut self, other: &Weight) {
        self.samples += other.samples;
        self.weight = self.weight.saturating_add(other.weight);
        self.squares += other.squares;
    }
}

/// Where samples are added up by window and CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    /// The thread's place in [`Profile::threads`].
    pub thread: usize,
    /// The window's number.
    pub window: u32,
    /// The CPU.
    pub cpu: u32,
    /// What the thread was doing.
    pub root: Root,
    /// The stack.
    pub node: NodeId,
}

/// A part of the recording's time.
#[derive(Clone, Debug, Default)]
pub struct Slice {
    /// Each thread's ticks in it, in the order of [`Profile::threads`].
    pub shares: Vec<Shares>,
    /// Like [`Profile::weights`], but as probes tell states: nothing in it is estimated.
    pub weights: BTreeMap<(usize, Root, NodeId), Weight>,
}

/// What programs counted while they were recorded, all rings together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Non-empty receive bursts.
    pub rx_bursts: u64,
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Transmit bursts.
    pub tx_bursts: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Requests finished.
    pub requests: u64,
    /// Rounds of polling loops.
    pub rounds: u64,
    /// Rounds that found nothing to do.
    pub empty_rounds: u64,
}

impl Work {
    /// Adds what another counted.
    pub fn add(&mut self, other: &Work) {
        self.rx_bursts += other.rx_bursts;
        self.rx_packets += other.rx_packets;
        self.rx_bytes += other.rx_bytes;
        self.tx_bursts += other.tx_bursts;
        self.tx_packets += other.tx_packets;
        self.tx_bytes += other.tx_bytes;
        self.requests += other.requests;
        self.rounds += other.rounds;
        self.empty_rounds += other.empty_rounds;
    }
}

/// One thread's time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ThreadRow {
    /// Its process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// Its name.
    pub name: String,
    /// Whether it has probes.
    pub probes: bool,
    /// What it is for, if a pack says; else empty.
    pub role: String,
    /// Whether its process is not part of the service.
    pub foreign: bool,
    /// Its share of empty polling as samples tell it, where probes do not.
    pub estimate: Option<Estimate>,
    /// Counter ticks by state.
    pub shares: Shares,
    /// Its samples.
    pub samples: u64,
}

impl ThreadRow {
    fn part(&self, ticks: u64) -> f64 {
        match self.shares.total() {
            0 => 0.0,
            total => ticks as f64 / total as f64,
        }
    }
    /// A share of the thread's time; `None` where the recording has no times.
    pub fn timed(&self, share: f64) -> Option<f64> {
        (self.shares.total() > 0).then_some(share)
    }
    /// On a CPU.
    pub fn on_cpu(&self) -> f64 {
        self.part(self.shares.on.iter().sum())
    }
    /// Off CPU.
    pub fn off_cpu(&self) -> f64 {
        self.part(self.shares.off.iter().sum())
    }
    /// On a CPU and working; `None` without probes.
    pub fn useful(&self) -> Option<f64> {
        self.probes.then(|| self.part(self.shares.on[0]))
    }
    /// On a CPU and polling for nothing; `None` without probes.
    pub fn empty_poll(&self) -> Option<f64> {
        self.probes.then(|| self.part(self.shares.on[1]))
    }
    /// On a CPU in a state that is not known.
    pub fn unknown(&self) -> f64 {
        if self.probes {
            self.part(self.shares.on[2])
        } else {
            self.on_cpu()
        }
    }
}

/// How [`Profile::rows`] groups samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// By function.
    Symbol,
    /// By module.
    Module,
    /// By phase.
    Phase,
    /// By thread.
    Thread,
}

/// Samples of one group, as shares of all samples' weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The group.
    pub name: String,
    /// The module it lies in, for functions.
    pub module: String,
    /// Source file and line first sampled in it, `file:line`; empty if not known.
    pub source: String,
    /// Why it has no better name.
    pub why: Option<String>,
    /// Share that ended here.
    pub own: f64,
    /// Share that ended or passed here.
    pub total: f64,
    /// The useful part of `own`.
    pub useful: f64,
    /// The empty polling part of `own`.
    pub empty_poll: f64,
    /// The part of `own` whose state is an estimate.
    pub estimated: f64,
    /// Samples that ended here.
    pub samples: u64,
}

/// Everything there is to say about a recording's time.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// What was recorded.
    pub session: Session,
    /// What the user should know about it.
    pub notices: Vec<Notice>,
    /// Packs whose rules decided about phases, the likeliest first.
    pub packs: Vec<String>,
    /// The published stack that this one is or works like, by its pack's name; the first pack's if none is known.
    pub architecture: String,
    /// What programs counted.
    pub totals: Work,
    /// Length of a counter tick; `None` without both clocks: then ticks are nanoseconds.
    pub ns_per_tick: Option<f64>,
    /// Whether samples were only taken in user code.
    pub user_only: bool,
    /// Name of the sampled event; weights are nanoseconds if it is a clock.
    pub event: String,
    /// Threads, by process and number.
    pub threads: Vec<ThreadRow>,
    /// Every distinct stack.
    pub stacks: Stacks,
    /// Weight of each thread's stacks by state. The first number is the thread's place in `threads`.
    pub weights: BTreeMap<(usize, Root, NodeId), Weight>,
    /// What the other counters of the sampled event's group counted.
    pub grouped: Grouped,
    /// The same by window and CPU too, if that was asked for ([`super::Join::in_windows`]).
    pub cells: Vec<(Cell, Weight)>,
    /// The time between edges that were asked for ([`super::Join::sliced`]).
    pub slices: Vec<Slice>,
    /// How far to trust all this.
    pub trust: Trust,
    /// Length of the recording in nanoseconds; 0 if not known.
    pub wall_ns: u64,
}

#[derive(Default)]
struct Sum {
    own: u64,
    total: u64,
    useful: u64,
    empty_poll: u64,
    estimated: u64,
    samples: u64,
    function: Option<FrameId>,
}

impl Profile {
    /// Leaves empty polling out of the samples; time by thread stays whole.
    pub fn only_busy(&mut self) {
        let empty = [Root::EmptyPolling, Root::EmptyPollingEstimated];
        self.weights.retain(|(_, root, _), _| !empty.contains(root));
    }

    /// Whether weights are nanoseconds.
    pub fn is_time(&self) -> bool {
        self.event.starts_with("cpu-clock") || self.event.starts_with("task-clock")
    }

    /// Weight of all samples.
    pub fn total_weight(&self) -> u64 {
        self.weights.values().map(|w| w.weight).sum()
    }

    /// The phase of a thread's stack in a state: polling for nothing is `poll`, whatever function it is in, and what a
    /// foreign process does is `other`.
    pub fn phase(&self, thread: usize, root: Root, node: NodeId) -> &'static str {
        if self.threads[thread].foreign {
            return phases::OTHER;
        }
        match (root, self.stacks.verdict(node).phase) {
            (Root::EmptyPolling, phases::POLL_SIDE) => phases::POLL_SIDE,
            (Root::EmptyPolling, _) => phases::POLL,
            (_, phase) => phase,
        }
    }

    /// Useful share of the on-CPU time of threads with probes; `None` if no thread has any.
    pub fn useful_share(&self) -> Option<f64> {
        let probed = self.threads.iter().filter(|t| t.probes);
        let (useful, on) = probed.fold((0u64, 0u64), |(useful, on), t| {
            (
                useful + t.shares.on[0],
                on + t.shares.on.iter().sum::<u64>(),
            )
        });
        (on > 0).then(|| useful as f64 / on as f64)
    }

    /// The same from poll symbols, of the samples of threads without probes; `None` if no thread was sampled in one.
    pub fn useful_estimate(&self) -> Option<f64> {
        let weight = |of: Root| {
            let weights = self.weights.iter().filter(|((_, root, _), _)| *root == of);
            weights.map(|(_, w)| w.weight).sum::<u64>()
        };
        let (useful, empty) = (
            weight(Root::UsefulEstimated),
            weight(Root::EmptyPollingEstimated),
        );
        (useful + empty > 0).then(|| useful as f64 / (useful + empty) as f64)
    }

    /// Samples grouped, heaviest first, ties by name.
    pub fn rows(&self, by: Grouping) -> Vec<Row> {
        let all = self.total_weight().max(1) as f64;
        let mut sums: BTreeMap<(String, String), Sum> = BTreeMap::new();
        for (&(thread, root, node), weight) in &self.weights {
            let own = self.group(by, thread, root, node);
            let sum = sums.entry(own.clone()).or_default();
            sum.own += weight.weight;
            sum.samples += weight.samples;
            match root {
                Root::Useful | Root::UsefulEstimated => sum.useful += weight.weight,
                Root::EmptyPolling | Root::EmptyPollingEstimated => sum.empty_poll += weight.weight,
                Root::Unknown | Root::NoProbes => {}
            }
            if root.is_estimated() {
                sum.estimated += weight.weight;
            }
            for (group, function) in self.passed(by, node, own) {
                let sum = sums.entry(group).or_default();
                sum.total += weight.weight;
                sum.function = function;
            }
        }
        let mut rows: Vec<Row> = sums
            .into_iter()
            .map(|((name, module), sum)| Row {
                name,
                module,
                source: sum.function.map_or_else(String::new, |f| self.source(f)),
                why: sum.function.and_then(|f| self.stacks.get(f).why.clone()),
                own: sum.own as f64 / all,
                total: sum.total as f64 / all,
                useful: sum.useful as f64 / all,
                empty_poll: sum.empty_poll as f64 / all,
                estimated: sum.estimated as f64 / all,
                samples: sum.samples,
            })
            .collect();
        rows.sort_by(|a, b| b.own.total_cmp(&a.own).then(b.total.total_cmp(&a.total)));
        rows
    }

    fn group(&self, by: Grouping, thread: usize, root: Root, node: NodeId) -> (String, String) {
        let leaf = self.stacks.innermost_first(node).next();
        match by {
            Grouping::Symbol => leaf.map_or_else(Default::default, |f| self.function(f)),
            Grouping::Module => {
                let module = leaf.map(|f| self.stacks.get(f).module.clone());
                (module.unwrap_or_default(), String::new())
            }
            Grouping::Phase => (self.phase(thread, root, node).to_owned(), String::new()),
            Grouping::Thread => {
                let row = &self.threads[thread];
                (
                    format!("{} {}/{}", row.name, row.pid, row.tid),
                    String::new(),
                )
            }
        }
    }

    /// The groups that a stack passes, each once however often it recurs, and the function if that is what groups.
    fn passed(
        &self,
        by: Grouping,
        node: NodeId,
        own: (String, String),
    ) -> HashMap<(String, String), Option<FrameId>> {
        let frames = self.stacks.innermost_first(node);
        match by {
            Grouping::Symbol => frames.map(|f| (self.function(f), Some(f))).collect(),
            Grouping::Module => {
                let modules = frames.map(|f| self.stacks.get(f).module.clone());
                modules.map(|m| ((m, String::new()), None)).collect()
            }
            Grouping::Phase | Grouping::Thread => HashMap::from([(own, None)]),
        }
    }

    fn function(&self, frame: FrameId) -> (String, String) {
        let frame = self.stacks.get(frame);
        (frame.name.clone(), frame.module.clone())
    }

    fn source(&self, frame: FrameId) -> String {
        let frame = self.stacks.get(frame);
        match (frame.file.as_str(), frame.line) {
            ("", _) => String::new(),
            (file, 0) => file.to_owned(),
            (file, line) => format!("{file}:{line}"),
        }
    }
}
