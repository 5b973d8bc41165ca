//! Slowdowns that options plant into real servers: of a recording without and one with it, `bypassprof explain` names what
//! was planted, in its size. Needs root, and the tool built beside the server; says so and passes without.

use crate::server::Server;
use crate::veth::{joined, lab, load};
use loadgen::Load;
use netlab::{Interface, Namespace};
use serde_json::Value;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A slowdown: how the server is run without and with it.
struct Planted {
    stack: &'static str,
    connections: usize,
    /// Arguments of both, and of each.
    both: &'static [&'static str],
    without: &'static [&'static str],
    with: &'static [&'static str],
    /// Options of the device, without and with it.
    device: [&'static str; 2],
}

/// What must be told of it.
struct Told {
    /// Which gap it is a part of, and what the finding may be called. It is measured or sampled, not guessed.
    gap: &'static str,
    names: &'static [&'static str],
    /// Whether it is the largest of what the server does, or only among the findings: what else goes with it may be more.
    first: bool,
    /// Between how many ns a request it has to be.
    size: RangeInclusive<f64>,
}

/// A size that how fast and how busy the machine is bounds on one side only.
fn at_least(ns: f64) -> RangeInclusive<f64> {
    ns..=f64::INFINITY
}

/// The tool, as the workspace's build puts it beside the server.
fn tool() -> Option<PathBuf> {
    let tool = Path::new(env!("CARGO_BIN_EXE_httpd")).with_file_name("bypassprof");
    if !tool.exists() {
        eprintln!("left out: `cargo build -p bypassprof` makes the tool that this records with");
    }
    tool.exists().then_some(tool)
}

/// Records the server under load.
fn record(
    tool: &Path,
    (client, server): &(Namespace, Namespace),
    planted: &Planted,
    (options, device): (&[&str], &str),
    file: &Path,
) {
    let mut command = server.command(tool);
    command.arg("record").arg("-o").arg(file);
    command.args(["--", env!("CARGO_BIN_EXE_httpd"), "--stack", planted.stack]);
    if planted.stack == "linux" {
        command.args(["--listen", "10.123.0.2:8080"]);
    } else {
        command.args(["--dev", &format!("packet:http-s{device}")]);
    }
    command.args(planted.both).args(options);
    let served = Server::spawn(command);
    let mut plan = Load::new(served.address);
    (plan.duration, plan.connections) = (Duration::from_millis(1500), planted.connections);
    plan.timeout = Duration::from_secs(20);
    load(client, &plan);
    served.end();
}

/// Records both, and asks why one is slower. A machine that does other things at the same time hides much: it may take
/// three tries.
fn found(planted: &Planted, told: &Told) {
    until(planted, "explain", |answer| is_told(told, answer));
}

/// Records both, and asks what was done for a request. Of what costs less than a busy machine hides that is told all the same.
fn counted(planted: &Planted, name: &str, least: f64) {
    until(planted, "compare", |told| {
        let rows = told["per_request"].as_array().unwrap();
        let row = rows.iter().find(|row| row["name"] == name);
        let more = row.map(|row| row["b"].as_f64().unwrap() - row["a"].as_f64().unwrap());
        more.is_some_and(|more| more >= least)
    });
}

/// Records both and asks about them, up to three times until the answer is right.
fn until(planted: &Planted, command: &str, is_right: impl Fn(&Value) -> bool) {
    let (Some(tool), Some(lab)) = (tool(), lab()) else {
        return;
    };
    let namespaces = joined(&lab);
    if planted.stack == "linux" {
        let address = || Interface::named("http-s")?.set_address([10, 123, 0, 2].into(), 24);
        namespaces.1.enter(address).unwrap().unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let files = ["without.mcap", "with.mcap"].map(|name| dir.path().join(name));
    let mut seen = Vec::new();
    for _ in 0..3 {
        let options = [planted.without, planted.with].into_iter();
        for (file, how) in files.iter().zip(options.zip(planted.device)) {
            record(&tool, &namespaces, planted, how, file);
        }
        let mut ask = Command::new(&tool);
        let out = ask.args([command, "--json"]).args(&files).output().unwrap();
        let error = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{error}");
        let told: Value = serde_json::from_slice(&out.stdout).unwrap();
        if is_right(&told) {
            return;
        }
        seen.push(told);
    }
    panic!("not told in three tries: {seen:#?}");
}

/// Whether a finding is the planted slowdown. That the server had to wait for its CPUs says nothing about it, and may be
/// more than anything else on a busy machine.
fn is_told(told: &Told, answer: &Value) -> bool {
    let findings = answer["findings"].as_array().unwrap().iter();
    let mut of_server = findings.filter(|f| f["gap"] == told.gap && f["id"] != "C8");
    let is_it = |f: &&Value| {
        let (id, size) = (f["id"].as_str(), f["size_ns_per_request"].as_f64());
        let named = id.is_some_and(|id| told.names.contains(&id));
        let sized = size.is_some_and(|size| told.size.contains(&size));
        named && sized && f["slower"] == "B" && f["confidence"] != "suspected"
    };
    if told.first {
        of_server.next().filter(is_it).is_some()
    } else {
        of_server.any(|f| is_it(&f))
    }
}

/// The timer that drains the transmit queue, at a load at which no burst is ever full: it is never waited for longer than
/// it is set to.
#[test]
fn fstack_drains_late() {
    let planted = Planted {
        stack: "fstack",
        connections: 1,
        both: &[],
        without: &["--tx-drain-us", "0"],
        with: &["--tx-drain-us", "100"],
        device: [""; 2],
    };
    let told = Told {
        gap: "latency",
        names: &["F1"],
        first: true,
        size: 1_000.0..=120_000.0,
    };
    found(&planted, &told);
}

/// The same timer, twenty times as long: the size grows with it.
#[test]
fn fstack_drains_later() {
    let planted = Planted {
        stack: "fstack",
        connections: 1,
        both: &[],
        without: &["--tx-drain-us", "100"],
        with: &["--tx-drain-us", "2000"],
        device: [""; 2],
    };
    let told = Told {
        gap: "latency",
        names: &["F1"],
        first: true,
        size: 100_000.0..=2_100_000.0,
    };
    found(&planted, &told);
}

/// Copies of each reply, a MiB in all.
#[test]
fn fstack_copies() {
    let planted = Planted {
        stack: "fstack",
        connections: 16,
        both: &["--body", "4096"],
        without: &[],
        with: &["--plant-copies", "256"],
        device: [""; 2],
    };
    let told = Told {
        gap: "work",
        names: &["C5"],
        first: true,
        size: at_least(2_000.0),
    };
    found(&planted, &told);
}

/// The same of another stack.
#[test]
fn linux_copies() {
    let planted = Planted {
        stack: "linux",
        connections: 16,
        both: &["--body", "4096"],
        without: &[],
        with: &["--plant-copies", "256"],
        device: [""; 2],
    };
    let told = Told {
        gap: "work",
        names: &["C5"],
        first: true,
        size: at_least(2_000.0),
    };
    found(&planted, &told);
}

/// A lock that another thread holds for 100 us at a time.
#[test]
fn linux_locks() {
    let planted = Planted {
        stack: "linux",
        connections: 16,
        both: &[],
        without: &[],
        with: &["--plant-lock-us", "100"],
        device: [""; 2],
    };
    let told = Told {
        gap: "work",
        names: &["C3"],
        first: true,
        size: at_least(5_000.0),
    };
    found(&planted, &told);
}

/// One more ACK for each request.
#[test]
fn fstack_acknowledges_each() {
    let planted = Planted {
        stack: "fstack",
        connections: 16,
        both: &[],
        without: &["--acks", "delayed"],
        with: &["--acks", "each"],
        device: [""; 2],
    };
    counted(&planted, "ack_segments", 0.8);
}

/// A wait for each event, where there could be one for all of them.
#[test]
fn linux_waits_for_each() {
    let planted = Planted {
        stack: "linux",
        connections: 16,
        both: &[],
        without: &[],
        with: &["--plant-batch", "1"],
        device: [""; 2],
    };
    counted(&planted, "wakes", 0.3);
}

/// Flows that arrive on any core's queue, and are handed over to their own core. Two cores that poll and a client want three
/// CPUs: where there are two, what waits for them may be more than the hand-over.
#[test]
fn fstack_misdirected() {
    let planted = Planted {
        stack: "fstack",
        connections: 16,
        both: &["--threads", "2"],
        without: &[],
        with: &[],
        device: ["", ",spread=turn"],
    };
    let told = Told {
        gap: "latency",
        names: &["C1"],
        first: false,
        size: at_least(500.0),
    };
    found(&planted, &told);
}
