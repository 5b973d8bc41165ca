//! Slowdowns that options plant into real servers: of a recording without and one with it, `bypassprof explain` puts what
//! was planted first. Needs root, and the tool built beside the server; says so and passes without.

use crate::server::Server;
use crate::veth::{joined, lab, load};
use loadgen::Load;
use netlab::{Interface, Namespace};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A slowdown: how the server is run without and with it, and what must be told of it.
struct Planted {
    stack: &'static str,
    /// Options of both, and of each.
    both: &'static [&'static str],
    without: &'static [&'static str],
    with: &'static [&'static str],
    connections: usize,
    /// The first finding of this gap has one of these names and is measured or sampled, not guessed.
    gap: &'static str,
    first: &'static [&'static str],
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
    options: &[&str],
    file: &Path,
) {
    let mut command = server.command(tool);
    command.arg("record").arg("-o").arg(file);
    command.args(["--", env!("CARGO_BIN_EXE_httpd"), "--stack", planted.stack]);
    if planted.stack == "linux" {
        command.args(["--listen", "10.123.0.2:8080"]);
    } else {
        command.args(["--dev", "packet:http-s"]);
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
fn found(planted: &Planted) {
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
        for (file, how) in files.iter().zip([planted.without, planted.with]) {
            record(&tool, &namespaces, planted, how, file);
        }
        let mut explain = Command::new(&tool);
        let out = explain.args(["explain", "--json"]).args(&files).output();
        let out = out.unwrap();
        let error = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{error}");
        let told: Value = serde_json::from_slice(&out.stdout).unwrap();
        let findings = told["findings"].as_array().unwrap();
        let first = findings.iter().find(|f| f["gap"] == planted.gap);
        let is_it = |f: &&Value| {
            let id = f["id"].as_str().unwrap();
            planted.first.contains(&id) && f["slower"] == "B" && f["confidence"] != "suspected"
        };
        if first.filter(is_it).is_some() {
            return;
        }
        seen.push(told);
    }
    panic!("not first in three tries: {seen:#?}");
}

/// The timer that drains the transmit queue, at a load at which no burst is ever full.
#[test]
fn fstack_drains_late() {
    found(&Planted {
        stack: "fstack",
        both: &[],
        without: &["--tx-drain-us", "0"],
        with: &["--tx-drain-us", "100"],
        connections: 1,
        gap: "latency",
        first: &["F1"],
    });
}

/// Copies of each reply.
#[test]
fn fstack_copies() {
    found(&Planted {
        stack: "fstack",
        both: &["--body", "4096"],
        without: &[],
        with: &["--plant-copies", "256"],
        connections: 16,
        gap: "work",
        first: &["C5"],
    });
}

/// The same of another stack.
#[test]
fn linux_copies() {
    found(&Planted {
        stack: "linux",
        both: &["--body", "4096"],
        without: &[],
        with: &["--plant-copies", "256"],
        connections: 16,
        gap: "work",
        first: &["C5"],
    });
}

/// A lock that another thread holds.
#[test]
fn linux_locks() {
    found(&Planted {
        stack: "linux",
        both: &[],
        without: &[],
        with: &["--plant-lock-us", "100"],
        connections: 16,
        gap: "work",
        first: &["C3"],
    });
}
