//! What rules look at: plain numbers, so that a rule can be tried with any.
//!
//! In: a profile, its ledger, its spans; out: shares by phase, role and function, and stages of requests.

use crate::analyse::ledger::{Account, Ledger, Level};
use crate::analyse::packs::glob::{Glob, plain};
use crate::analyse::profile::{Grouping, Profile};
use crate::analyse::spans::{BEHIND, STAGES, Spans, TCP_IN};
use std::collections::BTreeMap;

/// A function's share of all samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Function {
    /// Ended in it.
    pub own: f64,
    /// Ended in it or in what it called.
    pub total: f64,
}

/// A role's part.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Role {
    /// Its part of all threads' time.
    pub share: f64,
    /// Share of its time that is work, the recorder's own left out.
    pub busy: f64,
    /// Shares of its time by phase.
    pub phases: BTreeMap<String, f64>,
}

/// A thread's part.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Thread {
    /// Its name.
    pub name: String,
    /// Share of its time that is work, the recorder's own left out.
    pub busy: f64,
    /// Share of its time in which it polled for nothing or idled.
    pub nothing: f64,
    /// Share of its time off CPU.
    pub off_cpu: f64,
    /// Shares of its time by phase.
    pub phases: BTreeMap<String, f64>,
}

/// Threads of one role, one of which works far more than half of the others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Uneven {
    /// The role.
    pub role: String,
    /// Its threads.
    pub threads: usize,
    /// The name of the busiest, and how busy it is.
    pub most: (String, f64),
    /// How busy the idler half of them is on average.
    pub least: f64,
    /// Work that would move if all did the same, as a share of all threads' time.
    pub moves: f64,
}

/// What is known of events.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Events {
    /// There are none.
    None,
    /// They tell no request from its beginning to its end.
    NoRequests,
    /// This share of them was lost.
    Lost(f64),
    /// All are there but for a few.
    Whole,
}

/// What is known of a recording, in shares of 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The published stack that the one recorded is, or works like.
    pub stack: String,
    /// Whether empty polling is an estimate.
    pub estimated: bool,
    /// Work's share of the time of all threads, foreign ones left out.
    pub busy: f64,
    /// Shares of all threads' time by phase.
    pub phases: BTreeMap<String, f64>,
    /// By role.
    pub roles: BTreeMap<String, Role>,
    /// The thread that has the least room left; `None` where times are not known.
    pub busiest: Option<Thread>,
    /// By function.
    pub functions: BTreeMap<String, Function>,
    /// All threads' time, off CPU included, in ns for each request; `None` without requests.
    pub ns_per_request: Option<f64>,
    /// Mean length of each stage of requests in ns, and how many requests had it.
    pub stages: BTreeMap<&'static str, (f64, u64)>,
    /// Mean ns from a request's end to its connection's next one, and its share of connections' time; `None` where requests
    /// are not told from the device or the stack on: then a kernel's part of them would be in it.
    pub outside: Option<(f64, f64)>,
    /// Requests told from beginning to end.
    pub requests: u64,
    /// Segments with nothing but an ACK, for each request.
    pub acks_per_request: f64,
    /// Segments that were sent again, for each request.
    pub retransmissions_per_request: f64,
    /// Packets that left a fast path, for each request.
    pub detours_per_request: f64,
    /// Times that a flow had to send and did not.
    pub stalls: u64,
    /// Frames in a receive burst and in a transmit burst, on average; `None` without bursts.
    pub bursts: Option<[f64; 2]>,
    /// Where threads of one role do not share its work evenly, the role where they do it least.
    pub uneven: Option<Uneven>,
    /// Share of the requests that were handled by another thread than the one that received them.
    pub crossed: f64,
    /// Share of transmit bursts that a timer let go.
    pub timer_bursts: f64,
    /// Time of all requests in which others were handled before them, as a share of their whole time.
    pub behind: BTreeMap<&'static str, f64>,
    /// Samples of what is no other program's; `None` where it was not asked.
    pub samples: Option<u64>,
    /// Which events there are; likewise.
    pub events: Option<Events>,
    /// The kernel was not sampled.
    pub kernel_unseen: bool,
}

impl Facts {
    /// From a profile and what was made of it.
    pub fn of(profile: &Profile, ledger: &Ledger, spans: Option<&Spans>) -> Facts {
        let program = ledger.program();
        // Where there are no times, a thread that is never seen polling is busy in all of its samples, which says
        // nothing.
        let tells = |a: &&Account| a.level == Level::Role && (ledger.timed || a.estimate.is_some());
        let roles = ledger.accounts.iter().filter(tells).map(|account| {
            let role = Role {
                share: account.cycles / program.cycles.max(f64::MIN_POSITIVE),
                busy: work(account).unwrap_or(0.0),
                phases: shares(account),
            };
            (account.name.clone(), role)
        });
        let functions = profile.rows(Grouping::Symbol).into_iter().map(|row| {
            let function = Function {
                own: row.own,
                total: row.total,
            };
            (plain(&row.name).to_owned(), function)
        });
        let mut facts = Facts {
            stack: profile.architecture.clone(),
            busiest: busiest(ledger),
            uneven: uneven(ledger),
            estimated: program.estimate.is_some(),
            busy: program.busy().unwrap_or(0.0),
            phases: shares(program),
            roles: roles.collect(),
            functions: functions.collect(),
            ns_per_request: ledger
                .ns_per_cycle
                .filter(|_| ledger.work.requests > 0)
                .map(|ns| program.cycles * ns / ledger.work.requests as f64),
            samples: Some(samples(profile)),
            events: spans.map(events),
            kernel_unseen: profile.user_only,
            ..Facts::default()
        };
        if let Some(spans) = spans {
            facts.stalls = spans.counts.stalls;
            let told = spans.bursts.iter().all(|b| !b.is_empty());
            facts.bursts = told.then(|| [0, 1].map(|way| spans.bursts[way].mean()));
        }
        if let Some(spans) = spans.filter(|s| s.counts.complete > 0) {
            facts.requests = spans.counts.complete;
            facts.acks_per_request = spans.counts.acks as f64 / spans.counts.complete as f64;
            let all = spans.counts.complete as f64;
            facts.retransmissions_per_request = spans.counts.retransmissions as f64 / all;
            facts.detours_per_request = spans.counts.detours as f64 / all;
            facts.crossed = spans.counts.crossed as f64 / all;
            let bursts: u64 = spans.counts.triggers.iter().sum();
            let from_the_stack = spans.stages[TCP_IN].len() as f64 >= TOLD * all;
            let outside = spans.outside_share().filter(|_| from_the_stack);
            facts.outside = outside.map(|share| (spans.outside.mean(), share));
            facts.timer_bursts = spans.counts.triggers[2] as f64 / bursts.max(1) as f64;
            let total = spans.stages.last().map_or(0.0, |t| t.mean() * all);
            for (whom, histogram) in BEHIND.iter().zip(&spans.behind) {
                let sum = histogram.mean() * histogram.len() as f64;
                facts.behind.insert(whom.name, sum / total.max(1.0));
            }
            for (stage, histogram) in STAGES.iter().zip(&spans.stages) {
                if !histogram.is_empty() {
                    facts
                        .stages
                        .insert(stage.name, (histogram.mean(), histogram.len()));
                }
            }
        }
        facts
    }

    /// Requests' time in stages together: as a share and in ns, of those stages that there are.
    pub fn stages(&self, names: &[&str]) -> (f64, f64) {
        let there = names.iter().filter_map(|name| self.stage(name));
        there.fold((0.0, 0.0), |sum, stage| (sum.0 + stage.0, sum.1 + stage.1))
    }

    /// The share of a phase; 0 if there is none.
    pub fn phase(&self, phase: &str) -> f64 {
        self.phases.get(phase).copied().unwrap_or(0.0)
    }

    /// The shares of several phases together.
    pub fn phases(&self, phases: &[&str]) -> f64 {
        phases.iter().map(|p| self.phase(p)).sum()
    }

    /// The share of samples that ended in functions of these patterns.
    pub fn own(&self, patterns: &[&str]) -> f64 {
        let globs: Vec<_> = patterns.iter().map(|p| Glob::new(p)).collect();
        let fits = |name: &str| globs.iter().any(|g| g.fits(name));
        let named = self.functions.iter().filter(|(name, _)| fits(name));
        named.map(|(_, f)| f.own).sum()
    }

    /// The share of samples that passed through the function of a pattern with most of them.
    pub fn below(&self, pattern: &str) -> f64 {
        let glob = Glob::new(pattern);
        let named = self.functions.iter().filter(|(name, _)| glob.fits(name));
        named.map(|(_, f)| f.total).fold(0.0, f64::max)
    }

    /// The share of samples that ended in the so many functions with most of them.
    pub fn top(&self, count: usize) -> f64 {
        let mut own: Vec<f64> = self.functions.values().map(|f| f.own).collect();
        own.sort_unstable_by(|a, b| b.total_cmp(a));
        own.iter().take(count).sum()
    }

    /// Share of the time with nothing to do: polling or idle, off CPU left out.
    pub fn nothing(&self) -> f64 {
        self.phases(&["empty_poll", "poll.side", "idle"])
    }

    /// A stage's mean as a share of the mean whole way, and in ns.
    pub fn stage(&self, name: &str) -> Option<(f64, f64)> {
        let (mean, count) = self.stages.get(name)?;
        let (total, all) = self.stages.get("total")?;
        let sum = mean * *count as f64;
        Some((
            sum / (total * *all as f64).max(1.0),
            sum / (*all).max(1) as f64,
        ))
    }
}

/// So much of all events may be lost without a word.
const FEW_LOST: f64 = 0.001;

/// Samples of what is no other program's.
fn samples(profile: &Profile) -> u64 {
    let threads = profile.threads.iter();
    let own = threads.filter(|t| t.role != "foreign");
    own.map(|t| t.samples).sum()
}

fn events(spans: &Spans) -> Events {
    let (trust, counts) = (&spans.trust, &spans.counts);
    let slots = trust.events.saturating_add(trust.dropped);
    let lost = trust.dropped as f64 / slots.max(1) as f64;
    match trust.rings {
        0 => Events::None,
        _ if lost > FEW_LOST => Events::Lost(lost),
        _ if counts.complete == 0 => Events::NoRequests,
        _ => Events::Whole,
    }
}

/// Shares of an account's time by phase.
fn shares(account: &Account) -> BTreeMap<String, f64> {
    let entries = account.entries.iter();
    entries
        .map(|e| (e.phase.to_owned(), account.share(e).value))
        .collect()
}

/// Share of an account's phases of these names.
fn share_of(account: &Account, phases: &[&str]) -> f64 {
    let own = account.entries.iter();
    let own = own.filter(|e| phases.contains(&e.phase));
    own.fold(0.0, |sum, e| sum + account.share(e).value)
        .max(0.0)
}

/// Share of an account's time that is work, whoever it is of: what is told of roles and of threads compares. What the
/// recorder takes is room that is there without it.
fn work(account: &Account) -> Option<f64> {
    Some((account.busy()? - share_of(account, &["recorder"])).max(0.0))
}

/// The thread that is busiest, where its times are known.
fn busiest(ledger: &Ledger) -> Option<Thread> {
    let known = (ledger.accounts.iter())
        .filter(|a| a.level == Level::Thread && ledger.timed && a.role != "foreign");
    let threads = known.filter_map(|account| {
        Some(Thread {
            name: account.name.split(' ').next()?.to_owned(),
            busy: work(account)?,
            nothing: share_of(account, &["empty_poll", "poll.side", "idle"]),
            off_cpu: share_of(account, &["off_cpu"]),
            phases: shares(account),
        })
    });
    threads.max_by(|a, b| a.busy.total_cmp(&b.busy))
}

/// The part of all requests that has to have a stage for it to be a stage of all.
const TOLD: f64 = 0.9;

/// The busiest thread of a role is busy at least so much where its work is called uneven, and so many times as much as
/// the idler half.
const UNEVEN: (f64, f64) = (0.5, 3.0);
/// A thread that is on a CPU for less than this has no part in its role's work.
const PART: f64 = 0.01;

/// The role that shares its work least evenly.
fn uneven(ledger: &Ledger) -> Option<Uneven> {
    let all = ledger.program().cycles.max(f64::MIN_POSITIVE);
    let tells = |a: &&Account| ledger.timed || a.estimate.is_some();
    let mut roles: BTreeMap<&str, Vec<(&str, f64, f64)>> = BTreeMap::new();
    let threads = ledger.accounts.iter().filter(|a| a.level == Level::Thread);
    for account in threads.filter(tells) {
        let takes_part = share_of(account, &["off_cpu"]) < 1.0 - PART;
        if let Some(busy) = work(account).filter(|_| takes_part) {
            let thread = (account.name.as_str(), busy, account.cycles);
            roles.entry(&account.role).or_default().push(thread);
        }
    }
    let told = roles
        .into_iter()
        .filter(|(role, threads)| !matches!(*role, "" | "foreign") && threads.len() > 1);
    let told = told.filter_map(|(role, mut threads)| {
        threads.sort_by(|a, b| a.1.total_cmp(&b.1));
        let (name, most, _) = *threads.last()?;
        let half = &threads[..threads.len() / 2];
        let least = half.iter().map(|t| t.1).sum::<f64>() / half.len() as f64;
        let mean = threads.iter().map(|t| t.1).sum::<f64>() / threads.len() as f64;
        let over = threads.iter().map(|t| (t.1 - mean).max(0.0) * t.2);
        (most >= UNEVEN.0 && most >= UNEVEN.1 * least).then(|| Uneven {
            role: role.to_owned(),
            threads: threads.len(),
            most: (name.split(' ').next().unwrap_or(name).to_owned(), most),
            least,
            moves: over.sum::<f64>() / all,
        })
    });
    told.max_by(|a, b| a.moves.total_cmp(&b.moves))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyse::explain::explain;
    use crate::analyse::ledger::{Basis, Entry};
    use crate::analyse::spans::Pass;
    use crate::analyse::{Filter, Packs};
    use crate::trace::record::{Meta, Ring};
    use bypassprof_wire::{Flow, Point, Slot, Tsc, points};

    fn entry(phase: &'static str, cycles: f64) -> Entry {
        Entry {
            phase,
            cycles,
            low: cycles,
            high: cycles,
            basis: Basis::Sampled,
        }
    }

    /// One that is on a CPU for all of its 100 cycles.
    fn account(level: Level, name: &str, busy: f64, recorder: f64) -> Account {
        Account {
            level,
            name: name.to_owned(),
            role: "loop".to_owned(),
            threads: 1,
            estimate: None,
            cycles: 100.0,
            entries: vec![
                entry("empty_poll", 100.0 - busy - recorder),
                entry("app", busy),
                entry("recorder", recorder),
            ],
            counts: BTreeMap::new(),
        }
    }

    fn facts(accounts: Vec<Account>) -> Facts {
        let ledger = Ledger {
            accounts,
            timed: true,
            ..Ledger::of(&Profile::default(), None)
        };
        Facts {
            requests: 1000,
            ..Facts::of(&Profile::default(), &ledger, None)
        }
    }

    /// A role of one thread and this thread are equally busy: not both close to all that they can do and with room left.
    #[test]
    fn role_and_thread_agree() {
        for recorder in [0.0, 4.0, 8.0] {
            let busy = 88.0 - recorder;
            let found = explain(&facts(vec![
                account(Level::Program, "program", busy, recorder),
                account(Level::Role, "loop", busy, recorder),
                account(Level::Thread, "loop 1/1", busy, recorder),
            ]));
            let told: Vec<_> = found.iter().map(|f| f.id).collect();
            let told = told.iter().filter(|id| ["H1", "H2"].contains(id));
            assert_eq!(told.count(), 1, "{recorder}: {found:?}");
        }
    }

    /// What lies between requests is the client's and the link's only where requests are told from the stack on.
    #[test]
    fn outside_of_what() {
        let outside = |point: Point| {
            let ring = Ring {
                base_tsc: 1,
                ..Ring::default()
            };
            let packs = Packs::built_in();
            let mut pass = Pass::new(&[Meta::Ring(ring)], &packs, Filter::default(), 0);
            let mut slots = Vec::new();
            for tsc in [1000, 2000] {
                let at =
                    |tsc, point, arg| Slot::head(Tsc::from_raw(tsc), point, Flow::from_raw(5), arg);
                let stack_tells = point == points::TCP_IN;
                slots.push(at(tsc, point, 1));
                if stack_tells {
                    slots.push(Slot::cont(100, 0, 0));
                    slots.push(at(tsc + 10, points::DELIVER, 100));
                }
                slots.push(at(tsc + 30, points::APP_START, 1));
                slots.push(at(tsc + 100, points::APP_END, 500));
                if stack_tells {
                    slots.push(at(tsc + 100, points::TCP_OUT, 1));
                    slots.push(Slot::cont(500, 0, 0));
                }
            }
            pass.slots(0, 0, &slots);
            let spans = pass.finish(None);
            assert_eq!((spans.counts.complete, spans.outside.len()), (2, 1));
            let ledger = Ledger::of(&Profile::default(), None);
            Facts::of(&Profile::default(), &ledger, Some(&spans)).outside
        };
        assert_eq!(outside(points::TCP_IN), Some((900.0, 0.9)));
        assert_eq!(outside(points::DELIVER), None);
    }

    /// Of four threads of a role one has most of the work: told, with the work that would move. Where all have the same, or
    /// the others are never on a CPU, there is nothing to share out.
    #[test]
    fn uneven_roles() {
        let of = |busy: [f64; 4]| {
            let threads = (1..).zip(busy).map(|(tid, busy)| {
                account(Level::Thread, &format!("loop-{tid} 1/{tid}"), busy, 0.0)
            });
            let mut program = account(Level::Program, "program", 0.0, 0.0);
            program.cycles = 400.0;
            facts(std::iter::once(program).chain(threads).collect()).uneven
        };
        let found = of([10.0, 10.0, 90.0, 10.0]).unwrap();
        assert_eq!((found.role.as_str(), found.threads), ("loop", 4));
        assert_eq!(found.most, ("loop-3".to_owned(), 0.9));
        assert!((found.least - 0.1).abs() < 1e-9, "{found:?}");
        // 30 percent is the mean, 60 percent of one thread in four are above it.
        assert!((found.moves - 0.15).abs() < 1e-9, "{found:?}");
        assert_eq!(of([80.0, 70.0, 90.0, 60.0]), None);
        assert_eq!(of([10.0, 10.0, 40.0, 10.0]), None);
        let mut asleep = account(Level::Thread, "main 1/1", 0.0, 0.0);
        asleep.entries = vec![entry("off_cpu", 100.0)];
        let program = account(Level::Program, "program", 90.0, 0.0);
        let busy = account(Level::Thread, "loop 1/2", 90.0, 0.0);
        assert_eq!(facts(vec![program, asleep, busy]).uneven, None);
    }
}
