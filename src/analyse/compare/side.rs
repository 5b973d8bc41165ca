//! One recording as a side of a comparison: all that a request takes, and how that scatters over the run.
//!
//! In: a profile, spans and a tally that were cut into the same slices of time; out: a [`Side`] of [`Uncertain`] values
//! by [`Key`]. Only the loaded part counts: start-up, warm-up and what comes after the load are cut off. Where only some
//! requests count, work and latency are theirs; rate, replies and load stay those of all. It refuses to know the other
//! side.

use super::interval::{PRINTED, Uncertain};
use super::tally::{COUNTED, Counted, Counts, Tally};
use crate::analyse::classify;
use crate::analyse::ledger::{Account, Basis, EMPTY_POLL, Ledger, OFF_CPU};
use crate::analyse::phases::{OTHER, POLL_SIDE};
use crate::analyse::profile::{Profile, Root, Weight};
use crate::analyse::spans::{self, STAGES, Spans};
use crate::analyse::stacks::NodeId;
use crate::analyse::timeline::Shares;
use crate::trace::record::Meta;
use crate::units::Nanos;
use std::collections::{BTreeMap, BTreeSet};

/// Slices that a recording's time is cut into, before it is known which of them are under load.
const SLICES: u64 = 64;
/// Windows that slices under load are put together to: as many as tell scatter well, each with as much in it as can be.
const WINDOWS: usize = 16;
/// With fewer windows than these nothing is said about scatter.
const LEAST_WINDOWS: usize = 8;
/// A slice is under load if it has this share of the requests of the busiest one.
const LOADED: f64 = 0.1;

/// Rows of the ledger that are no work of the service.
pub const NO_WORK: &[&str] = &[OFF_CPU, EMPTY_POLL, POLL_SIDE, "idle", OTHER, "recorder"];

/// Where slices of a recording (or of the part of it that a filter's window leaves) begin and end, from what is known of
/// its time before it is read: the first edge is the beginning of the first slice. None without a beginning and an end.
pub fn edges(metas: &[Meta], window: Option<(Nanos, Nanos)>) -> Vec<Nanos> {
    let mut started = None;
    let mut end = Nanos::default();
    for meta in metas {
        let time = match meta {
            Meta::Session(session) => {
                started = Some(session.started);
                continue;
            }
            Meta::End(end) => end.time,
            Meta::Clock(pair) => pair.time,
            Meta::RingTotals(totals) => totals.time,
            _ => continue,
        };
        end = end.max(time);
    }
    let Some(started) = started else {
        return Vec::new();
    };
    let (from, to) = window.unwrap_or((Nanos::default(), Nanos::from_ns(u64::MAX)));
    let from = started.ns().saturating_add(from.ns());
    let to = started.ns().saturating_add(to.ns()).min(end.ns());
    let length = to.saturating_sub(from);
    if length < SLICES {
        return Vec::new();
    }
    let inside = |n: u64| (u128::from(length) * u128::from(n) / u128::from(SLICES)) as u64;
    (0..=SLICES)
        .map(|n| Nanos::from_ns(from + inside(n)))
        .collect()
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// All work on CPUs: what is neither idle nor someone else's.
    Work,
    /// A phase's part of it.
    Phase(&'static str),
    /// A row of [`NO_WORK`].
    NoWork(&'static str),
    /// A request's whole way.
    Latency,
    /// One of [`STAGES`].
    Stage(usize),
    /// What the stages' threads were kept from running by other programs; no part of [`Key::Stage`].
    Preempted,
    /// Time between two requests, all connections together.
    Wall,
    /// Something counted.
    Count(Counted),
}

/// What a value is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds for each request (counts: for each request).
    PerRequest,
    /// Shares of all threads' time or samples: there are no requests.
    Share,
}

impl Unit {
    /// The name in outputs.
    pub fn name(self) -> &'static str {
        match self {
            Unit::PerRequest => "ns_per_request",
            Unit::Share => "share",
        }
    }
}

/// Some of a recording's time.
#[derive(Clone, Debug, Default)]
struct Part {
    wall_ns: f64,
    shares: Vec<Shares>,
    weights: BTreeMap<(usize, Root, NodeId), Weight>,
    spans: spans::Slice,
    /// Of the whole program.
    counts: Counts,
    /// Of what is divided by the requests that count; the same where all do.
    done: Counts,
}

impl Part {
    fn add(&mut self, other: &Part) {
        self.wall_ns += other.wall_ns;
        self.shares
            .resize(self.shares.len().max(other.shares.len()), Shares::default());
        let shares = self.shares.iter_mut().zip(&other.shares);
        shares.for_each(|(sum, part)| sum.add(part));
        for (key, weight) in &other.weights {
            self.weights.entry(*key).or_default().add(weight);
        }
        self.spans.requests += other.spans.requests;
        for at in 0..STAGES.len() {
            self.spans.sums[at] += other.spans.sums[at];
            self.spans.counts[at] += other.spans.counts[at];
        }
        for (sum, ns) in (self.spans.preempted.iter_mut()).zip(other.spans.preempted) {
            *sum += ns;
        }
        self.counts.add(&other.counts);
        self.done.add(&other.done);
    }

    /// What is left without one of the parts that it was summed from.
    fn without(&self, part: &Part) -> Part {
        let mut rest = self.clone();
        rest.wall_ns -= part.wall_ns;
        let shares = rest.shares.iter_mut().zip(&part.shares);
        shares.for_each(|(all, part)| *all = all.since(part));
        for (key, weight) in &part.weights {
            let Some(all) = rest.weights.get_mut(key) else {
                continue;
            };
            all.samples = all.samples.saturating_sub(weight.samples);
            all.weight = all.weight.saturating_sub(weight.weight);
            all.squares = (all.squares - weight.squares).max(0.0);
            if all.samples == 0 {
                rest.weights.remove(key);
            }
        }
        rest.spans.requests -= part.spans.requests;
        for at in 0..STAGES.len() {
            rest.spans.sums[at] -= part.spans.sums[at];
            rest.spans.counts[at] -= part.spans.counts[at];
        }
        for (sum, ns) in (rest.spans.preempted.iter_mut()).zip(part.spans.preempted) {
            *sum -= ns;
        }
        rest.counts.take(&part.counts);
        rest.done.take(&part.done);
        rest
    }

    fn sum<'a>(parts: impl Iterator<Item = &'a Part>) -> Part {
        let mut sum = Part::default();
        parts.for_each(|part| sum.add(part));
        sum
    }
}

/// A recording that is compared.
#[derive(Clone, Debug)]
pub struct Side {
    /// What it is called.
    pub name: String,
    /// The loaded part as a profile: threads' time, stacks and weights are of that part.
    pub profile: Profile,
    /// What was counted over the whole recording, and on which flows.
    pub tally: Tally,
    /// Whether there are events.
    pub events: bool,
    /// Unit of all values of time.
    pub unit: Unit,
    /// How many windows scatter was looked at over; 0 if none.
    pub windows: usize,
    /// The loaded part in ns from the recording's start, if it was looked for.
    pub loaded: Option<(u64, u64)>,
    /// Requests in it.
    pub requests: f64,
    /// Requests in it that were told from beginning to end.
    pub told: f64,
    /// Median and 99th percentile of the whole way in ns, of all requests of the recording.
    pub percentiles: Option<(u64, u64)>,
    /// How work is known.
    pub basis: Basis,
    values: BTreeMap<Key, Uncertain>,
    bases: BTreeMap<&'static str, Basis>,
}

impl Side {
    /// From what one pass over a recording made of it, all cut at the same edges.
    pub fn of(
        name: String,
        profile: Profile,
        spans: &Spans,
        tally: Tally,
        edges: &[Nanos],
    ) -> Side {
        let parts = parts(&profile, spans, &tally, edges);
        let loaded = loaded(&parts);
        let windows: Vec<Part> = match &loaded {
            Some(range) => windows(&parts[range.clone()]),
            None => Vec::new(),
        };
        let all = match &loaded {
            Some(range) => Part::sum(parts[range.clone()].iter()),
            None if !parts.is_empty() => Part::sum(parts.iter()),
            None => whole(&profile, spans, &tally),
        };
        let mut scratch = profile;
        scratch.slices = Vec::new();
        let unit = if all.done.of(Counted::Requests) > 0.0 {
            Unit::PerRequest
        } else {
            Unit::Share
        };
        let left_out: Vec<BTreeMap<Key, f64>> = (windows.iter())
            .map(|window| measure(&mut scratch, &all.without(window), unit).values)
            .collect();
        let measured = measure(&mut scratch, &all, unit);
        let keys: BTreeSet<Key> = left_out
            .iter()
            .chain([&measured.values])
            .flat_map(|v| v.keys().copied())
            .collect();
        let get = |values: &BTreeMap<Key, f64>, key| values.get(key).copied().unwrap_or(0.0);
        let values = keys.iter().map(|key| {
            let out: Vec<f64> = left_out.iter().map(|v| get(v, key)).collect();
            let sampling = get(&measured.sampling, key);
            (
                *key,
                Uncertain::of(get(&measured.values, key), &out, sampling),
            )
        });
        let total = spans.stages.last().filter(|h| !h.is_empty());
        Side {
            name,
            events: spans.trust.rings > 0,
            unit,
            windows: windows.len(),
            loaded: loaded.map(|range| slice_ends(&scratch, edges, &range)),
            requests: all.counts.of(Counted::Requests),
            told: all.spans.requests,
            percentiles: total.map(|h| (h.value_at_quantile(0.5), h.value_at_quantile(0.99))),
            basis: measured.basis,
            values: values.collect(),
            bases: measured.bases,
            profile: scratch,
            tally,
        }
    }

    /// A value; 0 without any doubt where there is nothing.
    pub fn value(&self, key: Key) -> Uncertain {
        self.values.get(&key).copied().unwrap_or(Uncertain {
            freedom: f64::INFINITY,
            ..Uncertain::default()
        })
    }

    /// Whether anything was recorded of it.
    pub fn tells(&self, key: Key) -> bool {
        self.values.contains_key(&key)
    }

    /// All that has a value.
    pub fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.values.keys().copied()
    }

    /// How a phase's value is known.
    pub fn basis_of(&self, phase: &str) -> Option<Basis> {
        self.bases.get(phase).copied()
    }
}

fn slice_ends(profile: &Profile, edges: &[Nanos], range: &std::ops::Range<usize>) -> (u64, u64) {
    let since = |edge: Nanos| edge.since(profile.session.started).ns();
    (since(edges[range.start]), since(edges[range.end]))
}

/// The recording in slices; none where it has no times.
fn parts(profile: &Profile, spans: &Spans, tally: &Tally, edges: &[Nanos]) -> Vec<Part> {
    let count = profile.slices.len();
    if count == 0
        || count != edges.len()
        || count != spans.slices.len()
        || count != tally.all.slices.len()
    {
        return Vec::new();
    }
    // What lies before the first edge is in no slice.
    let parts = (1..count).map(|at| Part {
        wall_ns: edges[at].since(edges[at - 1]).ns() as f64,
        shares: profile.slices[at].shares.clone(),
        weights: profile.slices[at].weights.clone(),
        spans: spans.slices[at],
        counts: tally.all.slices[at],
        done: match &tally.meanwhile {
            Some(sums) => of_told(sums.slices[at], spans.slices[at].requests),
            None => tally.all.slices[at],
        },
    });
    parts.collect()
}

/// What was done in the time of requests, of which so many were told from beginning to end.
fn of_told(mut meanwhile: Counts, told: f64) -> Counts {
    let others = meanwhile.of(Counted::Requests) - told;
    meanwhile.more(Counted::Requests, -others);
    meanwhile
}

/// The recording as it is, for want of slices or of load.
fn whole(profile: &Profile, spans: &Spans, tally: &Tally) -> Part {
    let mut weights: BTreeMap<(usize, Root, NodeId), Weight> = BTreeMap::new();
    for (&(thread, root, node), weight) in &profile.weights {
        let root = if root.is_estimated() {
            Root::NoProbes
        } else {
            root
        };
        weights.entry((thread, root, node)).or_default().add(weight);
    }
    let mut told = spans::Slice {
        requests: spans.counts.complete as f64,
        preempted: spans.preempted,
        ..spans::Slice::default()
    };
    for (at, histogram) in spans.stages.iter().enumerate() {
        told.counts[at] = histogram.len() as f64;
        told.sums[at] = histogram.mean() * histogram.len() as f64;
    }
    Part {
        wall_ns: profile.wall_ns as f64,
        shares: profile.threads.iter().map(|t| t.shares).collect(),
        weights,
        counts: tally.all.whole,
        done: match &tally.meanwhile {
            Some(sums) => of_told(sums.whole, told.requests),
            None => tally.all.whole,
        },
        spans: told,
    }
}

/// The slices under load, the first and the last of which are only in part and left out where enough others are.
fn loaded(parts: &[Part]) -> Option<std::ops::Range<usize>> {
    let requests: Vec<f64> = parts
        .iter()
        .map(|p| p.counts.of(Counted::Requests))
        .collect();
    let most = requests.iter().copied().fold(0.0, f64::max);
    let busy = |n: &f64| *n > 0.0 && *n >= LOADED * most;
    let first = requests.iter().position(busy)?;
    let last = requests.iter().rposition(busy)?;
    if last - first > LEAST_WINDOWS {
        Some(first + 1..last)
    } else {
        Some(first..last + 1)
    }
}

/// Slices put together to windows of equal length; none where they are too few.
fn windows(slices: &[Part]) -> Vec<Part> {
    let count = slices.len().min(WINDOWS);
    if count < LEAST_WINDOWS {
        return Vec::new();
    }
    let at = |window: usize| window * slices.len() / count;
    (0..count)
        .map(|w| Part::sum(slices[at(w)..at(w + 1)].iter()))
        .collect()
}

/// What some time comes to.
struct Measured {
    values: BTreeMap<Key, f64>,
    /// Standard errors by the number of samples alone.
    sampling: BTreeMap<Key, f64>,
    bases: BTreeMap<&'static str, Basis>,
    basis: Basis,
}

/// All values of a part; `profile` becomes that part.
fn measure(profile: &mut Profile, part: &Part, unit: Unit) -> Measured {
    become_part(profile, part);
    let ledger = Ledger::of(profile, None);
    let account = ledger.program();
    let requests = part.done.of(Counted::Requests);
    let factor = match unit {
        Unit::PerRequest => ledger.ns_per_cycle.unwrap_or(1.0) / requests.max(1.0),
        Unit::Share => 1.0 / account.cycles.max(f64::MIN_POSITIVE),
    };
    let mut measured = Measured {
        values: BTreeMap::new(),
        sampling: BTreeMap::new(),
        bases: BTreeMap::new(),
        basis: Basis::Measured,
    };
    ledger_rows(account, factor, &mut measured);
    if unit == Unit::PerRequest {
        let values = &mut measured.values;
        let all = part.counts.of(Counted::Requests);
        values.insert(Key::Wall, part.wall_ns / all.max(1.0));
        for &(what, _) in COUNTED {
            let value = match what {
                Counted::ReplyBytes | Counted::PreemptedNs => part.counts.of(what) / all.max(1.0),
                _ => part.done.of(what) / requests.max(1.0),
            };
            values.insert(Key::Count(what), value);
        }
    }
    let told = part.spans.requests;
    if told > 0.0 {
        for (at, sum) in part.spans.sums.iter().enumerate() {
            let key = if at + 1 == STAGES.len() {
                Key::Latency
            } else {
                Key::Stage(at)
            };
            // What threads were kept from is apart, and in the whole.
            let kept = part.spans.preempted.get(at).copied().unwrap_or(0.0);
            if part.spans.counts[at] > 0.0 {
                measured.values.insert(key, (sum - kept) / told);
            }
        }
        let kept: f64 = part.spans.preempted.iter().sum();
        measured.values.insert(Key::Preempted, kept / told);
    }
    measured
}

fn ledger_rows(account: &Account, factor: f64, measured: &mut Measured) {
    let mut work = 0.0;
    let mut states = 0.0f64;
    for entry in &account.entries {
        let no_work = NO_WORK.contains(&entry.phase);
        let key = if no_work {
            Key::NoWork(entry.phase)
        } else {
            work += entry.cycles;
            Key::Phase(entry.phase)
        };
        let error = (entry.high - entry.low) / 2.0 / PRINTED.point();
        measured.values.insert(key, entry.cycles * factor);
        measured.sampling.insert(key, error * factor);
        measured.bases.insert(entry.phase, entry.basis);
        // Phases take from one another what they are sampled with; only what takes from all of them makes work uncertain.
        if no_work {
            states = states.hypot(error);
        }
        if no_work && entry.basis != Basis::Measured {
            measured.basis = measured.basis.max(entry.basis);
        }
    }
    measured.values.insert(Key::Work, work * factor);
    measured.sampling.insert(Key::Work, states * factor);
}

/// Makes a profile say what it would if only this part had been recorded.
fn become_part(profile: &mut Profile, part: &Part) {
    profile.weights.clone_from(&part.weights);
    let shares = part
        .shares
        .iter()
        .copied()
        .chain(std::iter::repeat(Shares::default()));
    for (row, shares) in profile.threads.iter_mut().zip(shares) {
        row.shares = shares;
        row.estimate = None;
        row.samples = 0;
    }
    for (&(thread, ..), weight) in &part.weights {
        profile.threads[thread].samples += weight.samples;
    }
    profile.wall_ns = part.wall_ns as u64;
    classify::estimate_states(profile);
    let count = |what| part.done.of(what) as u64;
    let totals = &mut profile.totals;
    totals.requests = count(Counted::Requests);
    totals.rx_bursts = count(Counted::RxBursts);
    totals.rx_packets = count(Counted::RxFrames);
    totals.tx_bursts = count(Counted::TxBursts);
    totals.tx_packets = count(Counted::TxFrames);
}
