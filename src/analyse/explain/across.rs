//! Why one recording is slower than another: rules that take the contributions of a [`Comparison`] and name their cause.
//!
//! In: a comparison and the stacks of both sides; out: [`Cause`]s, each with the pieces of the gap that it speaks about.
//! A piece is given to one rule only, the first in the table whose evidence is there; what no rule takes is named after
//! its phase or stage; what is not believed to differ is left together as noise. So causes and noise add up to the gap.
//! It refuses to name a cause for a difference that is not there.

mod rules;

use super::Confidence;
use crate::analyse::compare::tally::Counted;
use crate::analyse::compare::{Change, Comparison, Contribution, Gap, Side, Sort, Unit};
use crate::analyse::ledger::Basis;
use crate::analyse::profile::Profile;
use crate::analyse::stacks::Frame;
use Piece::{ByCount, Rest};
use rules::{LATENCY, Rule, WORK};
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

/// The causes of both gaps between two sides that were compared.
pub fn between(comparison: &Comparison, first: &Side, other: &Side) -> Vec<Causes> {
    let stacks = [first, other].map(|side| stack_of(&side.profile));
    across(&Pair {
        comparison,
        stacks: [&stacks[0], &stacks[1]],
    })
}

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
    let (rules, unit) = match of {
        Of::Work => (WORK, pair.comparison.unit),
        Of::Latency => (LATENCY, Unit::PerRequest),
    };
    let mut causes: Vec<Cause> = rules
        .iter()
        .filter_map(|rule| apply(rule, pair, (of, gap, unit), &mut pool))
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
    (of, gap, unit): (Of, &Gap, Unit),
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
    let mut evidence = rule.needs.lines(pair, way)?;
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
        of,
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
mod tests;
