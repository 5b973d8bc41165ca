//! What counters counted in each row of an account.
//!
//! In: a profile's counts by thread, state and stack; out: the same by account and row. A count is told to the row of the
//! sample that ended it. It refuses to spread counts over rows in any other way.

use super::super::classify::Verdict;
use super::super::grouped;
use super::super::phases::{OTHER, POLL_SIDE, UNKNOWN};
use super::super::profile::{Profile, Root};
use super::divide::INSIDE_POLLING;
use super::samples::is_poll;
use super::{Account, EMPTY_POLL, UNACCOUNTED};
use std::collections::BTreeMap;

/// Counts by row, for each counter of a group.
pub type Counts = BTreeMap<&'static str, Vec<u64>>;

/// The counts of each thread, by its place in the profile.
pub fn by_thread(profile: &Profile) -> BTreeMap<usize, Counts> {
    let mut threads: BTreeMap<usize, Counts> = BTreeMap::new();
    for (&(thread, root, node), counts) in &profile.grouped.counts {
        let verdict = profile.stacks.verdict(node);
        let row = match profile.threads[thread].foreign {
            true => OTHER,
            false => row(root, verdict),
        };
        let sums = threads.entry(thread).or_default().entry(row).or_default();
        grouped::add(sums, counts);
    }
    threads
}

/// The row that a sample's time is in.
fn row(root: Root, verdict: Verdict) -> &'static str {
    match root {
        Root::EmptyPolling if INSIDE_POLLING.contains(&verdict.phase) => verdict.phase,
        Root::EmptyPolling => EMPTY_POLL,
        Root::Unknown if is_poll(verdict) => UNACCOUNTED,
        Root::NoProbes | Root::UsefulEstimated | Root::EmptyPollingEstimated
            if is_poll(verdict) && verdict.phase != POLL_SIDE =>
        {
            EMPTY_POLL
        }
        _ if verdict.phase == UNKNOWN => UNACCOUNTED,
        _ => verdict.phase,
    }
}

/// The counts of several accounts.
pub fn sum(accounts: &[&Account]) -> Counts {
    let mut counts = Counts::new();
    for (&row, of_row) in accounts.iter().flat_map(|a| &a.counts) {
        grouped::add(counts.entry(row).or_default(), of_row);
    }
    counts
}
