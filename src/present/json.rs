//! A profile as JSON: `bypassprof.report/1`, documented in `docs/reference/report.md`.

use crate::analyse::estimate::Estimate;
use crate::analyse::{Grouping, Profile, Row, ThreadRow, Trust};
use serde::Serialize;

/// Name and version of the schema. Keys may be added within a version, none changes its meaning.
pub const REPORT_SCHEMA: &str = "bypassprof.report/1";

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    command: &'a [String],
    event: &'a str,
    wall_ns: u64,
    packs: &'a [String],
    useful_share: Option<f64>,
    threads: Vec<Thread<'a>>,
    functions: Vec<Function>,
    modules: Vec<Group>,
    phases: Vec<Group>,
    notices: Vec<NoticeText<'a>>,
    trust: &'a Trust,
}

#[derive(Serialize)]
struct Thread<'a> {
    pid: u32,
    tid: u32,
    name: &'a str,
    probes: bool,
    samples: u64,
    role: &'a str,
    on_cpu_share: Option<f64>,
    useful_share: Option<f64>,
    empty_poll_share: Option<f64>,
    unknown_share: Option<f64>,
    off_cpu_share: Option<f64>,
    estimated: Option<Estimated>,
}

/// Shares of a thread's samples where no probes tell.
#[derive(Serialize)]
pub(super) struct Estimated {
    method: &'static str,
    empty_poll_share: f64,
    low: f64,
    high: f64,
}

impl From<Estimate> for Estimated {
    fn from(estimate: Estimate) -> Estimated {
        Estimated {
            method: estimate.method.name(),
            empty_poll_share: estimate.empty.value,
            low: estimate.empty.low,
            high: estimate.empty.high,
        }
    }
}

#[derive(Serialize)]
struct Function {
    name: String,
    module: String,
    source: String,
    why: Option<String>,
    self_share: f64,
    total_share: f64,
    useful_share: f64,
    empty_poll_share: f64,
    estimated_share: f64,
    samples: u64,
}

#[derive(Serialize)]
struct Group {
    name: String,
    self_share: f64,
    total_share: f64,
    useful_share: f64,
    empty_poll_share: f64,
    estimated_share: f64,
    samples: u64,
}

#[derive(Serialize)]
struct NoticeText<'a> {
    id: &'a str,
    text: &'a str,
}

/// The whole report, at most `limit` functions, modules, phases and threads each.
pub fn report(profile: &Profile, limit: usize) -> serde_json::Result<String> {
    let groups = |by| {
        profile
            .rows(by)
            .into_iter()
            .take(limit)
            .map(group)
            .collect()
    };
    let functions = profile.rows(Grouping::Symbol).into_iter().take(limit);
    let notices = profile.notices.iter().map(|n| NoticeText {
        id: &n.id,
        text: &n.text,
    });
    let report = Report {
        schema: REPORT_SCHEMA,
        command: &profile.session.command,
        event: &profile.event,
        wall_ns: profile.wall_ns,
        packs: &profile.packs,
        useful_share: profile.useful_share(),
        threads: profile.threads.iter().take(limit).map(thread).collect(),
        functions: functions.map(function).collect(),
        modules: groups(Grouping::Module),
        phases: groups(Grouping::Phase),
        notices: notices.collect(),
        trust: &profile.trust,
    };
    serde_json::to_string_pretty(&report)
}

fn thread(row: &ThreadRow) -> Thread<'_> {
    Thread {
        pid: row.pid,
        tid: row.tid,
        name: &row.name,
        probes: row.probes,
        samples: row.samples,
        role: &row.role,
        on_cpu_share: row.timed(row.on_cpu()),
        useful_share: row.useful(),
        empty_poll_share: row.empty_poll(),
        unknown_share: row.timed(row.unknown()),
        off_cpu_share: row.timed(row.off_cpu()),
        estimated: row.estimate.map(Estimated::from),
    }
}

fn function(row: Row) -> Function {
    Function {
        name: row.name,
        module: row.module,
        source: row.source,
        why: row.why,
        self_share: row.own,
        total_share: row.total,
        useful_share: row.useful,
        empty_poll_share: row.empty_poll,
        estimated_share: row.estimated,
        samples: row.samples,
    }
}

fn group(row: Row) -> Group {
    Group {
        name: row.name,
        self_share: row.own,
        total_share: row.total,
        useful_share: row.useful,
        empty_poll_share: row.empty_poll,
        estimated_share: row.estimated,
        samples: row.samples,
    }
}
