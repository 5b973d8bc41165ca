//! Requests that alone count: those of some flows, the slowest of them, and what threads did for these.
//!
//! Joins as its parent does. A recording is read once more only for what rests on the requests that were picked, or where
//! the slowest are more than are kept.

use super::{Failure, There, damage, each, open, to_join, to_pass, unreadable};
use crate::analyse::latency::moment::{self, Moment};
use crate::analyse::latency::{Sampled, Stretches};
use crate::analyse::spans::{PARTS, Pass, Spans, Threshold, Timeline};
use crate::analyse::{Filter, Join, Packs, Profile};
use crate::present::style::duration;
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
fn again(reader: &Reader) -> Result<Vec<Meta>, Failure> {
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

/// Requests that alone count: when their threads were busy with them, and what is told of them.
struct Picked {
    reader: Reader,
    stretches: Stretches,
    spans: Spans,
    filter: Filter,
}

/// Picks the requests of a filter's flows, or of all, and of these the slowest `share` if one is asked for.
fn picked(
    path: &Path,
    packs: &Packs,
    filter: &Filter,
    share: Option<f64>,
) -> Result<Picked, Failure> {
    let mut filter = filter.clone();
    let (reader, metas) = open(path)?;
    let there = There::of(path, &metas);
    there.check(&filter)?;
    let mut stretches = Stretches::new(&metas);
    let pass =
        |metas: &[Meta], filter: &Filter| Pass::new(metas, packs, filter.clone(), 0).telling_ways();
    let mut found = pass(&metas, &filter);
    drop(metas);
    let mut which = None;
    let mut is_told = false;
    if let Some(share) = share {
        let mut all = found.slowest(share).on_two_threads();
        each(path, &reader, |record| to_pass(&mut all, record))?;
        let Some(threshold) = all.pick() else {
            let rings = all.finish(None).trust.rings;
            there.check_left(&filter, rings == 0)?;
            return Err(Failure::failed(format!(
                "{} holds no whole requests: --slowest has nothing to choose from",
                path.display()
            ))
            .hint("a program that is linked with probes (docs/guide/probes-rust.md, probes-c.md), or leave --slowest out"));
        };
        which = Some(format!(
            "the slowest {} % of {} requests, {} or more,",
            share * 100.0,
            threshold.of,
            duration(threshold.least.ns())
        ));
        filter.at_least = Some(threshold.least);
        is_told = threshold.told;
        found = match is_told {
            true => all,
            false => pass(&again(&reader)?, &filter),
        };
    }
    if !is_told {
        each(path, &reader, |record| {
            to_pass(&mut found, record);
            found.take_ways().iter().for_each(|way| stretches.add(way));
        })?;
    }
    found.close_all();
    found.take_ways().iter().for_each(|way| stretches.add(way));
    there.check_left(&filter, stretches.requests > 0)?;
    stretches.settle();
    let which = which.unwrap_or_else(|| format!("{} requests", stretches.requests));
    let flows = filter.flow_line().map(|flows| format!(" of {flows}"));
    stretches.line = format!(
        "only what threads did for {which}{}",
        flows.unwrap_or_default()
    );
    // Samples and times are chosen by request now, not by flow and length.
    filter.at_least = None;
    filter.flows.clear();
    Ok(Picked {
        spans: found.finish(damage(&reader)),
        reader,
        stretches,
        filter,
    })
}

/// What threads did for some requests alone, and these.
pub(super) fn of_requests(
    path: &Path,
    packs: Packs,
    filter: &Filter,
    share: Option<f64>,
) -> Result<(Profile, Spans), Failure> {
    let picked = picked(path, &packs, filter, share)?;
    let metas = again(&picked.reader)?;
    let mut join = Join::only(&metas, packs, picked.filter).within(picked.stretches);
    drop(metas);
    each(path, &picked.reader, |record| to_join(&mut join, record))?;
    Ok((join.finish(damage(&picked.reader)), picked.spans))
}
