//! Samples of each thread by the state that it was in, and what threads look like when nothing is to be done.
//!
//! In: a classified profile; out: [`Samples`], and of an idle recording [`Idle`]. It refuses to know times.

use super::super::classify::Verdict;
use super::super::estimate::{Idle, Weighed};
use super::super::phases::OTHER;
use super::super::pollstate::PollState;
use super::super::profile::{Profile, Root, ThreadRow};
use super::super::stacks::NodeId;
use std::collections::BTreeMap;

impl Idle {
    /// What threads of each role look like in a recording of the same program with nothing to do.
    pub fn of(profile: &Profile) -> Idle {
        let mut idle = Idle::default();
        let of_threads = |(thread, _, _): &(usize, Root, NodeId)| !profile.threads[*thread].foreign;
        let own = || profile.weights.iter().filter(|(key, _)| of_threads(key));
        for (&(thread, _, node), _) in own() {
            let mix = idle
                .roles
                .entry(idle_key(&profile.threads[thread]).to_owned());
            mix.or_default().steady |= profile.stacks.verdict(node).steady;
        }
        for (&(thread, _, node), weight) in own() {
            let Some(mix) = idle.roles.get_mut(idle_key(&profile.threads[thread])) else {
                continue;
            };
            let verdict = profile.stacks.verdict(node);
            mix.all.add_squares(weight.weight as f64, weight.squares);
            if is_compared(verdict, mix.steady) {
                mix.compared += weight.weight as f64;
            } else {
                *mix.others.entry(verdict.phase).or_default() += weight.weight as f64;
            }
            mix.samples += weight.samples;
            let leaf = profile.stacks.innermost_first(node).next();
            if let (Some(leaf), false) = (leaf, verdict.polls) {
                let name = profile.stacks.get(leaf).name.clone();
                *mix.functions.entry(name).or_default() += weight.samples;
            }
        }
        idle.roles.retain(|_, mix| mix.is_enough());
        idle
    }
}

/// What finds a thread again in another recording of the program.
pub fn idle_key(row: &ThreadRow) -> &str {
    if row.role.is_empty() {
        &row.name
    } else {
        &row.role
    }
}

/// Sampled where a poller is when nothing is to be done. The idle task is no poller: its samples are sure.
pub fn is_poll(verdict: Verdict) -> bool {
    verdict.polls && verdict.phase != "idle"
}

/// Sampled in one of the symbols that a recording and an idle one are compared by.
fn is_compared(verdict: Verdict, steady: bool) -> bool {
    is_poll(verdict) && (verdict.steady || !steady)
}

/// A thread's samples in one state.
#[derive(Clone, Debug, Default)]
pub struct Stratum {
    pub all: Weighed,
    /// By phase, those in poll symbols apart; where the thread is compared with an idle one, only those in the symbols
    /// that are compared.
    pub phases: BTreeMap<(&'static str, bool), f64>,
    /// Those in functions that are never seen when the thread is idle.
    pub never_idle: f64,
}

/// Samples by thread and state.
pub struct Samples(BTreeMap<(usize, usize), Stratum>);

/// The state of threads without probes: the last.
pub const NO_PROBES: usize = 3;

impl Samples {
    pub fn of(profile: &Profile, idle: Option<&Idle>) -> Samples {
        let mut strata: BTreeMap<(usize, usize), Stratum> = BTreeMap::new();
        for (&(thread, root, node), weight) in &profile.weights {
            let state = match root {
                Root::Useful => PollState::Working as usize,
                Root::EmptyPolling => PollState::EmptyPolling as usize,
                Root::Unknown => PollState::Unknown as usize,
                Root::NoProbes | Root::UsefulEstimated | Root::EmptyPollingEstimated => NO_PROBES,
            };
            let verdict = profile.stacks.verdict(node);
            let foreign = profile.threads[thread].foreign;
            let phase = if foreign { OTHER } else { verdict.phase };
            let stratum = strata.entry((thread, state)).or_default();
            stratum
                .all
                .add_squares(weight.weight as f64, weight.squares);
            let mix = idle.and_then(|i| i.roles.get(idle_key(&profile.threads[thread])));
            let polls = match mix {
                Some(mix) if state == NO_PROBES => is_compared(verdict, mix.steady),
                _ => is_poll(verdict),
            };
            let key = (phase, polls && !foreign);
            *stratum.phases.entry(key).or_default() += weight.weight as f64;
            let leaf = profile.stacks.innermost_first(node).next();
            if let (Some(mix), Some(leaf), false) = (mix, leaf, verdict.polls)
                && !mix.functions.contains_key(&profile.stacks.get(leaf).name)
            {
                stratum.never_idle += weight.weight as f64;
            }
        }
        Samples(strata)
    }

    pub fn get(&self, thread: usize) -> impl Fn(usize) -> Stratum + '_ {
        move |state| self.0.get(&(thread, state)).cloned().unwrap_or_default()
    }
}
