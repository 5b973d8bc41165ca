//! Why one recording is slower than another: rules that take the contributions of a [`Comparison`] and name their cause.
//!
//! In: a comparison and the stacks of both sides; out: [`Cause`]s, each with the pieces of the gap that it speaks about.
//! A piece is given to one rule only, the first in the table whose evidence is there; what no rule takes is named after
//! its phase or stage; what is not believed to differ is left together as noise. So causes and noise add up to the gap.
//! It refuses to name a cause for a difference that is not there.

use super::Confidence;
use crate::analyse::compare::tally::Counted;
use crate::analyse::compare::{Change, Comparison, Contribution, Gap, Sort, Unit};
use crate::analyse::ledger::Basis;
use crate::analyse::profile::Profile;
use crate::analyse::stacks::Frame;
use std::collections::BTreeMap;

/// Which gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Of {
    /// Work on CPUs.
    Work,
    /// Latency.
    Latency,
}

impl Of {
    /// The name in outputs.
    pub fn name(self) -> &'static str {
        match self {
            Of::Work => "work",
            Of::Latency => "latency",
        }
    }
}

/// A piece of a contribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Piece {
    /// What goes with how often it is done.
    ByCount,
    /// The rest: the price of each, or all of it where nothing is counted.
    Rest,
}

/// What rules look at.
pub struct Pair<'a> {
    /// The gap.
    pub comparison: &'a Comparison,
    /// Both sides' stacks: their first packs.
    pub stacks: [&'a str; 2],
}

impl Pair<'_> {
    fn count(&self, what: Counted) -> Option<&Change> {
        let counts = self.comparison.counts.iter();
        counts.filter(|(w, _)| *w == what).map(|(_, c)| c).next()
    }

    /// A line about a count that is believed to have changed.
    fn counted(&self, what: Counted) -> Option<String> {
        let change = self.count(what).filter(|c| c.believed)?;
        Some(format!(
            "{} a request: {:.2} -> {:.2}",
            what.name(),
            change.a,
            change.b
        ))
    }

    /// The change of a count if it is believed and goes the way that the gap's pieces go.
    fn moved(&self, what: Counted, way: f64) -> Option<String> {
        let change = self.count(what)?;
        (change.by * way > 0.0)
            .then(|| self.counted(what))
            .flatten()
    }

    /// The stack of the side that has more.
    fn slower(&self, way: f64) -> &str {
        self.stacks[usize::from(way > 0.0)]
    }

    fn gap(&self, of: Of) -> Option<&Gap> {
        match of {
            Of::Work => Some(&self.comparison.work),
            Of::Latency => self.comparison.latency.as_ref(),
        }
    }
}

/// What a recording's stack is called by rules: its first pack, or where that is the one of this project's servers, the
/// architecture whose functions were sampled.
pub fn stack_of(profile: &Profile) -> String {
    let pack = profile.packs.first().cloned().unwrap_or_default();
    if pack != "servers" {
        return pack;
    }
    let own = ["fstack", "mtcp", "ix", "tas"];
    let seen = own.iter().find(|name| {
        let part = format!("stack_{name}::");
        let named = |frame: &Frame| frame.name.contains(&part);
        profile.stacks.frames().iter().any(named)
    });
    seen.map_or(pack, |name| (*name).to_owned())
}

/// A rule: which pieces it speaks about, and whether the evidence is there.
pub struct Rule {
    /// Its name: as in design/stacks.md section 10 where it is one of those, `C` for others.
    pub id: &'static str,
    /// Stacks of the side that has more; empty: any.
    pub stacks: &'static [&'static str],
    /// What that side does, as the end of a sentence.
    pub title: &'static str,
    /// What to try.
    pub advice: &'static str,
    /// The gap that it is about.
    pub of: Of,
    /// Pieces that it takes if they go the same way.
    pub takes: &'static [(&'static str, Piece)],
    /// Evidence besides the pieces themselves, where `way` is the sign of what it takes; `None`: it is not there.
    pub check: fn(&Pair<'_>, f64) -> Option<Vec<String>>,
}

/// A cause of a gap, or of a part that makes up for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    /// The rule's name; `P` for a phase and `W` for a stage that no rule speaks about.
    pub id: &'static str,
    /// What the side with more does.
    pub title: String,
    /// What to try.
    pub advice: &'static str,
    /// Which gap it is a part of.
    pub of: Of,
    /// How much of the gap, in its unit: positive if the second side has more.
    pub size: f64,
    /// How sure: of the size, by how its pieces are known.
    pub confidence: Confidence,
    /// What it rests on, a line each.
    pub evidence: Vec<String>,
}

/// The causes of one gap.
#[derive(Clone, Debug, PartialEq)]
pub struct Causes {
    /// Which gap.
    pub of: Of,
    /// The whole of it.
    pub gap: Change,
    /// Causes: what makes the slower side slower first, the largest first.
    pub causes: Vec<Cause>,
    /// What is left: contributions that are not believed to differ.
    pub noise: f64,
}

const ANY: &[&str] = &[];
use Piece::{ByCount, Rest};

/// All rules; the first whose evidence is there takes a piece.
pub const RULES: &[Rule] = &[
    Rule {
        id: "F1",
        stacks: &["fstack"],
        title: "lets replies wait for the timer that drains the transmit queue",
        advice: "a shorter drain delay (pkt_tx_delay 0)",
        of: Of::Latency,
        takes: &[("wait_drain", Rest)],
        check: |p, way| {
            let timer = p.count(Counted::TimerDrains)?;
            let more = if way > 0.0 { timer.b } else { timer.a };
            (more >= 0.01).then(|| {
                vec![format!(
                    "bursts sent by timer, a request: {:.2} -> {:.2}",
                    timer.a, timer.b
                )]
            })
        },
    },
    Rule {
        id: "M1",
        stacks: &["mtcp"],
        title: "hands each request over between two threads that sleep in between",
        advice: "I/O that spins instead of sleeping, or stack and application on one thread",
        of: Of::Latency,
        takes: &[("wait_wakeup", Rest), ("wait_send", Rest)],
        check: |p, way| Some(vec![p.moved(Counted::Wakes, way)?]),
    },
    Rule {
        id: "T1",
        stacks: &["tas"],
        title: "sends each request across cores through queues",
        advice: "nothing short of another division of work: `per_request` of compare has the age of what crosses",
        of: Of::Latency,
        takes: &[
            ("wait_handoff", Rest),
            ("wait_app", Rest),
            ("wait_send", Rest),
            ("wait_wakeup", Rest),
        ],
        check: |p, way| {
            let lines = [
                p.moved(Counted::Handoffs, way)?,
                p.moved(Counted::HandoffNs, way)?,
            ];
            Some(lines.to_vec())
        },
    },
    Rule {
        id: "IX1",
        stacks: ANY,
        title: "can send only a part of each reply at once: the rest waits for window or buffer",
        advice: "a larger send buffer or window",
        of: Of::Latency,
        takes: &[("wait_send", Rest)],
        check: |p, way| Some(vec![p.moved(Counted::ShortSends, way)?]),
    },
    Rule {
        id: "C1",
        stacks: ANY,
        title: "hands frames or requests over from the thread that received them to another",
        advice: "spread flows so that the queue they arrive on is their thread's (RSS key and table)",
        of: Of::Latency,
        takes: &[
            ("wait_handoff", Rest),
            ("receive", Rest),
            ("tcp_in", Rest),
            ("wait_app", Rest),
            ("wait_send", Rest),
        ],
        check: |p, way| {
            // Another stack hands over by design: no table mends that.
            let same = p.stacks[0] == p.stacks[1];
            same.then(|| p.moved(Counted::Handoffs, way).map(|line| vec![line]))?
        },
    },
    Rule {
        id: "C7",
        stacks: ANY,
        title: "hands each request over between threads, and it waits in between",
        advice: "stack and application on one thread, or a thread that spins for what is handed over",
        of: Of::Latency,
        takes: &[
            ("wait_handoff", Rest),
            ("wait_app", Rest),
            ("wait_send", Rest),
        ],
        check: |p, way| Some(vec![p.moved(Counted::Handoffs, way)?]),
    },
    Rule {
        id: "S1",
        stacks: ANY,
        title: "lets replies wait to be given to the device",
        advice: "a burst at the end of each round, or a shorter drain delay",
        of: Of::Latency,
        takes: &[("wait_drain", Rest)],
        check: |p, way| Some(p.moved(Counted::TxBursts, -way).into_iter().collect()),
    },
    Rule {
        id: "S2",
        stacks: ANY,
        title: "lets requests wait for the application's thread to wake up",
        advice: "poll for longer before sleeping, or keep stack and application on one thread",
        of: Of::Latency,
        takes: &[("wait_wakeup", Rest)],
        check: |p, way| Some(p.moved(Counted::Wakes, way).into_iter().collect()),
    },
    Rule {
        id: "S3",
        stacks: ANY,
        title: "lets requests wait for the application behind others",
        advice: "smaller batches, more threads, or less work for each request",
        of: Of::Latency,
        takes: &[("wait_app", Rest)],
        check: |p, way| Some(p.moved(Counted::RxBursts, -way).into_iter().collect()),
    },
    Rule {
        id: "S4",
        stacks: ANY,
        title: "lets replies wait in the stack after the application is done",
        advice: "a larger send buffer or window, or handing sends to the stack before the next turn",
        of: Of::Latency,
        takes: &[("wait_send", Rest)],
        check: |_, _| Some(Vec::new()),
    },
    Rule {
        id: "F4",
        stacks: &["fstack"],
        title: "sends more segments with nothing but an ACK: one for each request, beside the reply",
        advice: "delay ACKs so that they ride on the reply",
        of: Of::Work,
        takes: &[
            ("ack_only", ByCount),
            ("ack_only", Rest),
            ("eth_ip", ByCount),
            ("csum", ByCount),
        ],
        check: |p, way| Some(vec![p.moved(Counted::Acks, way)?]),
    },
    Rule {
        id: "M4",
        stacks: &["mtcp"],
        title: "sends its list of ACKs before the application has replied",
        advice: "delay ACKs until the application's thread has run",
        of: Of::Work,
        takes: &[
            ("ack_only", ByCount),
            ("ack_only", Rest),
            ("eth_ip", ByCount),
            ("csum", ByCount),
        ],
        check: |p, way| Some(vec![p.moved(Counted::Acks, way)?]),
    },
    Rule {
        id: "S5",
        stacks: ANY,
        title: "sends more segments with nothing but an ACK",
        advice: "delay ACKs so that they ride on the reply",
        of: Of::Work,
        takes: &[
            ("ack_only", ByCount),
            ("ack_only", Rest),
            ("eth_ip", ByCount),
            ("csum", ByCount),
        ],
        check: |p, way| Some(vec![p.moved(Counted::Acks, way)?]),
    },
    Rule {
        id: "C2",
        stacks: ANY,
        title: "goes to the device more often: fewer frames in each burst",
        advice: "larger bursts, or a burst at the end of each round",
        of: Of::Work,
        takes: &[("driver_rx", ByCount), ("driver_tx", ByCount)],
        check: |p, way| {
            let bursts = [Counted::RxBursts, Counted::TxBursts];
            let lines: Vec<_> = bursts.iter().filter_map(|w| p.moved(*w, way)).collect();
            (!lines.is_empty()).then_some(lines)
        },
    },
    Rule {
        id: "C3",
        stacks: ANY,
        title: "waits for locks",
        advice: "shorter holds, or a lock for each core",
        of: Of::Work,
        takes: &[("sync", ByCount), ("sync", Rest)],
        check: |p, way| {
            let waits = p.count(Counted::LockWaits)?;
            // A few waits that are long are waits for a holder that was preempted: asleep, not spinning.
            let often = waits.a.max(waits.b) >= 0.01;
            let lines = [
                p.moved(Counted::LockWaits, way)?,
                p.moved(Counted::LockNs, way)?,
            ];
            often.then(|| lines.to_vec())
        },
    },
    Rule {
        id: "C4",
        stacks: ANY,
        title: "wakes threads up: locks, scheduler and context switches",
        advice: "poll for longer before sleeping, or hand over in batches",
        of: Of::Work,
        takes: &[("sync", ByCount), ("sync", Rest)],
        check: |p, way| Some(vec![p.moved(Counted::Wakes, way)?]),
    },
    Rule {
        id: "C5",
        stacks: ANY,
        title: "copies more",
        advice: "`flamegraph --diff` shows who calls the copies; hand buffers over instead",
        of: Of::Work,
        takes: &[("copy", Rest)],
        check: |_, _| Some(Vec::new()),
    },
    Rule {
        id: "C6",
        stacks: ANY,
        title: "enters the kernel for more",
        advice: "batch system calls, or poll in user space",
        of: Of::Work,
        takes: &[("kernel_syscall", Rest)],
        check: |_, _| Some(Vec::new()),
    },
    Rule {
        id: "M3",
        stacks: ANY,
        title: "computes more checksums in software",
        advice: "checksum offload",
        of: Of::Work,
        takes: &[("csum", ByCount), ("csum", Rest)],
        check: |_, _| Some(Vec::new()),
    },
    Rule {
        id: "L2",
        stacks: ANY,
        title: "gets and gives back more memory",
        advice: "pools of buffers; segmentation offload, where it is for segments",
        of: Of::Work,
        takes: &[("alloc", Rest)],
        check: |_, _| Some(Vec::new()),
    },
];

/// The causes of both gaps.
pub fn across(pair: &Pair<'_>) -> Vec<Causes> {
    let gaps = [Of::Work, Of::Latency];
    gaps.iter()
        .filter_map(|&of| Some(causes(pair, of, pair.gap(of)?)))
        .collect()
}

fn causes(pair: &Pair<'_>, of: Of, gap: &Gap) -> Causes {
    let mut pool: BTreeMap<(&str, Piece), f64> = BTreeMap::new();
    let believed = |c: &&Contribution| c.change.believed && c.sort != Sort::Unaccounted;
    for contribution in gap.contributions.iter().filter(believed) {
        let by_count = contribution.split.map_or(0.0, |s| s.by_count);
        if by_count != 0.0 {
            pool.insert((contribution.cause, ByCount), by_count);
        }
        pool.insert(
            (contribution.cause, Rest),
            contribution.change.by - by_count,
        );
    }
    let unit = if of == Of::Latency {
        Unit::PerRequest
    } else {
        pair.comparison.unit
    };
    let mut causes: Vec<Cause> = RULES
        .iter()
        .filter(|rule| rule.of == of)
        .filter_map(|rule| apply(rule, pair, gap, unit, &mut pool))
        .collect();
    causes.extend(unnamed(of, gap, unit, &pool));
    let sign = if gap.change.by < 0.0 { -1.0 } else { 1.0 };
    causes.sort_by(|x, y| (sign * y.size).total_cmp(&(sign * x.size)));
    let told: f64 = causes.iter().map(|c| c.size).sum();
    Causes {
        of,
        gap: gap.change,
        causes,
        noise: gap.change.by - told,
    }
}

/// What a rule takes out of the pool, if its evidence is there: in either direction, the larger first.
fn apply(
    rule: &Rule,
    pair: &Pair<'_>,
    gap: &Gap,
    unit: Unit,
    pool: &mut BTreeMap<(&str, Piece), f64>,
) -> Option<Cause> {
    let sum: f64 = rule.takes.iter().filter_map(|key| pool.get(key)).sum();
    if sum == 0.0 {
        return None;
    }
    let way = sum.signum();
    if !rule.stacks.is_empty() && !rule.stacks.contains(&pair.slower(way)) {
        return None;
    }
    let mut evidence = (rule.check)(pair, way)?;
    let same_way = |key: &&(&'static str, Piece)| pool.get(*key).is_some_and(|p| p * way > 0.0);
    let taken: Vec<_> = rule.takes.iter().filter(same_way).copied().collect();
    let size = taken.iter().filter_map(|key| pool.remove(key)).sum();
    let mut confidence = Confidence::Measured;
    let mut rows: Vec<&str> = taken.iter().map(|key| key.0).collect();
    rows.dedup();
    for cause in rows {
        if let Some(row) = gap.contributions.iter().find(|c| c.cause == cause) {
            confidence = confidence.min(confidence_of(row.basis));
            evidence.push(row_line(row, unit));
        }
    }
    if taken.iter().all(|key| key.1 == ByCount) {
        // That each costs the same is a convention, no measurement.
        confidence = confidence.min(Confidence::Estimated);
    }
    Some(Cause {
        id: rule.id,
        title: rule.title.to_owned(),
        advice: rule.advice,
        of: rule.of,
        size,
        confidence,
        evidence,
    })
}

/// Pieces that no rule took, by phase or stage.
fn unnamed(of: Of, gap: &Gap, unit: Unit, pool: &BTreeMap<(&str, Piece), f64>) -> Vec<Cause> {
    let mut causes = Vec::new();
    for row in &gap.contributions {
        let pieces = [ByCount, Rest].map(|p| pool.get(&(row.cause, p)).copied());
        let size: f64 = pieces.iter().flatten().sum();
        if size == 0.0 {
            continue;
        }
        let part = if pieces[0].is_none() && row.split.is_some_and(|s| s.by_count != 0.0) {
            "takes longer each time in"
        } else {
            "takes longer in"
        };
        causes.push(Cause {
            id: if of == Of::Work { "P" } else { "W" },
            title: format!("{part} {}", row.cause),
            advice: if of == Of::Work {
                "`flamegraph --diff` shows the functions"
            } else {
                "`ledger` and `flamegraph --diff` show what is done there"
            },
            of,
            size,
            confidence: confidence_of(row.basis),
            evidence: vec![row_line(row, unit)],
        });
    }
    causes
}

fn confidence_of(basis: Basis) -> Confidence {
    match basis {
        Basis::Measured => Confidence::Measured,
        Basis::Sampled => Confidence::Sampled,
        Basis::Estimated => Confidence::Estimated,
    }
}

fn row_line(row: &Contribution, unit: Unit) -> String {
    let c = &row.change;
    match unit {
        Unit::PerRequest => format!(
            "{}: {:.0} -> {:.0} ns a request (95 %: {:+.0} to {:+.0})",
            row.cause, c.a, c.b, c.low, c.high
        ),
        Unit::Share => format!(
            "{}: {:.1} -> {:.1} % (95 %: {:+.1} to {:+.1})",
            row.cause,
            100.0 * c.a,
            100.0 * c.b,
            100.0 * c.low,
            100.0 * c.high
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyse::compare::Split;

    fn change(a: f64, b: f64) -> Change {
        Change {
            a,
            b,
            by: b - a,
            low: b - a - 1.0,
            high: b - a + 1.0,
            believed: (b - a).abs() > 2.0,
        }
    }

    fn counted(a: f64, b: f64) -> Change {
        Change {
            believed: a != b,
            ..change(a, b)
        }
    }

    fn gap(rows: &[(&'static str, f64, f64)], splits: &[(&str, Counted, f64, f64)]) -> Gap {
        let contributions = rows.iter().map(|&(cause, a, b)| Contribution {
            cause,
            sort: Sort::Work,
            change: change(a, b),
            basis: Basis::Sampled,
            split: splits.iter().find(|s| s.0 == cause).map(|s| Split {
                counted: s.1,
                times: [1.0, 2.0],
                by_count: s.2,
                by_price: s.3,
            }),
        });
        let sum = |of: fn(&(&str, f64, f64)) -> f64| rows.iter().map(of).sum();
        Gap {
            change: change(sum(|r| r.1), sum(|r| r.2)),
            basis: Basis::Measured,
            contributions: contributions.collect(),
        }
    }

    fn comparison(
        work: Gap,
        latency: &[(&'static str, f64, f64)],
        counts: &[(Counted, f64, f64)],
    ) -> Comparison {
        Comparison {
            unit: Unit::PerRequest,
            work,
            latency: Some(gap(latency, &[])),
            wall: None,
            no_work: Vec::new(),
            counts: counts.iter().map(|&(w, a, b)| (w, counted(a, b))).collect(),
        }
    }

    /// What each rule takes, the stack of the slower side, and its evidence: a count that moves.
    fn cases() -> Vec<(&'static str, &'static str, Comparison)> {
        let work = |row: &'static str, split: &[(&str, Counted, f64, f64)], counts: &[_]| {
            comparison(gap(&[(row, 100.0, 200.0)], split), &[], counts)
        };
        let waits = |row: &'static str, counts: &[_]| {
            comparison(gap(&[], &[]), &[(row, 100.0, 200.0)], counts)
        };
        let acks = [(Counted::Acks, 0.0, 1.0)];
        let wakes = [(Counted::Wakes, 0.0, 2.0)];
        let crossing = [
            (Counted::Handoffs, 0.0, 2.0),
            (Counted::HandoffNs, 0.0, 900.0),
        ];
        let locks = [(Counted::LockWaits, 0.0, 1.0), (Counted::LockNs, 0.0, 90.0)];
        let bursts = [(Counted::TxBursts, 0.1, 1.0)];
        let by_bursts = [("driver_tx", Counted::TxBursts, 100.0, 0.0)];
        vec![
            (
                "F1",
                "fstack",
                waits("wait_drain", &[(Counted::TimerDrains, 0.0, 1.0)]),
            ),
            ("M1", "mtcp", waits("wait_wakeup", &wakes)),
            ("T1", "tas", waits("wait_app", &crossing)),
            (
                "IX1",
                "ix",
                waits("wait_send", &[(Counted::ShortSends, 0.0, 2.0)]),
            ),
            ("C7", "ix", waits("wait_app", &crossing)),
            ("S1", "ix", waits("wait_drain", &[])),
            ("S2", "linux", waits("wait_wakeup", &[])),
            ("S3", "ix", waits("wait_app", &[])),
            ("S4", "ix", waits("wait_send", &[])),
            ("F4", "fstack", work("ack_only", &[], &acks)),
            ("M4", "mtcp", work("ack_only", &[], &acks)),
            ("S5", "tas", work("ack_only", &[], &acks)),
            ("C2", "ix", work("driver_tx", &by_bursts, &bursts)),
            ("C3", "ix", work("sync", &[], &locks)),
            ("C4", "linux", work("sync", &[], &wakes)),
            ("C5", "ix", work("copy", &[], &[])),
            ("C6", "ix", work("kernel_syscall", &[], &[])),
            ("M3", "ix", work("csum", &[], &[])),
            ("L2", "ix", work("alloc", &[], &[])),
        ]
    }

    fn found(stacks: [&str; 2], comparison: &Comparison) -> Vec<(&'static str, f64)> {
        let pair = Pair { comparison, stacks };
        let causes = across(&pair).into_iter().flat_map(|c| c.causes);
        causes.map(|c| (c.id, c.size)).collect()
    }

    /// Between two runs of one stack, what is handed over came in on the wrong queue; another stack does it by design.
    #[test]
    fn misdirected_flows() {
        let crossing = [
            (Counted::Handoffs, 0.0, 1.0),
            (Counted::HandoffNs, 0.0, 900.0),
        ];
        let waits = comparison(gap(&[], &[]), &[("receive", 100.0, 200.0)], &crossing);
        assert_eq!(found(["fstack", "fstack"], &waits), [("C1", 100.0)]);
        assert_eq!(found(["ix", "fstack"], &waits), [("W", 100.0)]);
        let rows = [("wait_handoff", 0.0, 50.0), ("receive", 100.0, 200.0)];
        let waits = comparison(gap(&[], &[]), &rows, &crossing);
        let stacks = ["fstack", "fstack"];
        let all = across(&Pair {
            comparison: &waits,
            stacks,
        });
        let [crossed] = &all[1].causes[..] else {
            panic!("one cause: {all:?}");
        };
        let told = crossed.evidence.iter();
        let told = told.filter(|line| line.starts_with("wait_handoff"));
        assert_eq!(told.count(), 1, "{crossed:?}");
    }

    /// Each rule speaks where its evidence is there, with all of the gap, whichever side has more; and has a case here.
    #[test]
    fn each_rule() {
        for (id, stack, forth) in cases() {
            assert_eq!(found(["x", stack], &forth), [(id, 100.0)], "{id}");
            let mut back = forth.clone();
            let swap = |c: &mut Change| {
                *c = Change {
                    believed: c.believed,
                    ..change(c.b, c.a)
                }
            };
            for gap in [Some(&mut back.work), back.latency.as_mut()]
                .into_iter()
                .flatten()
            {
                swap(&mut gap.change);
                gap.contributions
                    .iter_mut()
                    .for_each(|c| swap(&mut c.change));
                let splits = gap
                    .contributions
                    .iter_mut()
                    .filter_map(|c| c.split.as_mut());
                splits.for_each(|s| s.by_count = -s.by_count);
            }
            back.counts.iter_mut().for_each(|c| swap(&mut c.1));
            assert_eq!(found([stack, "x"], &back), [(id, -100.0)], "{id}");
        }
        for rule in RULES {
            let has = rule.id == "C1" || cases().iter().any(|c| c.0 == rule.id);
            assert!(has, "{} has no case", rule.id);
        }
    }

    /// Without evidence a rule is silent, and the piece is named after where it lies; rules of one stack say nothing of
    /// others.
    #[test]
    fn no_evidence_no_cause() {
        for (id, _, shows) in cases() {
            let rule = RULES.iter().find(|r| r.id == id).unwrap();
            if !rule.stacks.is_empty() {
                let others = found(["another", "another"], &shows);
                assert!(others.iter().all(|f| f.0 != id), "{id}: {others:?}");
            }
            let bare = Comparison {
                counts: Vec::new(),
                ..shows
            };
            let needs_counts = (rule.check)(
                &Pair {
                    comparison: &bare,
                    stacks: ["", ""],
                },
                1.0,
            );
            if needs_counts.is_none() {
                let stack = rule.stacks.first().copied().unwrap_or("x");
                let found = found(["x", stack], &bare);
                assert!(found.iter().all(|f| f.0 != id), "{id}: {found:?}");
                assert_eq!(found.iter().map(|f| f.1).sum::<f64>(), 100.0, "{id}");
            }
        }
    }

    /// More bursts and dearer ones are two causes; what is not believed is noise; all adds up.
    #[test]
    fn pieces_and_noise() {
        let splits = [("driver_tx", Counted::TxBursts, 70.0, 30.0)];
        let work = gap(&[("driver_tx", 100.0, 200.0), ("app", 50.0, 51.0)], &splits);
        let comparison = comparison(work, &[], &[(Counted::TxBursts, 0.5, 1.0)]);
        let pair = Pair {
            comparison: &comparison,
            stacks: ["ix", "ix"],
        };
        let all = across(&pair);
        let causes: Vec<_> = all[0].causes.iter().map(|c| (c.id, c.size)).collect();
        assert_eq!(causes, [("C2", 70.0), ("P", 30.0)]);
        assert_eq!(all[0].noise, 1.0);
        assert_eq!(all[0].causes[0].confidence, Confidence::Estimated);
        assert!(all[0].causes[1].title.contains("each time"), "{:?}", all[0]);
    }

    /// Nothing differs: no cause.
    #[test]
    fn noise_has_no_cause() {
        let work = gap(&[("app", 100.0, 101.0), ("sync", 5.0, 4.0)], &[]);
        let comparison = comparison(work, &[("app", 50.0, 51.0)], &[]);
        assert_eq!(found(["ix", "ix"], &comparison), []);
    }
}
