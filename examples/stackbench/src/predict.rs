//! What `bypassprof` says about a server against what happens when the thing that it names is changed.
//!
//! In: [`TRIALS`]; out: for each a recording before and one after the change, and a row of a Markdown table: what the
//! recording before it says that the cause takes, and what the change brought, with the rule that `explain` puts first
//! and the part of `compare` that is largest. What other programs took of the CPUs meanwhile (rule C8) stands apart: it
//! says nothing about the server.

use crate::Failure;
use crate::cpus::Cpus;
use crate::load::{Figures, Load};
use crate::programs::Programs;
use crate::server::Server;
use crate::site::{Site, Stack};
use crate::stop::Stop;
use netlab::Lab;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Arguments of `predict`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder for the recordings
    #[arg(long, default_value = "target/predict")]
    out: PathBuf,
    /// Seconds of load for each recording
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Only trials whose name holds this
    #[arg(long, value_name = "PART", default_value = "")]
    only: String,
}

/// What the cause is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// Latency: a stage of `spans`.
    Stage(&'static str),
    /// Work on CPUs: a phase of the ledger.
    Phase(&'static str),
}

/// Which CPUs a server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    /// All, and so has the client.
    All,
    /// The client's, which has the last one.
    TheClients,
    /// Those that are not the client's.
    ItsOwn,
    /// All, and the client the last one.
    AllBesideTheClient,
}

/// One change.
#[derive(Clone, Copy, Debug)]
struct Trial {
    name: &'static str,
    stack: Stack,
    connections: u32,
    /// Options of the device, arguments, before and after.
    before: (&'static str, &'static [&'static str]),
    after: (&'static str, &'static [&'static str]),
    /// The server's CPUs, before and after.
    on: [On; 2],
    cause: Of,
}

const fn trial(
    name: &'static str,
    stack: Stack,
    connections: u32,
    before: &'static [&'static str],
    after: &'static [&'static str],
    cause: Of,
) -> Trial {
    Trial {
        name,
        stack,
        connections,
        before: ("", before),
        after: ("", after),
        on: [On::All; 2],
        cause,
    }
}

/// Another choice of CPUs, and nothing else.
const fn pinned(name: &'static str, stack: Stack, on: [On; 2], cause: Of) -> Trial {
    Trial {
        on,
        ..trial(name, stack, 1, &[], &[], cause)
    }
}

const TRIALS: &[Trial] = &[
    trial(
        "fstack-drain",
        Stack::Fstack,
        1,
        &[],
        &["--tx-drain-us", "0"],
        Of::Stage("wait_drain"),
    ),
    trial(
        "fstack-acks",
        Stack::Fstack,
        64,
        &[],
        &["--acks", "delayed"],
        Of::Phase("ack_only"),
    ),
    trial(
        "fstack-copies",
        Stack::Fstack,
        64,
        &["--body", "4096", "--plant-copies", "64"],
        &["--body", "4096"],
        Of::Phase("copy"),
    ),
    trial(
        "fstack-batch",
        Stack::Fstack,
        64,
        &["--plant-batch", "1"],
        &[],
        Of::Phase("driver_rx"),
    ),
    Trial {
        name: "fstack-misdirected",
        stack: Stack::Fstack,
        connections: 64,
        before: (",spread=turn", &["--threads", "2"]),
        after: ("", &["--threads", "2"]),
        on: [On::All; 2],
        cause: Of::Stage("wait_handoff"),
    },
    trial(
        "linux-batch",
        Stack::Linux,
        64,
        &["--plant-batch", "1"],
        &[],
        Of::Phase("api"),
    ),
    trial(
        "linux-copies",
        Stack::Linux,
        64,
        &["--body", "4096", "--plant-copies", "64"],
        &["--body", "4096"],
        Of::Phase("copy"),
    ),
    trial(
        "linux-lock",
        Stack::Linux,
        64,
        &["--plant-lock-us", "100"],
        &[],
        Of::Phase("sync"),
    ),
    trial(
        "mtcp-sleep",
        Stack::Mtcp,
        1,
        &[],
        &["--mtcp-spin"],
        Of::Stage("wait_send"),
    ),
    trial(
        "ix-window",
        Stack::Ix,
        1,
        &["--body", "262144"],
        &["--body", "262144", "--ix-send-window", "1048576"],
        Of::Stage("wait_send"),
    ),
    trial(
        "tas-spin",
        Stack::Tas,
        1,
        &["--tas-spin-us", "0"],
        &["--tas-spin-us", "10000"],
        Of::Stage("wait_wakeup"),
    ),
    trial(
        "demikernel-wait",
        Stack::Demikernel,
        64,
        &["--demikernel-wait", "any"],
        &["--demikernel-wait", "next"],
        Of::Phase("sched"),
    ),
    pinned(
        "linux-pinned",
        Stack::Linux,
        [On::TheClients, On::ItsOwn],
        Of::Stage(OTHERS),
    ),
    pinned(
        "fstack-pinned",
        Stack::Fstack,
        [On::TheClients, On::ItsOwn],
        Of::Stage(OTHERS),
    ),
    pinned(
        "tas-pinned",
        Stack::Tas,
        [On::ItsOwn, On::AllBesideTheClient],
        Of::Stage("wait_send"),
    ),
];

/// What other programs took of the CPUs: a part of the gap in latency, and the rule that names it.
const OTHERS: &str = "wait_cpu";
const OTHERS_RULE: &str = "C8";

/// Runs the trials; prints the table.
pub fn run(args: &Args) -> Result<(), Failure> {
    let stop = Stop::on_signals()?;
    let programs = Programs::ready()?;
    let lab = Lab::new()?;
    fs::create_dir_all(&args.out).map_err(|source| Failure::Write {
        path: args.out.display().to_string(),
        source,
    })?;
    println!(
        "| trial | connections | cause | takes before | predicted | outcome | of it other programs (C8) | first in `explain`, in `compare` | requests/s |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut failed = Vec::new();
    for trial in TRIALS.iter().filter(|t| t.name.contains(&args.only)) {
        let load = Load::closed(trial.connections, Duration::from_secs(args.seconds));
        match row(&lab, &programs, trial, load, &args.out, &stop) {
            Ok(row) => println!("{row}"),
            Err(failure) => {
                stop.check()?;
                failed.push(format!("{}: {failure}", trial.name));
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::Wrong(failed.join("; ")))
}

fn row(
    lab: &Lab,
    programs: &Programs,
    trial: &Trial,
    load: Load,
    out: &Path,
    stop: &Stop,
) -> Result<String, Failure> {
    let file = |end: &str| out.join(format!("{}-{end}.mcap", trial.name));
    let (slow, fast) = (file("before"), file("after"));
    let [first, then] = trial.on;
    let before = record(
        lab,
        programs,
        trial,
        (first, trial.before),
        load,
        &slow,
        stop,
    )?;
    let after = record(lab, programs, trial, (then, trial.after), load, &fast, stop)?;
    // From the faster to the slower one, so that what was changed is what costs more.
    let ask = |command| asked(programs, command, [&fast, &slow]);
    let (compared, explained) = (ask("compare")?, ask("explain")?);
    let (gap, cause) = match trial.cause {
        Of::Stage(cause) => (&compared["latency"], cause),
        Of::Phase(cause) => (&compared, cause),
    };
    let us = |value: &Value| value.as_f64().unwrap_or(f64::NAN) / 1000.0;
    let what = match trial.cause {
        Of::Stage(_) => "latency",
        Of::Phase(_) => "work",
    };
    let parts = gap["contributions"].as_array().cloned().unwrap_or_default();
    let part = |name: &str| {
        let named = parts.iter().find(|p| p["cause"] == name);
        named.cloned().unwrap_or_default()
    };
    let others = match part(OTHERS) {
        Value::Null => "none".to_owned(),
        others => format!("{:+.2} us", -us(&others["ns_per_request"])),
    };
    let word = |value: Option<&Value>| {
        value
            .and_then(Value::as_str)
            .unwrap_or("nothing")
            .to_owned()
    };
    // Unless CPUs are what is changed, what others took of them is left aside.
    let is_others = cause == OTHERS;
    let largest = parts.iter().find(|p| is_others || p["cause"] != OTHERS);
    let largest = word(largest.map(|p| &p["cause"]));
    let mut findings = explained["findings"].as_array().into_iter().flatten();
    let rule = findings.find(|f| f["gap"] == what && (is_others || f["id"] != OTHERS_RULE));
    let rule = word(rule.map(|f| &f["id"]));
    let part = part(cause);
    Ok(format!(
        "| {} | {} | {cause} | {:.2} us | {what} -{:.2} us | {:+.2} us ({:.2} to {:.2}) of {:.2} us | {others} | {rule}, `{largest}` | {:.0} to {:.0} |",
        trial.name,
        trial.connections,
        us(&part["b"]),
        us(&part["b"]),
        -us(&gap["gap_ns_per_request"]),
        us(&gap["gap"]["b"]),
        us(&gap["gap"]["a"]),
        us(&gap["gap"]["b"]),
        before.requests_per_second,
        after.requests_per_second,
    ))
}

/// What the tool says about two recordings.
fn asked(programs: &Programs, command: &str, files: [&PathBuf; 2]) -> Result<Value, Failure> {
    let mut tool = Command::new(&programs.bypassprof);
    let done = tool
        .args([command, "--json", "--anyway"])
        .args(files)
        .output();
    let done = done.map_err(|e| Failure::Wrong(format!("cannot run bypassprof: {e}")))?;
    if !done.status.success() {
        return Err(Failure::Wrong(
            String::from_utf8_lossy(&done.stderr).trim_end().into(),
        ));
    }
    serde_json::from_slice(&done.stdout)
        .map_err(|e| Failure::Wrong(format!("bypassprof {command} --json: {e}")))
}

fn record(
    lab: &Lab,
    programs: &Programs,
    trial: &Trial,
    (on, (device, words)): (On, (&str, &[&str])),
    load: Load,
    recording: &Path,
    stop: &Stop,
) -> Result<Figures, Failure> {
    let site = Site::new(lab, trial.stack)?;
    let mut command = site.server.command(&programs.bypassprof);
    command.arg("record").arg("-o").arg(recording).arg("--");
    command.arg(&programs.httpd);
    for word in site.httpd_arguments() {
        let is_device = word.starts_with("packet:");
        command.arg(if is_device { word + device } else { word });
    }
    command.args(words).stderr(Stdio::null());
    let all = Cpus::own();
    let apart = Cpus::apart(all.count().saturating_sub(1));
    let start = || Server::start(trial.name, command, stop);
    let run = || load.run(programs, &site, stop);
    let server = match on {
        On::All | On::AllBesideTheClient => start(),
        On::TheClients => apart.for_client(start),
        On::ItsOwn => apart.for_servers(start),
    }?;
    let figures = match on {
        On::All => run(),
        _ => apart.for_client(run),
    }?;
    server.end()?;
    Ok(figures)
}
