//! A ledger as JSON: `bypassprof.ledger/1`, documented in `docs/reference/ledger.md`.

use crate::analyse::Trust;
use crate::analyse::ledger::{Account, Entry, Ledger, Level};
use serde::Serialize;

/// Name and version of the schema. Keys may be added within a version, none changes its meaning.
pub const LEDGER_SCHEMA: &str = "bypassprof.ledger/1";

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    event: &'a str,
    packs: &'a [String],
    ns_per_cycle: Option<f64>,
    requests: u64,
    packets: u64,
    tx_bytes: u64,
    counters: &'a [String],
    recorder_process_share: Option<f64>,
    accounts: Vec<Sum<'a>>,
    rows: Vec<Row<'a>>,
    trust: &'a Trust,
}

#[derive(Serialize)]
struct Sum<'a> {
    level: &'static str,
    name: &'a str,
    role: &'a str,
    threads: usize,
    cycles: f64,
    counts: Vec<u64>,
    busy_share: Option<f64>,
    estimated: Option<Estimated>,
}

#[derive(Serialize)]
struct Estimated {
    method: &'static str,
    empty_poll_share: f64,
    low: f64,
    high: f64,
}

#[derive(Serialize)]
struct Row<'a> {
    level: &'static str,
    thread: &'a str,
    phase: &'static str,
    basis: &'static str,
    cycles: f64,
    low: f64,
    high: f64,
    share: f64,
    share_low: f64,
    share_high: f64,
    per_request: Option<f64>,
    per_packet: Option<f64>,
    per_byte: Option<f64>,
    counts: &'a [u64],
}

/// All accounts, or those of one level.
pub fn ledger(ledger: &Ledger, level: Option<Level>) -> serde_json::Result<String> {
    let wanted = |a: &&Account| level.is_none_or(|l| a.level == l);
    let work = &ledger.work;
    let accounts = ledger.accounts.iter().filter(wanted);
    let document = Document {
        schema: LEDGER_SCHEMA,
        event: &ledger.event,
        packs: &ledger.packs,
        ns_per_cycle: ledger.ns_per_cycle,
        requests: work.requests,
        packets: work.rx_packets + work.tx_packets,
        tx_bytes: work.tx_bytes,
        counters: &ledger.counters,
        recorder_process_share: ledger.trust.observer_share,
        accounts: accounts.clone().map(sum).collect(),
        rows: accounts.flat_map(|a| rows(ledger, a)).collect(),
        trust: &ledger.trust,
    };
    serde_json::to_string_pretty(&document)
}

fn sum(account: &Account) -> Sum<'_> {
    Sum {
        level: account.level.name(),
        name: &account.name,
        role: &account.role,
        threads: account.threads,
        cycles: account.cycles,
        counts: account.counted(),
        busy_share: account.busy(),
        estimated: account.estimate.map(|e| Estimated {
            method: e.method.name(),
            empty_poll_share: e.empty.value,
            low: e.empty.low,
            high: e.empty.high,
        }),
    }
}

fn rows<'a>(ledger: &'a Ledger, account: &'a Account) -> impl Iterator<Item = Row<'a>> {
    let work = &ledger.work;
    let per = |entry: &Entry, n: u64| (n > 0).then(|| entry.cycles / n as f64);
    account.entries.iter().map(move |entry| {
        let share = account.share(entry);
        Row {
            level: account.level.name(),
            thread: &account.name,
            phase: entry.phase,
            basis: entry.basis.name(),
            cycles: entry.cycles,
            low: entry.low,
            high: entry.high,
            share: share.value,
            share_low: share.low,
            share_high: share.high,
            per_request: per(entry, work.requests),
            per_packet: per(entry, work.rx_packets + work.tx_packets),
            per_byte: per(entry, work.tx_bytes),
            counts: account.counts.get(entry.phase).map_or(&[], Vec::as_slice),
        }
    })
}
