//! What the records of low rate say, gathered before the pass.
//!
//! In: records and the filter; out: [`Facts`]: the session, the clock, lives and names of threads, rings and what they
//! counted. It refuses to know samples and events.

use super::super::counted::Counted;
use super::super::filter::Filter;
use super::super::profile::Work;
use crate::trace::record::{self, EventSource, Meta, Notice, Pid, Ring, RingTotals, Session, Tid};
use crate::units::{ClockMap, Nanos};
use std::collections::{BTreeMap, HashMap};

/// What the records of low rate say, gathered before the pass.
#[derive(Default)]
pub struct Facts {
    pub session: Session,
    pub notices: Vec<Notice>,
    pub clock: Option<ClockMap>,
    /// First and last time each thread is known to live, and its last name.
    pub lives: BTreeMap<(Pid, Tid), (Nanos, Option<Nanos>, String)>,
    pub totals: HashMap<u32, RingTotals>,
    /// What rings had counted when the part that counts began and ended.
    pub counted: HashMap<u32, Counted>,
    pub rings: Vec<Ring>,
    /// The part of the time that counts.
    pub span: (Nanos, Nanos),
    /// The same where it is not open.
    pub edges: (Option<Nanos>, Option<Nanos>),
    /// Whether slots of a ring had been written before it was recorded.
    pub rings_from_before: HashMap<u32, bool>,
    pub samples_lost: u64,
    pub end: Option<Nanos>,
    pub recorder_cpu_ns: Option<u64>,
    pub rings_unreached: u64,
}

impl Facts {
    pub fn gather(metas: &[Meta], filter: &Filter) -> Facts {
        let mut facts = Facts::default();
        // The session comes first.
        let started = metas.iter().find_map(|m| match m {
            Meta::Session(session) => Some(session.started),
            _ => None,
        });
        facts.span = filter.span(started.unwrap_or_default());
        facts.edges = match filter.window {
            Some(_) => (Some(facts.span.0), Some(facts.span.1)),
            None => (None, None),
        };
        let mut pairs = Vec::new();
        let mut threads = Vec::new();
        for meta in metas {
            match meta {
                Meta::Session(session) => facts.session = session.clone(),
                Meta::Thread(thread) => {
                    let life = facts.lives.entry((thread.pid, thread.tid));
                    let life = life.or_insert((thread.time, None, String::new()));
                    life.0 = life.0.min(thread.time);
                    threads.push(thread);
                }
                Meta::Exit(exit) => {
                    if let Some(life) = facts.lives.get_mut(&(exit.pid, exit.tid)) {
                        life.1 = Some(exit.time);
                    }
                }
                Meta::Ring(ring) => {
                    facts
                        .rings_from_before
                        .insert(ring.ring, ring.first_slot > 0);
                    facts.rings.push(ring.clone());
                }
                Meta::RingTotals(totals) => {
                    facts.totals.insert(totals.ring, *totals);
                    let counted = facts.counted.entry(totals.ring).or_default();
                    counted.add(*totals, facts.edges);
                }
                Meta::Clock(pair) => pairs.push(*pair),
                Meta::Lost(lost) => {
                    facts.samples_lost = facts.samples_lost.saturating_add(lost.samples);
                }
                Meta::Notice(notice) => facts.notices.push(notice.clone()),
                Meta::End(end) => {
                    facts.end = Some(end.time);
                    facts.recorder_cpu_ns = Some(end.recorder_cpu_ns);
                    facts.rings_unreached = end.rings_unreached;
                }
                Meta::Mapping(_)
                | Meta::Counters(_)
                | Meta::Symbols(_)
                | Meta::Queue(_)
                | Meta::Device(_)
                | Meta::Salvaged(_)
                | Meta::Crash(_)
                | Meta::LastStack(_)
                | Meta::PostMortem(_) => {}
            }
        }
        facts.clock = ClockMap::fit(&pairs);
        facts.name_threads(threads);
        facts
    }

    /// Names of an event and of the other members of its group; empty where it has none.
    pub fn group_of(&self, leader: u16) -> Vec<String> {
        let of_group = |&(at, e): &(usize, &EventSource)| {
            at == usize::from(leader) || e.leader == Some(leader)
        };
        let events = self.session.events.iter().enumerate();
        let names: Vec<_> = events
            .filter(of_group)
            .map(|(_, e)| e.name.clone())
            .collect();
        if names.len() > 1 { names } else { Vec::new() }
    }

    /// What programs counted in the part that counts. A ring that was there before the recording counts from its first
    /// reading on.
    pub fn work(&self) -> Work {
        let mut work = Work::default();
        for (id, counted) in &self.counted {
            let from_before = self.rings_from_before.get(id).copied().unwrap_or_default();
            let origin = (!from_before).then_some(self.session.started);
            counted.add_to(&mut work, self.edges, origin);
        }
        work
    }

    /// Gives every thread its last name. Records come in the order of the CPUs' rings, so they are put in that of time;
    /// at the same time a thread is made before it is named.
    fn name_threads(&mut self, mut threads: Vec<&record::Thread>) {
        threads.sort_by_key(|t| (t.time, !t.name.is_empty()));
        for thread in threads {
            let name = if thread.name.is_empty() {
                let parent = self.lives.get(&(thread.parent, thread.parent_tid));
                parent.map_or_else(String::new, |p| p.2.clone())
            } else {
                thread.name.clone()
            };
            if let Some(life) = self.lives.get_mut(&(thread.pid, thread.tid)) {
                life.2 = name;
            }
        }
    }
}
