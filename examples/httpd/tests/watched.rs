//! A server that was started before anyone looked, seen from outside by the tool: counted for each request and packet,
//! and recorded out of a container.

use crate::crash::tool;
use crate::server::Server;
use crate::traced::children_of;
use crate::veth::{command, joined, lab, load};
use loadgen::{Load, Report};
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

fn json(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value}"))
}

fn plan(server: &Server) -> Load {
    let mut plan = Load::new(server.address);
    plan.duration = Duration::from_millis(700);
    plan.connections = 4;
    plan
}

/// Interrupts a tool; what it says then.
fn ended(tool: Child) -> std::process::Output {
    let pid = rustix::process::Pid::from_child(&tool);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    tool.wait_with_output().unwrap()
}

/// `stat -p`: requests and frames are those of the time that it looked, and counts are told for each of them.
#[test]
fn counted_for_each_request() {
    let (Some(tool), Some(lab)) = (tool(), lab()) else {
        return;
    };
    let (client, server) = joined(&lab);
    let server = Server::spawn(command(&server, "fstack", &["--dev", "packet:http-s"]));
    // Before anyone looks: not counted.
    load(&client, &plan(&server));
    let pid = server.pid().to_string();
    let mut stat = Command::new(tool);
    stat.args(["stat", "--json", "-e", "task-clock,cs", "-p", &pid]);
    let stat = stat.stdout(Stdio::piped()).spawn().unwrap();
    // What a program does before it is found is not counted.
    std::thread::sleep(Duration::from_millis(700));
    let report = load(&client, &plan(&server));
    std::thread::sleep(Duration::from_millis(200));
    let output = ended(stat);
    let stat: Value = serde_json::from_slice(&output.stdout).unwrap();
    let requests = number(&stat["requests"]);
    let asked = report.requests as f64;
    // Those on their way at the end are answered, but not waited for.
    assert!(
        (asked..=asked + 4.0).contains(&requests),
        "{asked} asked: {stat:#}"
    );
    let received = number(&stat["packets"]["rx"]);
    assert!(received >= requests, "{stat:#}");
    assert!(
        number(&stat["polls"]) > number(&stat["empty_polls"]),
        "{stat:#}"
    );
    let clock = &stat["counters"][0];
    let value = number(&clock["value"]);
    for (of, number_of) in [("per_request", requests), ("per_packet", received)] {
        let share = number(&clock[of]) * number_of / value;
        assert!((0.999..1.001).contains(&share), "{of}: {stat:#}");
    }
    server.end();
}

/// A server in its own user, PID and mount namespaces, on file systems that no one else sees: its probes are found
/// through its root, its functions have names from a file that is not here, and its threads are one with their samples.
#[test]
fn recorded_out_of_a_container() {
    let Some(tool) = tool() else { return };
    let place = tempfile::tempdir().unwrap();
    let inside = place.path().join("only-here");
    std::fs::create_dir(&inside).unwrap();
    let namespaces = [
        "--user",
        "--map-root-user",
        "--pid",
        "--mount",
        "--fork",
        "--kill-child",
    ];
    let works = Command::new("unshare")
        .args(namespaces)
        .arg("true")
        .status();
    if !works.is_ok_and(|s| s.success()) {
        eprintln!("left out: there are no namespaces for us");
        return;
    }
    let script = format!(
        "mount -t tmpfs none {0} && mount -t tmpfs none /dev/shm && (mount -t proc none /proc || :) && cp \"$0\" {0}/served && \
         cd {0} && exec ./served --listen 127.0.0.1:0",
        inside.display()
    );
    let mut command = Command::new("unshare");
    command.args(namespaces);
    command.args(["sh", "-c", &script, env!("CARGO_BIN_EXE_httpd")]);
    let server = Server::spawn(command);
    assert!(!inside.join("served").exists());
    let pid = children_of(server.pid())[0];
    let file = place.path().join("out.mcap");
    let file = file.to_str().unwrap();
    let mut record = Command::new(&tool);
    record.args(["record", "-p", &pid.to_string(), "-o", file]);
    let recorder = record.stderr(Stdio::piped()).spawn().unwrap();
    wait_for(Path::new(file));
    std::thread::sleep(Duration::from_millis(700));
    let report: Report = loadgen::run(&plan(&server), &AtomicBool::new(false)).unwrap();
    assert!(report.requests > 0);
    let output = ended(recorder);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let stat = json(Command::new(&tool).args(["stat", "--json", file]));
    let (asked, requests) = (report.requests as f64, number(&stat["requests"]));
    assert!(
        (asked..=asked + 4.0).contains(&requests),
        "{asked} asked: {stat:#}"
    );
    let told = json(Command::new(&tool).args(["report", "--json", file]));
    let functions = told["functions"].as_array().unwrap();
    let own = functions.iter().filter(|f| f["module"] == "served");
    let names: Vec<_> = own.map(|f| f["name"].as_str().unwrap()).collect();
    assert!(names.iter().any(|n| n.contains("httpjob")), "{names:?}");
    assert!(!names.iter().any(|n| n.contains("unknown")), "{names:?}");
    // A thread of that process has samples and, from its ring, useful work: they were taken for one.
    let threads = told["threads"].as_array().unwrap();
    let joined = |t: &&Value| t["pid"] == pid && t["useful_share"].as_f64() > Some(0.0);
    assert!(threads.iter().any(|t| joined(&t)), "{told:#}");
}

/// Waits until a file is there.
fn wait_for(path: &Path) {
    let start = Instant::now();
    while !path.exists() {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "no {}",
            path.display()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
