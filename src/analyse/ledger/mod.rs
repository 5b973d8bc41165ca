//! Where all of the time went: each thread's, each role's and the whole program's cycles by phase, adding up to 100 %.
//!
//! In: a classified [`Profile`], and if there is one an [`Idle`] recording of the same program; out: a [`Ledger`]. Time
//! off CPU and of empty polling is measured where switches and probes bound it; inside of it samples divide, with 95 %
//! intervals; without probes empty polling is an estimate and says so. What no one can tell is a row of its own. It
//! refuses to spread what is unknown over the rest.

pub mod counters;
mod divide;
mod samples;

use super::estimate::{Estimate, Idle, Share};
use super::grouped::add;
use super::phases::{self, OTHER, POLL_SIDE};
use super::profile::{Profile, Work};
use super::trust::Trust;
use counters::Counts;
use divide::{Entries, thread};
use samples::Samples;
use std::collections::BTreeMap;

/// Blocked, or able to run and not running.
pub const OFF_CPU: &str = "off_cpu";
/// Rounds that found nothing to do.
pub const EMPTY_POLL: &str = "empty_poll";
/// On a CPU, and no one can tell what for.
pub const UNACCOUNTED: &str = "unaccounted";

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
    /// What each of [`Ledger::counters`] counted, by the name of an entry.
    pub counts: Counts,
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

    /// What was counted in all, for each of [`Ledger::counters`].
    pub fn counted(&self) -> Vec<u64> {
        let mut all = Vec::new();
        self.counts
            .values()
            .for_each(|of_row| add(&mut all, of_row));
        all
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
    /// It and the other counters of its group; empty without others.
    pub counters: Vec<String>,
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
        let mut counted = counters::by_thread(profile);
        let threads: Vec<Account> = (profile.threads.iter().enumerate())
            .map(|(at, row)| {
                let counts = counted.remove(&at).unwrap_or_default();
                thread(profile, row, samples.get(at), idle, timed, counts)
            })
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
            counters: profile.grouped.names.clone(),
            packs: profile.packs.clone(),
            trust: profile.trust.clone(),
        }
    }

    /// The program's account.
    pub fn program(&self) -> &Account {
        &self.accounts[0]
    }
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
        counts: counters::sum(accounts),
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
