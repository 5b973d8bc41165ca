//! What all JSON about a comparison has in common: `compare` and `explain` of several recordings.
//!
//! In: pairs of recordings, and what there is to say of one pair; out: the document. It refuses to know what that is.

use super::Pairs;
use crate::analyse::Trust;
use crate::analyse::compare::workload::Remark;
use crate::analyse::compare::{Change, Comparison, Side};
use serde::Serialize;

#[derive(Serialize)]
struct Document<P> {
    schema: &'static str,
    /// The pair of the first and the second recording.
    #[serde(flatten)]
    pair: Option<P>,
    /// Further recordings with the first.
    others: Vec<P>,
    trust: Trust,
}

impl Pairs {
    /// The document with what `of_pair` says of each comparison, its other side and the remarks about it.
    pub fn json<'a, P: Serialize>(
        &'a self,
        schema: &'static str,
        of_pair: impl Fn(&'a Comparison, &'a Side, &'a [Remark]) -> P,
    ) -> serde_json::Result<String> {
        let mut all = (self.others.iter())
            .map(|(comparison, other, remarks)| of_pair(comparison, other, remarks));
        let trusts = self.others.iter().map(|o| &o.1.profile.trust);
        let first = self.first.profile.trust.clone();
        serde_json::to_string_pretty(&Document {
            schema,
            pair: all.next(),
            others: all.collect(),
            trust: trusts.fold(first, |sum, trust| sum.with(trust)),
        })
    }
}

/// A change from the first to the other recording.
#[derive(Serialize)]
pub struct Row {
    a: f64,
    b: f64,
    change: f64,
    low: f64,
    high: f64,
    significant: bool,
}

impl Row {
    /// As it was found.
    pub fn of(change: &Change) -> Row {
        Row {
            a: change.a,
            b: change.b,
            change: change.by,
            low: change.low,
            high: change.high,
            significant: change.believed,
        }
    }
}
