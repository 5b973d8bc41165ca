//! The part of a recording that is asked for, once it is known which requests are in it.
//!
//! Joins `trace` (the file) and `analyse` (requests, and when threads were busy with them). In: what is asked for; out: a
//! [`Part`], with which every further pass over the recording keeps what counts.

use super::Failure;
use super::filter::{Asked, There};
use super::load::{again, each, open, to_pass};
use crate::analyse::compare::tally;
use crate::analyse::latency::Stretches;
use crate::analyse::spans::Pass;
use crate::analyse::{Filter, Join, Packs};
use crate::present::style::duration;
use crate::trace::record::Meta;
use crate::units::Nanos;
use std::path::Path;

/// What counts.
#[derive(Default)]
pub struct Part {
    /// Of requests.
    pub requests: Filter,
    /// Of samples, times and events, which are chosen by request by when their threads were busy with one, not by flow
    /// and length.
    pub rest: Filter,
    /// When that was, if only some requests count.
    pub stretches: Option<Stretches>,
}

impl Part {
    /// What passes a filter that is not about requests.
    pub fn passing(filter: Filter) -> Part {
        Part {
            requests: filter.clone(),
            rest: filter,
            stretches: None,
        }
    }

    /// What is asked for of a recording, which is read if only some requests count; twice where the slowest are more than
    /// are kept.
    pub fn of(path: &Path, packs: &Packs, asked: &Asked) -> Result<Part, Failure> {
        let mut requests = asked.filter.clone();
        if !asked.is_about_requests() {
            return Ok(Part::passing(requests));
        }
        let (reader, metas) = open(path)?;
        let there = There::of(path, &metas);
        there.check(&requests)?;
        let mut stretches = Stretches::new(&metas);
        let begin = |metas: &[Meta], requests: &Filter| {
            Pass::new(metas, packs, requests.clone(), 0).telling_ways()
        };
        let mut pass = begin(&metas, &requests);
        drop(metas);
        let (mut which, mut is_told) = (None, false);
        if let Some(share) = asked.slowest {
            pass = pass.slowest(share).on_two_threads();
            each(path, &reader, |record| to_pass(&mut pass, record))?;
            let Some(threshold) = pass.pick() else {
                let rings = pass.finish(None).trust.rings;
                there.check_left(&requests, rings == 0)?;
                return Err(nothing_to_choose(path));
            };
            which = Some(format!(
                "the slowest {} % of {} requests, {} or more,",
                share * 100.0,
                threshold.of,
                duration(threshold.least.ns())
            ));
            requests.at_least = Some(threshold.least);
            is_told = threshold.told;
            if !is_told {
                pass = begin(&again(&reader)?, &requests);
            }
        }
        if !is_told {
            each(path, &reader, |record| {
                to_pass(&mut pass, record);
                pass.take_ways().iter().for_each(|way| stretches.add(way));
            })?;
        }
        pass.close_all();
        pass.take_ways().iter().for_each(|way| stretches.add(way));
        there.check_left(&requests, stretches.requests > 0)?;
        stretches.settle();
        let which = which.unwrap_or_else(|| format!("{} requests", stretches.requests));
        let flows = requests.flow_line().map(|flows| format!(" of {flows}"));
        stretches.line = format!(
            "only what threads did for {which}{}",
            flows.unwrap_or_default()
        );
        let rest = Filter {
            flows: Vec::new(),
            at_least: None,
            ..requests.clone()
        };
        Ok(Part {
            requests,
            rest,
            stretches: Some(stretches),
        })
    }

    /// A pass over the recording that makes a profile of it.
    pub fn join(&self, metas: &[Meta], packs: Packs) -> Join {
        let join = Join::only(metas, packs, self.rest.clone());
        match &self.stretches {
            Some(stretches) => join.within(stretches.clone()),
            None => join,
        }
    }

    /// A pass over the recording that counts what was done.
    pub fn tally(&self, metas: &[Meta], packs: &Packs, edges: &[Nanos]) -> tally::Pass {
        let tally = tally::Pass::new(metas, packs, edges);
        match &self.stretches {
            Some(stretches) => tally.within(stretches),
            None => tally,
        }
    }
}

fn nothing_to_choose(path: &Path) -> Failure {
    Failure::failed(format!(
        "{} holds no whole requests: --slowest has nothing to choose from",
        path.display()
    ))
    .hint("a program that is linked with probes (docs/guide/probes-rust.md, probes-c.md), or leave --slowest out")
}
