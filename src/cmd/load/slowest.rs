//! Requests, the slowest of them, and what threads did for these.
//!
//! Joins as its parent does. A recording is read once more only where the slowest are more than are kept.

use super::{Failure, There, damage, each, open, to_pass, unreadable};
use crate::analyse::latency::Sampled;
use crate::analyse::latency::moment::{self, Moment};
use crate::analyse::spans::{PARTS, Pass, Spans, Threshold, Timeline};
use crate::analyse::{Filter, Join, Packs};
use crate::trace::record::Meta;
use crate::trace::{Reader, Record};
use std::path::Path;

/// Requests, and what is told of the slowest.
pub struct Told {
    /// All, or the slowest share.
    pub spans: Spans,
    /// For each of [`Spans::slowest`], what threads did in its stages.
    pub moments: Vec<[Moment; PARTS]>,
    /// From which length on requests count, if only the slowest do.
    pub threshold: Option<Threshold>,
}

/// Reads a recording's events and joins those that pass a filter into requests, or the slowest `share` of these. `show` of
/// them are kept, with what their threads did.
pub fn told(
    path: &Path,
    packs: Packs,
    filter: &Filter,
    share: Option<f64>,
    show: usize,
) -> Result<Told, Failure> {
    let (reader, metas) = open(path)?;
    let there = There::of(path, &metas);
    there.check(filter)?;
    let mut pass = Pass::new(&metas, &packs, filter.clone(), show);
    if let Some(share) = share {
        pass = pass.slowest(share);
    }
    let mut pass = pass.on_two_threads();
    let mut beside = (show > 0).then(|| Beside::new(&metas, packs.clone()));
    drop(metas);
    each(path, &reader, |record| {
        to_pass(&mut pass, record);
        if let Some(beside) = &mut beside {
            beside.record(record);
        }
    })?;
    let threshold = share.and_then(|_| pass.pick());
    if let Some(Threshold { least, told, .. }) = threshold
        && !told
    {
        let mut filter = filter.clone();
        filter.at_least = Some(least);
        pass = Pass::new(&again(&reader)?, &packs, filter, show).on_two_threads();
        each(path, &reader, |record| to_pass(&mut pass, record))?;
    }
    let spans = pass.finish(damage(&reader));
    there.check_left(filter, spans.trust.rings == 0 || spans.counts.complete > 0)?;
    let moments = beside.map_or_else(Vec::new, |beside| beside.moments(&spans.slowest));
    Ok(Told {
        spans,
        moments,
        threshold,
    })
}

/// The records of low rate, once more: they are not kept while all others are read.
pub fn again(reader: &Reader) -> Result<Vec<Meta>, Failure> {
    let metas = reader.metas().collect::<Result<_, _>>();
    metas.map_err(|e| unreadable(&e))
}

/// What threads did while requests were on their way.
struct Beside {
    sampled: Sampled,
    join: Join,
}

impl Beside {
    fn new(metas: &[Meta], packs: Packs) -> Beside {
        Beside {
            sampled: Sampled::new(metas),
            join: Join::new(metas, packs),
        }
    }

    fn record(&mut self, record: &Record) {
        match record {
            Record::Sample(sample) => {
                if let Some(node) = self.join.sample(sample) {
                    self.sampled.sample(sample, node);
                }
            }
            Record::Switch(switch) => self.sampled.switch(switch),
            Record::Slots(..) => {}
        }
    }

    /// All has been read: what they did in each stage of these requests; lengths in ns.
    fn moments(mut self, requests: &[Timeline]) -> Vec<[Moment; PARTS]> {
        if requests.is_empty() {
            return Vec::new();
        }
        self.sampled.settle();
        let profile = self.join.finish(None);
        let ns = profile.ns_per_tick.unwrap_or(1.0);
        let of_requests = requests.iter().map(|request| {
            let mut moments = moment::moments(&request.way, &self.sampled, &profile.stacks);
            for moment in &mut moments {
                moment.off_cpu = (moment.off_cpu as f64 * ns) as u64;
            }
            moments
        });
        of_requests.collect()
    }
}

/// What threads did in each stage of these requests; lengths in ns.
pub fn moments(
    path: &Path,
    packs: Packs,
    requests: &[Timeline],
) -> Result<Vec<[Moment; PARTS]>, Failure> {
    let (reader, metas) = open(path)?;
    let mut beside = Beside::new(&metas, packs);
    each(path, &reader, |record| beside.record(record))?;
    Ok(beside.moments(requests))
}
