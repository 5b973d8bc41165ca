//! What limits a recording: a table of rules, each a small function of analysed [`Facts`]; and why one is slower than
//! another: [`across`].
//!
//! In: a profile, its ledger, its spans where there are probes; out: [`Finding`]s, what limits the rate first, then causes,
//! the largest first. A rule claims no
//! more than its evidence carries: what is read from a stack's sources and only fits the profile is *suspected*, and
//! says what to record to be sure. It refuses to know names of recordings and files.

pub mod across;
pub mod facts;
mod lacks;
pub mod ranking;
pub mod rules;

pub use facts::Facts;
pub use lacks::lacks;
use rules::Order;

/// How sure a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// The profile fits the cause, which is known from the stack's sources; nothing in the recording proves it.
    Suspected,
    /// Samples show it; empty polling is estimated.
    Estimated,
    /// Samples show it.
    Sampled,
    /// Probes bound it.
    Measured,
}

impl Confidence {
    /// The name in outputs.
    pub fn name(self) -> &'static str {
        match self {
            Confidence::Suspected => "suspected",
            Confidence::Estimated => "estimated",
            Confidence::Sampled => "sampled",
            Confidence::Measured => "measured",
        }
    }
}

/// What a finding's size is a share of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// The time of all threads.
    Threads,
    /// The time of the busiest thread or role, which the title is about.
    Busiest,
    /// The time that requests are in the program.
    Requests,
    /// The time of connections: that of their requests and that between them.
    Connections,
    /// All segments sent.
    Segments,
}

impl Whole {
    /// How outputs end "so many %".
    pub fn name(self) -> &'static str {
        match self {
            Whole::Threads => "of all threads' time",
            Whole::Busiest => "of that time",
            Whole::Requests => "of requests' time",
            Whole::Connections => "of connections' time",
            Whole::Segments => "of segments sent",
        }
    }
}

/// What a rule found in the facts.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// How much the finding is about.
    pub share: f64,
    /// What that is a share of.
    pub of: Whole,
    /// The same in ns of one request, where requests are counted.
    pub ns_per_request: Option<f64>,
    /// How sure.
    pub confidence: Confidence,
    /// What it rests on, a line each.
    pub lines: Vec<String>,
}

/// A rule: what to look at, and what it means.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Its name in outputs: as in design/stacks.md section 10 where it is one of those.
    pub id: &'static str,
    /// Packs of stacks that it is about; empty: any.
    pub stacks: &'static [&'static str],
    /// The finding in a sentence.
    pub title: &'static str,
    /// What to try, or what to record to be sure.
    pub advice: &'static str,
    /// Whether the facts show it.
    pub check: fn(&Facts) -> Option<Evidence>,
}

/// A rule that the facts show.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The rule's name.
    pub id: &'static str,
    /// The finding.
    pub title: &'static str,
    /// What to try.
    pub advice: &'static str,
    /// What it rests on.
    pub evidence: Evidence,
}

/// A cause that takes less than this of requests' time, or of all work, is told after how much room is left.
const LITTLE: f64 = 0.1;

/// All findings: what limits the rate, causes, how much room is left, causes of little; of each the largest first, equal ones
/// in the order of the table. Of few samples nothing is claimed that rests on samples.
pub fn explain(facts: &Facts) -> Vec<Finding> {
    let about = |rule: &Rule| rule.stacks.is_empty() || rule.stacks.contains(&facts.stack.as_str());
    let few = facts.samples.is_some_and(|n| n < lacks::FEW);
    let mut findings: Vec<(Order, Finding)> = (rules::rules().filter(|(_, rule)| about(rule)))
        .filter_map(|(order, rule)| {
            let finding = Finding {
                id: rule.id,
                title: rule.title,
                advice: rule.advice,
                evidence: (rule.check)(facts)?,
            };
            let all = match finding.evidence.of {
                Whole::Threads => facts.busy,
                _ => 1.0,
            };
            let is_little = order == Order::Cause && finding.evidence.share < LITTLE * all;
            Some((if is_little { Order::Little } else { order }, finding))
        })
        .collect();
    findings.retain(|(_, f)| !few || f.evidence.confidence == Confidence::Measured);
    findings.sort_by(|(x, a), (y, b)| {
        let larger = b.evidence.share.total_cmp(&a.evidence.share);
        x.cmp(y).then(larger)
    });
    findings.into_iter().map(|(_, finding)| finding).collect()
}
