//! The published study's four statements, held against ours.
//!
//! In: a plan and the journal; out: for each statement whether it holds here, point by point, with intervals. Rules: the
//! row that is said to be best is compared with each of the other five; at a point the statement holds if every ratio's
//! 95 % interval lies above 1, it does not if one lies below 1, and otherwise nothing was decided. Two more rows that the
//! published study does not have take no part.

use super::figures::{self, Figure, Ratio};
use super::journal::Journal;
use super::plan::Plan;
use super::points::{Point, Workload};
use super::tables::sweeps;
use crate::markdown::grid;
use crate::site::Stack;

/// Fewer CPUs than these cannot tell how stacks use many: two servers that spin leave none for the client.
const CORES: usize = 4;
/// From this length on a reply is a large one.
const LARGE: u32 = 128 << 10;

/// One statement.
pub struct Statement {
    /// About which workload.
    pub workload: Workload,
    /// Which row is said to be best.
    pub best: Stack,
}

/// All four.
pub const STATEMENTS: [Statement; 4] = [
    Statement {
        workload: Workload::LargeSend,
        best: Stack::Linux,
    },
    Statement {
        workload: Workload::IdleLatency,
        best: Stack::Demikernel,
    },
    Statement {
        workload: Workload::Connections,
        best: Stack::Ix,
    },
    Statement {
        workload: Workload::Multicore,
        best: Stack::Tas,
    },
];

/// What came of a statement at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Agrees,
    /// Another row is better.
    Disagrees,
    /// The intervals do not tell.
    Undecided,
    /// There are no figures to compare.
    NoFigures,
    /// This machine cannot tell.
    NotDecidable,
}

impl Verdict {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Agrees => "agrees",
            Verdict::Disagrees => "does not agree",
            Verdict::Undecided => "undecided",
            Verdict::NoFigures => "no figures",
            Verdict::NotDecidable => "not decidable on this machine",
        }
    }
}

/// A statement at one point.
pub struct At {
    /// Where.
    pub point: Point,
    /// The hardest of the others, and the ratio of the statement's row to it, above 1 if that is better.
    pub against: Option<(Stack, Ratio)>,
    /// What came of it.
    pub verdict: Verdict,
}

impl Statement {
    /// In a sentence.
    pub fn words(&self) -> String {
        format!(
            "{} is best at {}",
            self.best.name(),
            self.workload.title().to_lowercase()
        )
    }

    /// Point by point.
    pub fn at(&self, plan: &Plan, journal: &Journal) -> Vec<At> {
        let closed = sweeps(plan, self.workload).into_iter().flatten();
        let points = closed.filter(|point| match self.workload {
            Workload::LargeSend => point.at >= LARGE,
            _ => point.rate.is_none(),
        });
        points
            .map(|point| self.at_point(plan, journal, point))
            .collect()
    }

    fn at_point(&self, plan: &Plan, journal: &Journal, point: Point) -> At {
        let figure = Figure::that_counts(self.workload);
        let six = Stack::SIX.into_iter();
        let others = six.filter(|stack| *stack != self.best && plan.stacks.contains(stack));
        let better = |other: Stack| {
            let rows = match figure.less_is_better() {
                true => [(other, None), (self.best, None)],
                false => [(self.best, None), (other, None)],
            };
            Some((other, Ratio::between(journal, point, rows, figure)?))
        };
        let ratios: Vec<_> = others.filter_map(better).collect();
        let against = ratios
            .iter()
            .min_by(|a, b| a.1.of.total_cmp(&b.1.of))
            .copied();
        let verdict = if self.workload == Workload::Multicore && cores(journal) < CORES {
            Verdict::NotDecidable
        } else if ratios.is_empty() {
            Verdict::NoFigures
        } else if ratios.iter().any(|(_, ratio)| ratio.high < 1.0) {
            Verdict::Disagrees
        } else if ratios.iter().all(|(_, ratio)| ratio.low > 1.0) {
            Verdict::Agrees
        } else {
            Verdict::Undecided
        };
        At {
            point,
            against,
            verdict,
        }
    }
}

fn cores(journal: &Journal) -> usize {
    journal
        .sessions
        .iter()
        .map(|s| s.machine.cpus)
        .min()
        .unwrap_or(0)
}

/// All points' verdict in one: that of all, or which hold where.
pub fn overall(all: &[At]) -> String {
    let Some(first) = all.first() else {
        return "not part of the plan".to_string();
    };
    if all.iter().all(|at| at.verdict == first.verdict) {
        return first.verdict.words().to_string();
    }
    let mut parts = Vec::new();
    for verdict in [
        Verdict::Agrees,
        Verdict::Disagrees,
        Verdict::Undecided,
        Verdict::NoFigures,
    ] {
        let own = all.iter().filter(|at| at.verdict == verdict);
        let own: Vec<_> = own.map(|at| at.point.quantity()).collect();
        if !own.is_empty() {
            parts.push(format!("{} at {}", verdict.words(), own.join(", ")));
        }
    }
    parts.join("; ")
}

/// A statement about six rows, of which a plan has fewer.
fn missing(plan: &Plan) -> String {
    let there = Stack::SIX
        .iter()
        .filter(|s| plan.stacks.contains(s))
        .count();
    match there {
        6 => String::new(),
        n => format!(" ({n} of the six rows)"),
    }
}

/// All statements in one table.
pub fn summary(plan: &Plan, journal: &Journal) -> String {
    let mut lines = vec![
        ["published", "here", "best here (of all rows)"]
            .map(String::from)
            .to_vec(),
    ];
    for statement in &STATEMENTS {
        let all = statement.at(plan, journal);
        let best = super::explained::key(plan, statement.workload).and_then(|point| {
            let figure = Figure::that_counts(statement.workload);
            let ranked = figures::ranked(journal, point, &plan.stacks, figure);
            let (stack, spread) = ranked.first()?;
            let value = crate::markdown::thousands(spread.median, 1);
            let unit = figure.title();
            Some(format!(
                "`{}` at {}: {value} ({unit})",
                stack.name(),
                point.quantity()
            ))
        });
        lines.push(vec![
            statement.words(),
            overall(&all) + &missing(plan),
            best.unwrap_or_else(|| "-".to_string()),
        ]);
    }
    grid(&lines)
}

/// One statement's table.
pub fn table(plan: &Plan, journal: &Journal, statement: &Statement) -> String {
    let figure = Figure::that_counts(statement.workload);
    let mut lines = vec![
        [
            "at",
            "best of the six",
            "hardest of the others",
            "how many times better (95 % interval)",
            "verdict",
        ]
        .map(String::from)
        .to_vec(),
    ];
    lines[0][2] = format!("hardest rival of `{}`", statement.best.name());
    for at in statement.at(plan, journal) {
        let ranked = figures::ranked(journal, at.point, &Stack::SIX, figure);
        let best = ranked.first();
        lines.push(vec![
            at.point.quantity(),
            best.map_or("-".to_string(), |(stack, _)| format!("`{}`", stack.name())),
            at.against
                .map_or("-".to_string(), |(stack, _)| format!("`{}`", stack.name())),
            at.against
                .map_or("-".to_string(), |(_, ratio)| ratio.words()),
            at.verdict.words().to_string(),
        ]);
    }
    let head = format!(
        "*{}*: {}.",
        statement.words(),
        overall(&statement.at(plan, journal))
    );
    match statement.workload {
        Workload::Multicore if cores(journal) < CORES => format!(
            "{head} Fewer than {CORES} CPUs: two servers that spin leave none for the client. Run it where there are more.\n\n{}",
            grid(&lines)
        ),
        _ => format!("{head}\n\n{}", grid(&lines)),
    }
}
