//! The server over DPDK, recorded by its own probes and by those that are hung on DPDK's burst functions: both tell the same.

use crate::crash::tool;
use crate::server::Server;
use crate::veth::{joined, lab, load};
use bypassprof::trace::Reader;
use loadgen::Load;
use netlab::Namespace;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// What was recorded of a server under a load of so many requests a second.
#[derive(Debug, Default)]
struct Told {
    /// Polls, bursts in, frames in, frames out, by the server's own probes.
    own: [u64; 4],
    /// The same by the counts of DPDK's queues.
    hung: [u64; 4],
    /// Requests finished, which only the server's own probes know.
    requests: u64,
    /// The busy part of the time that the serving thread polled or worked.
    busy: f64,
}

fn told(client: &Namespace, server: &Namespace, tool: &Path, how: &[&str], program: &Path) -> Told {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("told.mcap");
    let mut command = server.command(tool.to_str().unwrap());
    command
        .args(["record", "-o", file.to_str().unwrap()])
        .args(how);
    command.arg("--").arg(program);
    command.args([
        "--stack",
        "fstack",
        "--dev",
        "dpdk:net_af_packet0,iface=http-s",
    ]);
    let served = Server::spawn(command);
    let mut plan = Load::new(served.address);
    (plan.duration, plan.connections) = (Duration::from_millis(1500), 4);
    plan.rate = Some(1500.0);
    load(client, &plan);
    served.end();
    let reader = Reader::open(&file).unwrap();
    let summary = reader.meta();
    let mut told = Told::default();
    for totals in summary.totals.values() {
        let more = [
            totals.rounds,
            totals.rx_bursts,
            totals.rx_packets,
            totals.tx_packets,
        ];
        told.own.iter_mut().zip(more).for_each(|(sum, n)| *sum += n);
        told.requests += totals.requests;
    }
    for queue in summary.queues.values() {
        let calls: u64 = queue.sizes.iter().map(|s| s.1).sum();
        let empty: u64 = queue.sizes.iter().filter(|s| s.0 == 0).map(|s| s.1).sum();
        let more = if queue.receives {
            [calls, calls - empty, queue.frames, 0]
        } else {
            [0, 0, 0, queue.frames]
        };
        told.hung
            .iter_mut()
            .zip(more)
            .for_each(|(sum, n)| *sum += n);
    }
    let report = Command::new(tool)
        .args(["report", "--json"])
        .arg(&file)
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    let threads = report["threads"].as_array().unwrap();
    let serving = threads
        .iter()
        .find(|t| t["useful_share"].as_f64().is_some_and(|u| u > 0.0));
    let share = |what: &str| {
        serving.unwrap_or_else(|| panic!("{threads:#?}"))[what]
            .as_f64()
            .unwrap()
    };
    told.busy = share("useful_share") / (share("useful_share") + share("empty_poll_share"));
    told
}

/// Whether two counts are so near to each other, as a part of the larger.
fn near(a: u64, b: u64, part: f64) -> bool {
    a.abs_diff(b) as f64 <= part * a.max(b) as f64
}

#[test]
fn own_probes_and_hung_ones_agree() {
    if !cfg!(feature = "dpdk") {
        eprintln!("left out: built without --features dpdk");
        return;
    }
    let (Some(tool), Some(lab)) = (tool(), lab()) else {
        return;
    };
    let (client, server) = joined(&lab);
    let httpd = Path::new(env!("CARGO_BIN_EXE_httpd"));
    // Both at once: nothing is counted twice, and what differs came before the recorder had switched the points on.
    let both = told(&client, &server, &tool, &["--dpdk"], httpd);
    assert!(both.requests > 100, "{both:?}");
    let [own, hung] = [both.own, both.hung];
    assert!(near(own[0], hung[0], 0.2), "{both:?}");
    for what in 1..4 {
        assert!(
            own[what] > 100 && hung[what] >= own[what] && hung[what] - own[what] <= 64,
            "{both:?}"
        );
    }
    // One and the other, the latter of a server that has no probes itself.
    let plain = httpd.with_file_name("httpd-plain");
    if !plain.exists() {
        eprintln!("left out: {} is not built", plain.display());
        return;
    }
    let own = told(&client, &server, &tool, &[], httpd);
    let hung = told(&client, &server, &tool, &["--dpdk"], &plain);
    assert!(own.hung == [0; 4], "{own:?}");
    // How many polls fit into the time, and how many frames wait for each, is the machine's business, not that of frames.
    assert!(
        hung.hung[1] > 100 && hung.own == hung.hung && hung.requests == 0,
        "{hung:?}"
    );
    for what in 2..4 {
        assert!(
            near(own.own[what], hung.hung[what], 0.3),
            "{what}: {own:?} {hung:?}"
        );
    }
    // Nor is how long it was on a CPU: what work on a frame takes is told in polls that might have been made meanwhile.
    let price = |told: &Told| {
        let polls = told.own[0] as f64 * told.busy / (1.0 - told.busy);
        (polls / told.own[2] as f64) as u64
    };
    assert!(near(price(&own), price(&hung), 0.5), "{own:?} {hung:?}");
    println!("own probes: {own:?}\nhung ones: {hung:?}\nboth: {both:?}");
}
