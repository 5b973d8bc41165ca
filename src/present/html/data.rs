//! The answers of a page as JSON. Its keys are between this file and the scripts beside it: programs read the commands'
//! own JSON, whose lines stand on the page.

use super::flame::{self, Flame};
use super::names::names;
use super::place;
use super::ranking::{self, Ranking};
use crate::analyse::compare::{Side, side::NO_WORK};
use crate::analyse::explain::Finding;
use crate::analyse::latency::moment::Moment;
use crate::analyse::ledger::{Account, Ledger, meaning};
use crate::analyse::phases::PHASES;
use crate::analyse::series::{Series, Together};
use crate::analyse::spans::{PARTS, Spans};
use crate::analyse::{Profile, Trust};
use crate::present::explain;
use crate::present::flame::colours;
use crate::present::ledger::picture;
use crate::present::spans::json::{self as spans, Document as Requests};
use crate::present::table::{command, headline};
use serde::Serialize;
use std::collections::BTreeMap;

/// Points of a line over time: more are not seen.
const MOST_POINTS: usize = 400;

/// Everything that a page says of one recording.
pub struct Part {
    /// Its file as commands name it.
    pub file: String,
    /// Its samples, with cells.
    pub profile: Profile,
    /// Its ledger.
    pub ledger: Ledger,
    /// What limits it.
    pub findings: Vec<Finding>,
    /// Its requests; without probes there are none.
    pub spans: Spans,
    /// What threads did in each stage of the slowest of them.
    pub moments: Vec<[Moment; PARTS]>,
    /// What was counted, and how deep queues were, over time.
    pub series: Vec<Series>,
}

impl Part {
    /// The recording in a line.
    pub fn headline(&self) -> String {
        headline(&self.profile)
    }
}

#[derive(Serialize)]
pub struct Document<'a> {
    version: &'static str,
    phases: Vec<&'a str>,
    colours: Vec<String>,
    meanings: BTreeMap<&'a str, &'static str>,
    ranking: Option<Ranking>,
    recordings: Vec<Recording<'a>>,
}

#[derive(Serialize)]
struct Recording<'a> {
    name: &'a str,
    file: &'a str,
    command: String,
    headline: String,
    host: &'a str,
    kernel: &'a str,
    cpu: &'a str,
    packs: &'a [String],
    event: &'a str,
    is_time: bool,
    timed: bool,
    wall_ns: u64,
    useful_share: Option<f64>,
    useful_estimate: Option<f64>,
    /// ns of work of all threads for a request, the recorder's left out.
    work_ns: Option<f64>,
    totals: Totals,
    trust: &'a Trust,
    trust_line: String,
    notices: Vec<Notice<'a>>,
    threads: Vec<Thread<'a>>,
    findings: Vec<FindingText<'a>>,
    ledger: Vec<AccountBar<'a>>,
    flame: Flame<'a>,
    latency: Option<Requests<'a>>,
    series: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Totals {
    requests: u64,
    rx_packets: u64,
    rx_bursts: u64,
    tx_packets: u64,
}

#[derive(Serialize)]
struct Notice<'a> {
    text: &'a str,
}

#[derive(Serialize)]
struct Thread<'a> {
    name: &'a str,
    tid: u32,
    role: &'a str,
    samples: u64,
}

/// What `explain` says of a finding, and where it is seen.
#[derive(Serialize)]
struct FindingText<'a> {
    #[serde(flatten)]
    finding: explain::Item<'a>,
    place: (&'static str, &'static str),
}

#[derive(Serialize)]
struct AccountBar<'a> {
    level: &'static str,
    name: &'a str,
    role: &'a str,
    busy: Option<f64>,
    entries: Vec<EntryBar>,
}

#[derive(Serialize)]
struct EntryBar {
    phase: &'static str,
    share: f64,
    low: f64,
    high: f64,
    request_ns: Option<f64>,
    basis: &'static str,
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    unit: &'static str,
    thread: Option<usize>,
    points: Vec<(u64, f64)>,
}

/// The page's data; `sides` are the same recordings as they are compared, if there are several.
pub fn document<'a>(parts: &'a [Part], sides: &[Side]) -> Document<'a> {
    let entries = parts.iter().flat_map(|p| &p.ledger.accounts);
    let entries = entries.flat_map(|a| a.entries.iter().map(|e| e.phase));
    let mut phases: Vec<&str> = PHASES.iter().map(|p| p.0).collect();
    for phase in entries {
        if !phases.contains(&phase) {
            phases.push(phase);
        }
    }
    let files: Vec<&str> = parts.iter().map(|p| p.file.as_str()).collect();
    Document {
        version: env!("CARGO_PKG_VERSION"),
        colours: phases.iter().map(|p| picture::colour(p)).collect(),
        meanings: phases.iter().map(|p| (*p, meaning(p))).collect(),
        ranking: ranking::ranking(sides),
        recordings: (parts.iter().zip(names(&files)))
            .map(|named| recording(named, &phases))
            .collect(),
        phases,
    }
}

fn recording<'a>((part, name): (&'a Part, &'a str), phases: &[&str]) -> Recording<'a> {
    let (profile, ledger) = (&part.profile, &part.ledger);
    let of_function = colours(profile);
    let phase = |function: &str| {
        let phase = of_function.get(function);
        let at = phase.and_then(|phase| phases.iter().position(|p| p == phase));
        at.map_or(-1, |at| at as i32)
    };
    let program = ledger.program();
    let requests = ledger.work.requests;
    let per_request = |cycles: f64| {
        let ns = ledger.ns_per_cycle?;
        (requests > 0).then(|| cycles * ns / requests as f64)
    };
    let session = &profile.session;
    let account = |account: &'a Account| AccountBar {
        level: account.level.name(),
        name: &account.name,
        role: &account.role,
        busy: account.busy(),
        entries: account
            .entries
            .iter()
            .map(|entry| {
                let share = account.share(entry);
                EntryBar {
                    phase: entry.phase,
                    share: share.value,
                    low: share.low,
                    high: share.high,
                    request_ns: per_request(entry.cycles),
                    basis: entry.basis.name(),
                }
            })
            .collect(),
    };
    let work = program.entries.iter();
    let work = work.filter(|e| !NO_WORK.contains(&e.phase));
    Recording {
        name,
        file: &part.file,
        command: command(profile),
        headline: headline(profile),
        host: &session.host,
        kernel: &session.kernel,
        cpu: &session.cpu_model,
        packs: &profile.packs,
        event: &profile.event,
        is_time: profile.is_time(),
        timed: ledger.timed,
        wall_ns: profile.wall_ns,
        useful_share: profile.useful_share(),
        useful_estimate: profile.useful_estimate(),
        work_ns: per_request(work.map(|e| e.cycles).sum()),
        totals: Totals {
            requests,
            rx_packets: ledger.work.rx_packets,
            rx_bursts: ledger.work.rx_bursts,
            tx_packets: ledger.work.tx_packets,
        },
        trust: &profile.trust,
        trust_line: profile.trust.line(),
        notices: profile
            .notices
            .iter()
            .map(|n| Notice { text: &n.text })
            .collect(),
        threads: profile
            .threads
            .iter()
            .map(|t| Thread {
                name: &t.name,
                tid: t.tid,
                role: &t.role,
                samples: t.samples,
            })
            .collect(),
        findings: part.findings.iter().map(finding).collect(),
        ledger: ledger.accounts.iter().map(account).collect(),
        flame: flame::of(profile, phase),
        latency: (part.spans.trust.rings > 0)
            .then(|| spans::document(&part.spans, &part.moments, None)),
        series: part.series.iter().map(line).collect(),
    }
}

fn finding(finding: &Finding) -> FindingText<'_> {
    FindingText {
        finding: explain::Item::of(finding),
        place: place::of(finding),
    }
}

/// A line with no more points than are seen: neighbours are told together.
fn line(series: &Series) -> Line<'_> {
    let each = series.points.len().div_ceil(MOST_POINTS).max(1);
    let together = |points: &[(crate::units::Nanos, f64)]| {
        let values = points.iter().map(|p| p.1);
        let value = match series.together {
            Together::Mean => values.sum::<f64>() / points.len() as f64,
            Together::Greatest => values.fold(0.0, f64::max),
        };
        (points.last().map_or(0, |p| p.0.ns()), value)
    };
    Line {
        name: &series.name,
        unit: series.unit,
        thread: series.thread,
        points: series.points.chunks(each).map(together).collect(),
    }
}
