//! Where all of the time went: each thread's, each role's and the whole program's cycles by phase, adding up to 100 %.
//!
//! In: a classified [`Profile`], and if there is one an [`Idle`] recording of the same program; out: a [`Ledger`]. Time
//! off CPU and of empty polling is measured where switches and probes bound it; inside of it samples divide, with 95 %
//! intervals; without probes empty polling is an estimate and says so. What no one can tell is a row of its own. It
//! refuses to spread what is unknown over the rest.

use super::classify::Verdict;
use super::estimate::{Estimate, Idle, IdleMix, Method, Share, Weighed};
use super::phases::{self, OTHER, PHASES, POLL_SIDE, UNKNOWN};
use super::pollstate::PollState;
use super::profile::{Profile, Root, ThreadRow, Work};
use super::stacks::NodeId;
use super::trust::Trust;
use std::collections::BTreeMap;

/// Blocked, or able to run and not running.
pub const OFF_CPU: &str = "off_cpu";
/// Rounds that found nothing to do.
pub const EMPTY_POLL: &str = "empty_poll";
/// On a CPU, and no one can tell what for.
pub const UNACCOUNTED: &str = "unaccounted";

/// What may interrupt a round that finds nothing, and is not its doing.
const INSIDE_POLLING: &[&str] = &[POLL_SIDE, "irq", "recorder"];

/// How a row is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Basis {
    /// Bounded by probes and switches.
    Measured,
    /// Divided by samples.
    Sampled,
    /// Guessed from poll symbols, or compared with an idle recording.
    Estimated,
}

impl Basis {
    /// The name in outputs.
    pub fn name(self) -> &'static str {
        match self {
            Basis::Measured => "measured",
            Basis::Sampled => "sampled",
            Basis::Estimated => "estimated",
        }
    }
}

/// One phase's part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// The phase, [`OFF_CPU`], [`EMPTY_POLL`] or [`UNACCOUNTED`].
    pub phase: &'static str,
    /// Its cycles: counter ticks, or the sampled event's unit where the recording has no times.
    pub cycles: f64,
    /// Lower end of the 95 % interval of `cycles`.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// How it is known; of several threads, the weakest.
    pub basis: Basis,
}

/// Whose cycles add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// All threads.
    Program,
    /// Threads of one role.
    Role,
    /// One thread.
    Thread,
}

impl Level {
    /// The name in outputs.
    pub fn name(self) -> &'static str {
        match self {
            Level::Program => "program",
            Level::Role => "role",
            Level::Thread => "thread",
        }
    }
}

/// One account: entries that add up to all its cycles.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// Whose.
    pub level: Level,
    /// `program`, the role, or `name pid/tid`.
    pub name: String,
    /// The role of a thread; empty for the program and where no pack knows it.
    pub role: String,
    /// How many threads.
    pub threads: usize,
    /// How empty polling was estimated, if it was.
    pub estimate: Option<Estimate>,
    /// All cycles: from each thread's beginning (or the recording's) to its end.
    pub cycles: f64,
    /// The parts, in the order of pictures; none is zero.
    pub entries: Vec<Entry>,
}

impl Account {
    /// An entry's share of all cycles.
    pub fn share(&self, entry: &Entry) -> Share {
        let all = self.cycles.max(f64::MIN_POSITIVE);
        Share {
            value: entry.cycles / all,
            low: entry.low / all,
            high: entry.high / all,
        }
    }

    /// Cycles of a phase.
    pub fn of(&self, phase: &str) -> f64 {
        let entry = self.entries.iter().find(|e| e.phase == phase);
        entry.map_or(0.0, |e| e.cycles)
    }

    /// Share that is neither off CPU, idle, empty polling nor someone else's: `None` without cycles.
    pub fn busy(&self) -> Option<f64> {
        let own = self.cycles - self.of(OTHER);
        let nothing = [OFF_CPU, EMPTY_POLL, POLL_SIDE, "idle"];
        let nothing: f64 = nothing.iter().map(|p| self.of(p)).sum();
        (own > 0.0).then(|| 1.0 - nothing / own)
    }

    /// The entries' shares in thousandths that add up to 1000: rounded down, the largest remainders up.
    pub fn thousandths(&self) -> Vec<u32> {
        let exact: Vec<f64> = self
            .entries
            .iter()
            .map(|e| self.share(e).value * 1000.0)
            .collect();
        let mut rounded: Vec<u32> = exact.iter().map(|e| *e as u32).collect();
        let missing = 1000u32.saturating_sub(rounded.iter().sum());
        let mut order: Vec<usize> = (0..exact.len()).collect();
        order.sort_by(|&a, &b| {
            exact[b]
                .fract()
                .total_cmp(&exact[a].fract())
                .then(a.cmp(&b))
        });
        for &at in order.iter().take(missing as usize) {
            rounded[at] += 1;
        }
        rounded
    }
}

/// All accounts of a recording.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// The program, its roles, its threads.
    pub accounts: Vec<Account>,
    /// What was done in the time.
    pub work: Work,
    /// Length of a cycle in ns; `None` where cycles are the sampled event's unit.
    pub ns_per_cycle: Option<f64>,
    /// Whether there are times: else cycles are weights of samples.
    pub timed: bool,
    /// The sampled event.
    pub event: String,
    /// Packs whose rules decided.
    pub packs: Vec<String>,
    /// How far to trust all this.
    pub trust: Trust,
}

impl Ledger {
    /// The ledger of a profile.
    pub fn of(profile: &Profile, idle: Option<&Idle>) -> Ledger {
        let timed = profile.threads.iter().any(|t| t.shares.total() > 0);
        let samples = Samples::of(profile, idle);
        let threads: Vec<Account> = (profile.threads.iter().enumerate())
            .map(|(at, row)| thread(profile, row, samples.get(at), idle, timed))
            .filter(|a| a.cycles > 0.0)
            .collect();
        let mut roles: BTreeMap<&str, Vec<&Account>> = BTreeMap::new();
        for account in threads.iter().filter(|a| !a.role.is_empty()) {
            roles.entry(&account.role).or_default().push(account);
        }
        let all: Vec<_> = threads.iter().collect();
        let mut accounts = vec![sum(Level::Program, "program", &all)];
        accounts.extend(
            roles
                .into_iter()
                .map(|(role, of_role)| sum(Level::Role, role, &of_role)),
        );
        accounts.extend(threads);
        Ledger {
            accounts,
            work: profile.totals,
            ns_per_cycle: timed.then(|| profile.ns_per_tick.unwrap_or(1.0)),
            timed,
            event: profile.event.clone(),
            packs: profile.packs.clone(),
            trust: profile.trust.clone(),
        }
    }

    /// The program's account.
    pub fn program(&self) -> &Account {
        &self.accounts[0]
    }
}

impl Idle {
    /// What threads of each role look like in a recording of the same program with nothing to do.
    pub fn of(profile: &Profile) -> Idle {
        let mut idle = Idle::default();
        let of_threads = |(thread, _, _): &(usize, Root, NodeId)| !profile.threads[*thread].foreign;
        let own = || profile.weights.iter().filter(|(key, _)| of_threads(key));
        for (&(thread, _, node), _) in own() {
            let mix = idle
                .roles
                .entry(idle_key(&profile.threads[thread]).to_owned());
            mix.or_default().steady |= profile.stacks.verdict(node).steady;
        }
        for (&(thread, _, node), weight) in own() {
            let Some(mix) = idle.roles.get_mut(idle_key(&profile.threads[thread])) else {
                continue;
            };
            let verdict = profile.stacks.verdict(node);
            mix.all.add_squares(weight.weight as f64, weight.squares);
            if is_compared(verdict, mix.steady) {
                mix.compared += weight.weight as f64;
            } else {
                *mix.others.entry(verdict.phase).or_default() += weight.weight as f64;
            }
            mix.samples += weight.samples;
            let leaf = profile.stacks.innermost_first(node).next();
            if let (Some(leaf), false) = (leaf, verdict.polls) {
                let name = profile.stacks.get(leaf).name.clone();
                *mix.functions.entry(name).or_default() += weight.samples;
            }
        }
        idle.roles.retain(|_, mix| mix.is_enough());
        idle
    }
}

/// What finds a thread again in another recording of the program.
fn idle_key(row: &ThreadRow) -> &str {
    if row.role.is_empty() {
        &row.name
    } else {
        &row.role
    }
}

/// Sampled where a poller is when nothing is to be done. The idle task is no poller: its samples are sure.
fn is_poll(verdict: Verdict) -> bool {
    verdict.polls && verdict.phase != "idle"
}

/// Sampled in one of the symbols that a recording and an idle one are compared by.
fn is_compared(verdict: Verdict, steady: bool) -> bool {
    is_poll(verdict) && (verdict.steady || !steady)
}

/// A thread's samples in one state.
#[derive(Clone, Debug, Default)]
struct Stratum {
    all: Weighed,
    /// By phase, those in poll symbols apart; where the thread is compared with an idle one, only those in the symbols
    /// that are compared.
    phases: BTreeMap<(&'static str, bool), f64>,
    /// Those in functions that are never seen when the thread is idle.
    never_idle: f64,
}

/// Samples by thread and state.
struct Samples(BTreeMap<(usize, usize), Stratum>);

const NO_PROBES: usize = 3;

impl Samples {
    fn of(profile: &Profile, idle: Option<&Idle>) -> Samples {
        let mut strata: BTreeMap<(usize, usize), Stratum> = BTreeMap::new();
        for (&(thread, root, node), weight) in &profile.weights {
            let state = match root {
                Root::Useful => PollState::Working as usize,
                Root::EmptyPolling => PollState::EmptyPolling as usize,
                Root::Unknown => PollState::Unknown as usize,
                Root::NoProbes | Root::UsefulEstimated | Root::EmptyPollingEstimated => NO_PROBES,
            };
            let verdict = profile.stacks.verdict(node);
            let foreign = profile.threads[thread].foreign;
            let phase = if foreign { OTHER } else { verdict.phase };
            let stratum = strata.entry((thread, state)).or_default();
            stratum
                .all
                .add_squares(weight.weight as f64, weight.squares);
            let mix = idle.and_then(|i| i.roles.get(idle_key(&profile.threads[thread])));
            let polls = match mix {
                Some(mix) if state == NO_PROBES => is_compared(verdict, mix.steady),
                _ => is_poll(verdict),
            };
            let key = (phase, polls && !foreign);
            *stratum.phases.entry(key).or_default() += weight.weight as f64;
            let leaf = profile.stacks.innermost_first(node).next();
            if let (Some(mix), Some(leaf), false) = (mix, leaf, verdict.polls)
                && !mix.functions.contains_key(&profile.stacks.get(leaf).name)
            {
                stratum.never_idle += weight.weight as f64;
            }
        }
        Samples(strata)
    }

    fn get(&self, thread: usize) -> impl Fn(usize) -> Stratum + '_ {
        move |state| self.0.get(&(thread, state)).cloned().unwrap_or_default()
    }
}

/// Entries in the making.
#[derive(Default)]
struct Entries(BTreeMap<&'static str, Entry>);

impl Entries {
    /// Adds `cycles` x `share` to a phase; errors of parts that were sampled apart add up as squares.
    fn add(&mut self, phase: &'static str, cycles: f64, share: Share, basis: Basis) {
        let phase = if phase == UNKNOWN { UNACCOUNTED } else { phase };
        let part = Entry {
            phase,
            cycles: cycles * share.value,
            low: cycles * share.low,
            high: cycles * share.high,
            basis,
        };
        self.merge(&part);
    }

    fn merge(&mut self, part: &Entry) {
        if part.cycles <= 0.0 {
            return;
        }
        let known = self.0.entry(part.phase).or_insert(Entry {
            cycles: 0.0,
            low: 0.0,
            high: 0.0,
            ..*part
        });
        let below = (known.cycles - known.low).hypot(part.cycles - part.low);
        let above = (known.high - known.cycles).hypot(part.high - part.cycles);
        known.cycles += part.cycles;
        known.low = (known.cycles - below).max(0.0);
        known.high = known.cycles + above;
        known.basis = known.basis.max(part.basis);
    }

    /// In the order of pictures, none above all there is.
    fn in_order(self, cycles: f64) -> Vec<Entry> {
        let place = |phase: &str| match phase {
            OFF_CPU => 0,
            EMPTY_POLL => 1,
            POLL_SIDE => 2,
            UNACCOUNTED => usize::MAX,
            phase => {
                3 + PHASES
                    .iter()
                    .position(|p| p.0 == phase)
                    .unwrap_or(PHASES.len())
            }
        };
        let mut entries: Vec<_> = self.0.into_values().collect();
        entries.sort_by_key(|e| place(e.phase));
        for entry in &mut entries {
            entry.high = entry.high.min(cycles).max(entry.cycles);
        }
        entries
    }
}

fn thread(
    profile: &Profile,
    row: &ThreadRow,
    stratum: impl Fn(usize) -> Stratum,
    idle: Option<&Idle>,
    timed: bool,
) -> Account {
    let mut entries = Entries::default();
    let mut estimate = None;
    let cycles;
    if timed {
        cycles = row.shares.total() as f64;
        let off: u64 = row.shares.off.iter().sum();
        entries.add(OFF_CPU, off as f64, Share::exact(1.0), Basis::Measured);
        let on = row.shares.on.map(|ticks| ticks as f64);
        if row.probes {
            let [working, empty, unknown] = on;
            let seen = seen(
                profile,
                on.iter().sum(),
                &[stratum(0), stratum(1), stratum(2)],
            );
            entries.add(UNACCOUNTED, working + unknown, seen.rest(), Basis::Sampled);
            divide(&mut entries, working * seen.value, &stratum(0), |_| true);
            poll(&mut entries, empty, &stratum(1));
            divide(&mut entries, unknown * seen.value, &stratum(2), |polls| {
                !polls
            });
        } else {
            let on = on.iter().sum::<f64>();
            let samples = stratum(NO_PROBES);
            let seen = seen(profile, on, std::slice::from_ref(&samples));
            entries.add(UNACCOUNTED, on, seen.rest(), Basis::Sampled);
            estimate = without_probes(&mut entries, on * seen.value, row, &samples, idle);
        }
    } else {
        let samples = stratum(NO_PROBES);
        cycles = samples.all.sum;
        estimate = without_probes(&mut entries, cycles, row, &samples, idle);
    }
    Account {
        level: Level::Thread,
        name: format!("{} {}/{}", row.name, row.pid, row.tid),
        role: row.role.clone(),
        threads: 1,
        estimate,
        cycles,
        entries: entries.in_order(cycles),
    }
}

/// The part of a thread's time on CPU that samples could see: all of it, unless the kernel was left out and samples are
/// taken by a clock, so that the missing ones tell how long the thread was there.
fn seen(profile: &Profile, on: f64, strata: &[Stratum]) -> Share {
    let ns = on * profile.ns_per_tick.unwrap_or(1.0);
    if !profile.user_only || !profile.is_time() || ns <= 0.0 {
        return Share::exact(1.0);
    }
    let mut all = Weighed::default();
    for stratum in strata {
        all.add_squares(stratum.all.sum, stratum.all.squares);
    }
    let period = all.squares / all.sum.max(1.0);
    Share::sampled(all.sum.min(ns), ns, ns / period.max(1.0))
}

/// Divides time by the phases of the samples in it; those that `known` refuses stay unaccounted.
fn divide(entries: &mut Entries, cycles: f64, samples: &Stratum, known: impl Fn(bool) -> bool) {
    if samples.all.sum <= 0.0 {
        entries.add(UNACCOUNTED, cycles, Share::exact(1.0), Basis::Sampled);
        return;
    }
    let mut by_phase: BTreeMap<&'static str, f64> = BTreeMap::new();
    for (&(phase, polls), &weight) in &samples.phases {
        let phase = if known(polls) { phase } else { UNKNOWN };
        *by_phase.entry(phase).or_default() += weight;
    }
    for (phase, weight) in by_phase {
        let share = Share::sampled(weight, samples.all.sum, samples.all.effective());
        entries.add(phase, cycles, share, Basis::Sampled);
    }
}

/// Divides time of empty polling: interrupts and side polls in it are told apart, all else is polling.
fn poll(entries: &mut Entries, cycles: f64, samples: &Stratum) {
    let mut inside = 0.0;
    for phase in INSIDE_POLLING {
        let weights = samples.phases.iter().filter(|((p, _), _)| p == phase);
        let weight: f64 = weights.map(|(_, w)| w).sum();
        if weight > 0.0 {
            let share = Share::sampled(weight, samples.all.sum, samples.all.effective());
            entries.add(phase, cycles, share, Basis::Sampled);
            inside += weight;
        }
    }
    let (share, basis) = if inside > 0.0 {
        let inside = Share::sampled(inside, samples.all.sum, samples.all.effective());
        (inside.rest(), Basis::Sampled)
    } else {
        (Share::exact(1.0), Basis::Measured)
    };
    entries.add(EMPTY_POLL, cycles, share, basis);
}

/// Divides the time of a thread without probes; gives how empty polling was estimated if it had to be.
fn without_probes(
    entries: &mut Entries,
    cycles: f64,
    row: &ThreadRow,
    samples: &Stratum,
    idle: Option<&Idle>,
) -> Option<Estimate> {
    let Some(estimate) = row.estimate else {
        divide(entries, cycles, samples, |_| true);
        return None;
    };
    let (all, n) = (samples.all.sum, samples.all.effective());
    let mix = idle.and_then(|i| i.roles.get(idle_key(row)));
    let estimate = match mix {
        Some(mix) => {
            let compared = samples.phases.iter().filter(|((_, polls), _)| *polls);
            let compared: f64 = compared.map(|(_, w)| w).sum();
            let compared = Share::sampled(compared, all, n);
            Estimate {
                empty: mix.empty(compared, Share::sampled(samples.never_idle, all, n)),
                method: Method::Calibrated,
            }
        }
        None => estimate,
    };
    let no_mix = IdleMix::default();
    let mix = mix.unwrap_or(&no_mix);
    let mut others: BTreeMap<&'static str, Share> = BTreeMap::new();
    let mut side = 0.0;
    for (&(phase, polls), &weight) in &samples.phases {
        if polls {
            side += if phase == POLL_SIDE { weight } else { 0.0 };
            continue;
        }
        // What polling itself takes in this phase, as it does when there is nothing else.
        let of_idle = mix.others.get(phase).copied().unwrap_or(0.0) / mix.all.sum.max(1.0);
        let taken = of_idle * estimate.empty.value;
        let error = of_idle * (estimate.empty.high - estimate.empty.low) / 2.0;
        let share = Share::sampled(weight, all, n);
        let value = (share.value - taken).max(0.0);
        let left = Share {
            value,
            low: (value - (share.value - share.low).hypot(error)).max(0.0),
            high: value + (share.high - share.value).hypot(error),
        };
        others.insert(phase, left);
    }
    let rest: f64 = others.values().map(|s| s.value).sum();
    let work = 1.0 - estimate.empty.value;
    let scale = if rest > 0.0 { work / rest } else { 0.0 };
    for (phase, share) in others {
        let scaled = Share {
            value: share.value * scale,
            low: share.low * scale,
            high: share.high * scale,
        };
        let basis = if mix.others.contains_key(phase) {
            Basis::Estimated
        } else {
            Basis::Sampled
        };
        entries.add(phase, cycles, scaled, basis);
    }
    if rest <= 0.0 {
        entries.add(UNACCOUNTED, cycles, Share::exact(work), Basis::Estimated);
    }
    let polls: f64 = samples
        .phases
        .iter()
        .filter(|((_, p), _)| *p)
        .map(|(_, w)| w)
        .sum();
    let side = side / polls.max(1.0);
    for (phase, part) in [(POLL_SIDE, side), (EMPTY_POLL, 1.0 - side)] {
        entries.add(phase, cycles * part, estimate.empty, Basis::Estimated);
    }
    Some(estimate)
}

fn sum(level: Level, name: &str, accounts: &[&Account]) -> Account {
    let mut entries = Entries::default();
    accounts
        .iter()
        .flat_map(|a| &a.entries)
        .for_each(|e| entries.merge(e));
    let cycles = accounts.iter().map(|a| a.cycles).sum();
    let methods = accounts.iter().filter_map(|a| a.estimate).map(|e| e.method);
    let method = methods.min();
    let entries = entries.in_order(cycles);
    let all = f64::max(cycles, f64::MIN_POSITIVE);
    let polling = entries
        .iter()
        .filter(|e| [EMPTY_POLL, POLL_SIDE].contains(&e.phase));
    let empty = polling.fold(Share::default(), |sum, e| Share {
        value: sum.value + e.cycles / all,
        low: sum.low + e.low / all,
        high: (sum.high + e.high / all).min(1.0),
    });
    Account {
        level,
        name: name.to_owned(),
        role: if level == Level::Role {
            name.to_owned()
        } else {
            String::new()
        },
        threads: accounts.len(),
        estimate: method.map(|method| Estimate { empty, method }),
        cycles,
        entries,
    }
}

/// What an entry's name means.
pub fn meaning(phase: &str) -> &'static str {
    match phase {
        OFF_CPU => "blocked, or able to run and not running",
        EMPTY_POLL => "rounds of the loop that found nothing to do",
        UNACCOUNTED => "on a CPU; no sample, rule or event tells what for",
        phase => {
            let known = phases::PHASES.iter().find(|p| p.0 == phase);
            known.map_or("", |p| p.1)
        }
    }
}
