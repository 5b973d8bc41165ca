//! Recordings of one workload side by side: which is best, and why each of the others is worse.
//!
//! In: sides; out: [`Group`]s, one for each workload that several of them had, the best first. Best is what answers most
//! requests a second; where that differs for none of them, what is through the server soonest. Each of the others is
//! compared with the best, and the gap goes to its causes. It refuses to call better what does not differ significantly:
//! that is for the reader of [`Comparison`] to see.

use super::across::{Causes, between};
use crate::analyse::compare::workload::{Remark, is_same_work, remarks};
use crate::analyse::compare::{Comparison, Key, Side, Unit};

/// What decides who is best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Requests a second.
    Rate,
    /// Time in the server.
    Latency,
}

impl By {
    /// The name in outputs.
    pub fn name(self) -> &'static str {
        match self {
            By::Rate => "rate",
            By::Latency => "latency",
        }
    }
}

/// Recordings of one workload.
#[derive(Clone, Debug)]
pub struct Group {
    /// What decided.
    pub by: By,
    /// The recordings, the best first; there are at least two.
    pub places: Vec<Place>,
}

/// A recording in its group.
#[derive(Clone, Debug)]
pub struct Place {
    /// Which of the sides.
    pub side: usize,
    /// Held against the best; `None` for the best itself.
    pub against: Option<Against>,
}

/// A recording held against the best one, which is the first side of the comparison.
#[derive(Clone, Debug)]
pub struct Against {
    /// Both.
    pub comparison: Comparison,
    /// What has to be known of it.
    pub remarks: Vec<Remark>,
    /// Why it is worse.
    pub causes: Vec<Causes>,
}

impl Against {
    fn of(best: &Side, other: &Side) -> Against {
        let comparison = Comparison::of(best, other);
        Against {
            remarks: remarks(best, other),
            causes: between(&comparison, best, other),
            comparison,
        }
    }

    /// Whether the whole of what decides differs.
    fn differs(&self, by: By) -> bool {
        match by {
            By::Rate => self.comparison.wall.is_some_and(|w| w.believed),
            // What one side cannot tell is in the other's latency: then the wholes say nothing of who is faster.
            By::Latency => {
                let whole = !self.remarks.iter().any(|r| r.id == "stages");
                let latency = self.comparison.latency.as_ref();
                whole && latency.is_some_and(|l| l.change.believed)
            }
        }
    }
}

/// Workloads that several sides had, in the order of the first of each.
pub fn groups(sides: &[Side]) -> Vec<Group> {
    let mut works: Vec<Vec<usize>> = Vec::new();
    for (at, side) in sides.iter().enumerate().filter(|s| is_ranked(s.1)) {
        let same = works
            .iter_mut()
            .find(|work| is_same_work(&sides[work[0]], side));
        match same {
            Some(work) => work.push(at),
            None => works.push(vec![at]),
        }
    }
    let several = works.into_iter().filter(|work| work.len() > 1);
    several.map(|work| group(sides, work)).collect()
}

/// Whether requests tell how well a side did.
pub fn is_ranked(side: &Side) -> bool {
    side.unit == Unit::PerRequest && side.value(Key::Wall).value > 0.0
}

fn group(sides: &[Side], work: Vec<usize>) -> Group {
    let ranked = |by, key| {
        let mut order = work.clone();
        order.sort_by(|&a, &b| {
            let value = |at: usize| sides[at].value(key).value;
            value(a).total_cmp(&value(b))
        });
        let best = order[0];
        let place = |&side: &usize| Place {
            side,
            against: (side != best).then(|| Against::of(&sides[best], &sides[side])),
        };
        Group {
            by,
            places: order.iter().map(place).collect(),
        }
    };
    let decides = |group: &Group| {
        let mut others = group.places.iter().filter_map(|p| p.against.as_ref());
        others.any(|against| against.differs(group.by))
    };
    let by_rate = ranked(By::Rate, Key::Wall);
    if decides(&by_rate) || work.iter().any(|&at| sides[at].told == 0.0) {
        return by_rate;
    }
    let by_latency = ranked(By::Latency, Key::Latency);
    if decides(&by_latency) {
        by_latency
    } else {
        by_rate
    }
}
