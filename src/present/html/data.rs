//! The answers of a page as JSON. Its keys are between this file and the scripts beside it: programs read the commands'
//! own JSON, whose lines stand on the page.

use super::flame::{self, Flame};
use super::place;
use crate::analyse::explain::Finding;
use crate::analyse::latency::moment::Moment;
use crate::analyse::ledger::{Account, Ledger, meaning};
use crate::analyse::phases::PHASES;
use crate::analyse::series::Series;
use crate::analyse::spans::{Kind, PARTS, STAGES, Spans, Timeline};
use crate::analyse::{Profile, Trust};
use crate::present::flame::colours;
use crate::present::ledger::picture;
use crate::present::table::headline;
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
    /// What was counted over time.
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
    recordings: Vec<Recording<'a>>,
}

#[derive(Serialize)]
struct Recording<'a> {
    name: &'a str,
    file: &'a str,
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
    /// ns of work of all threads for a request.
    cycles_ns: Option<f64>,
    totals: Totals,
    trust: &'a Trust,
    trust_line: String,
    notices: Vec<Notice<'a>>,
    threads: Vec<Thread<'a>>,
    findings: Vec<FindingText<'a>>,
    ledger: Vec<AccountBar<'a>>,
    flame: Flame<'a>,
    latency: Option<Latency>,
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

#[derive(Serialize)]
struct FindingText<'a> {
    id: &'static str,
    title: &'static str,
    share: f64,
    ns: Option<f64>,
    confidence: &'static str,
    lines: &'a [String],
    advice: &'static str,
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
struct Latency {
    counts: Counts,
    stages: Vec<Stage>,
    histogram: Vec<(u64, u64)>,
    slowest: Vec<Request>,
}

#[derive(Serialize)]
struct Counts {
    complete: u64,
    torn: u64,
    unfinished: u64,
    headless: u64,
}

#[derive(Serialize)]
struct Stage {
    name: &'static str,
    kind: &'static str,
    what: &'static str,
    count: u64,
    mean: f64,
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

#[derive(Serialize)]
struct Request {
    flow: String,
    began: u64,
    total: u64,
    stages: [Option<u64>; PARTS],
    moments: Vec<StageMoment>,
}

#[derive(Serialize)]
struct StageMoment {
    thread: String,
    off_cpu: u64,
    functions: Vec<(String, u64)>,
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    unit: &'static str,
    thread: Option<usize>,
    points: Vec<(u64, f64)>,
}

/// The page's data.
pub fn document(parts: &[Part]) -> Document<'_> {
    let entries = parts.iter().flat_map(|p| &p.ledger.accounts);
    let entries = entries.flat_map(|a| a.entries.iter().map(|e| e.phase));
    let mut phases: Vec<&str> = PHASES.iter().map(|p| p.0).collect();
    for phase in entries {
        if !phases.contains(&phase) {
            phases.push(phase);
        }
    }
    Document {
        version: env!("CARGO_PKG_VERSION"),
        colours: phases.iter().map(|p| picture::colour(p)).collect(),
        meanings: phases.iter().map(|p| (*p, meaning(p))).collect(),
        recordings: parts.iter().map(|part| recording(part, &phases)).collect(),
        phases,
    }
}

fn recording<'a>(part: &'a Part, phases: &[&str]) -> Recording<'a> {
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
    Recording {
        name: part.file.rsplit('/').next().unwrap_or_default(),
        file: &part.file,
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
        cycles_ns: program
            .busy()
            .and_then(|busy| per_request(program.cycles * busy)),
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
        latency: (part.spans.trust.rings > 0).then(|| latency(part)),
        series: part.series.iter().map(line).collect(),
    }
}

fn finding(finding: &Finding) -> FindingText<'_> {
    FindingText {
        id: finding.id,
        title: finding.title,
        share: finding.evidence.share,
        ns: finding.evidence.ns_per_request,
        confidence: finding.evidence.confidence.name(),
        lines: &finding.evidence.lines,
        advice: finding.advice,
        place: place::of(finding),
    }
}

fn latency(part: &Part) -> Latency {
    let spans = &part.spans;
    let stages = STAGES
        .iter()
        .zip(&spans.stages)
        .map(|(stage, lengths)| Stage {
            name: stage.name,
            kind: match stage.kind {
                Kind::Work => "work",
                Kind::Wait => "wait",
            },
            what: stage.what,
            count: lengths.len(),
            mean: lengths.mean(),
            p50: lengths.value_at_quantile(0.5),
            p90: lengths.value_at_quantile(0.9),
            p99: lengths.value_at_quantile(0.99),
            p999: lengths.value_at_quantile(0.999),
            max: lengths.max(),
        });
    let total = spans.stages.last();
    let bins = total.into_iter().flat_map(|total| {
        let bins = total
            .iter_log(100, 1.09)
            .map(|bin| (bin.value_iterated_to(), bin.count_since_last_iteration()));
        bins.filter(|bin| bin.1 > 0).collect::<Vec<_>>()
    });
    let mut moments = part.moments.iter();
    let request = |request: &Timeline| Request {
        flow: format!("{:08x}", request.flow),
        began: request.began.ns(),
        total: request.total,
        stages: request.stages,
        moments: moments
            .next()
            .into_iter()
            .flatten()
            .map(|m| StageMoment {
                thread: m.thread.clone(),
                off_cpu: m.off_cpu,
                functions: m.functions.clone(),
            })
            .collect(),
    };
    Latency {
        counts: Counts {
            complete: spans.counts.complete,
            torn: spans.counts.torn,
            unfinished: spans.counts.unfinished,
            headless: spans.counts.headless,
        },
        stages: stages.collect(),
        histogram: bins.collect(),
        slowest: spans.slowest.iter().map(request).collect(),
    }
}

/// A line with no more points than are seen: means of neighbours.
fn line(series: &Series) -> Line<'_> {
    let each = series.points.len().div_ceil(MOST_POINTS).max(1);
    let mean = |points: &[(crate::units::Nanos, f64)]| {
        let sum: f64 = points.iter().map(|p| p.1).sum();
        let last = points.last().map_or(0, |p| p.0.ns());
        (last, sum / points.len() as f64)
    };
    Line {
        name: &series.name,
        unit: series.unit,
        thread: series.thread,
        points: series.points.chunks(each).map(mean).collect(),
    }
}
