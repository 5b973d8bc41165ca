//! DPDK programs as they are, recorded with `--dpdk`: Debian's `dpdk-testpmd` on devices without hardware. Its own
//! statistics say what happened; ours must say the same, to the last packet.

use crate::support::{Place, Run};
use serde_json::Value;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Why a test is left out here, if it is.
fn missing() -> Option<&'static str> {
    let found = |name: &str| {
        let dirs = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&dirs).any(|dir| dir.join(name).exists())
    };
    if !found("dpdk-testpmd") {
        Some("no dpdk-testpmd; apt-get install dpdk-dev")
    } else if !rustix::process::geteuid().is_root() {
        Some("devices of DPDK's are made by root only")
    } else {
        None
    }
}

/// Leaves the test out, aloud, where it cannot run.
macro_rules! or_leave_out {
    () => {
        if let Some(why) = missing() {
            eprintln!("left out: {why}");
            return;
        }
    };
}

mod built_in;
mod drops;
mod programs;
mod ways;

/// A run of testpmd: what it is typed, a little time after each line, and what it said.
struct Testpmd {
    run: Run,
    queues: Value,
}

const EAL: &[&str] = &[
    "--no-huge",
    "-m",
    "256",
    "--no-pci",
    "--no-shconf",
    "-l",
    "0,1",
];

/// Records testpmd with these devices and queues; `before` is done first, in a network of its own.
fn testpmd(place: &Place, before: &str, devices: &[&str], queues: u32, typed: &[&str]) -> Testpmd {
    let record = place.bypassprof(&["record", "--dpdk", "--"]);
    testpmd_by(record, place, before, devices, queues, typed)
}

/// The same by another command than plain `record --dpdk --`.
fn testpmd_by(
    mut command: Command,
    place: &Place,
    before: &str,
    devices: &[&str],
    queues: u32,
    typed: &[&str],
) -> Testpmd {
    let prefix = format!("--file-prefix=bypassprof-{}-{queues}", std::process::id());
    let counts = [format!("--rxq={queues}"), format!("--txq={queues}")];
    let shell = format!("{before} exec stdbuf -oL dpdk-testpmd \"$@\"");
    command.args(["unshare", "-n", "sh", "-c"]);
    command.arg(shell).arg("sh").args(EAL).arg(prefix);
    for device in devices {
        command.arg("--vdev").arg(device);
    }
    command.args([
        "--",
        "-i",
        "--nb-cores=1",
        "--total-num-mbufs=8192",
        "--no-flush-rx",
    ]);
    command.args(counts);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let run = converse(command.spawn().unwrap(), typed, |_| ());
    assert_eq!(run.code, Some(0), "{}\n{}", run.out, run.err);
    let queues = place.run(&["queues", "--json"]);
    assert_eq!(
        queues.code,
        Some(0),
        "{}\n{}\n{}",
        queues.err,
        run.out,
        run.err
    );
    Testpmd {
        run,
        queues: serde_json::from_str(&queues.out).unwrap(),
    }
}

/// Types each line when the one before has been answered: what is echoed would tear the answer apart.
fn converse(mut child: Child, typed: &[&str], mut before_quit: impl FnMut(u32)) -> Run {
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let said = Arc::new(Mutex::new(Vec::new()));
    let hearing = Arc::clone(&said);
    let listener = std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(n) = stdout.read(&mut piece)
            && n > 0
        {
            hearing.lock().unwrap().extend_from_slice(&piece[..n]);
        }
    });
    let answers = || {
        let said = said.lock().unwrap();
        let prompts = said.windows(8).filter(|w| w == b"testpmd>").count();
        let ends = said.windows(5).filter(|w| w == b"Done.").count();
        (prompts, ends)
    };
    let wait_for = |is_there: &dyn Fn() -> bool, what: &str| {
        let enough = (0..3000).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            is_there()
        });
        let said = || String::from_utf8_lossy(&said.lock().unwrap()).into_owned();
        assert!(enough, "no answer to {what}: {}", said());
    };
    wait_for(&|| answers().0 > 0, "its start");
    for line in typed {
        let (prompts, ends) = answers();
        if *line == "quit" {
            before_quit(child.id());
        }
        writeln!(stdin, "{line}").unwrap();
        if *line == "quit" {
            break;
        }
        // Typed ahead of its prompt, a line would take the one before for its own answer.
        wait_for(&|| answers().0 > prompts, line);
        match *line {
            "start" => std::thread::sleep(Duration::from_millis(250)),
            "show port info 0" => std::thread::sleep(Duration::from_millis(1500)),
            "stop" => wait_for(&|| answers().1 > ends, line),
            _ => {}
        }
    }
    drop(stdin);
    let mut err = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    let code = child.wait().unwrap().code();
    listener.join().unwrap();
    let out = String::from_utf8_lossy(&said.lock().unwrap()).into_owned();
    Run { code, out, err }
}

impl Testpmd {
    /// Sums of a number in testpmd's statistics of each run, for a port.
    fn told(&self, port: u64, name: &str) -> u64 {
        let heading = format!("Forward statistics for port {port} ");
        let parts = self.run.out.split(&heading).skip(1);
        let number = |part: &str| {
            let (_, rest) = part.split_once(name)?;
            rest.split_whitespace().next()?.parse::<u64>().ok()
        };
        parts
            .map(|part| number(part).unwrap_or_else(|| panic!("no {name}: {part}")))
            .sum()
    }

    /// Sums over our queues of a port.
    fn counted(&self, port: u64, receives: bool, what: &str) -> u64 {
        let rows = self.queues["rows"].as_array().unwrap().iter();
        let mine = rows.filter(|r| r["port"] == port && r["receives"] == receives);
        mine.map(|r| r[what].as_u64().unwrap()).sum()
    }

    /// Frames of both ports and directions are those of testpmd's own statistics; returns all of them.
    fn agrees(&self) -> u64 {
        let mut all = 0;
        for port in [0, 1] {
            for (receives, name) in [(true, "RX-packets:"), (false, "TX-packets:")] {
                let (told, counted) = (
                    self.told(port, name),
                    self.counted(port, receives, "frames"),
                );
                assert_eq!(counted, told, "port {port} {name}\n{}", self.run.out);
                all += told;
            }
            let refused = self.counted(port, false, "refused");
            assert_eq!(refused, self.told(port, "TX-dropped:"), "{}", self.run.out);
        }
        all
    }
}

/// What is typed to go through modes of forwarding.
fn modes(modes: &[&str]) -> Vec<String> {
    let mut typed = vec!["set record-burst-stats on".to_owned()];
    for mode in modes {
        typed.extend([
            format!("set fwd {mode}"),
            "start".to_owned(),
            "stop".to_owned(),
        ]);
    }
    typed.push("quit".to_owned());
    typed
}

const MODES: [&str; 6] = ["txonly", "io", "mac", "5tswap", "flowgen", "rxonly"];

fn all_modes(before: &str, devices: &[&str]) {
    for queues in [1, 2] {
        modes_with(queues, before, devices);
    }
}

fn modes_with(queues: u32, before: &str, devices: &[&str]) {
    or_leave_out!();
    let place = Place::new();
    let typed = modes(&MODES);
    let typed: Vec<_> = typed.iter().map(String::as_str).collect();
    let run = testpmd(&place, before, devices, queues, &typed);
    assert!(run.agrees() > 1000, "{}", run.run.out);
    let rows = run.queues["rows"].as_array().unwrap();
    assert_eq!(rows.len() as u32, 4 * queues, "{rows:#?}");
}

/// Every mode on devices that make and drop packets.
#[test]
fn null_devices() {
    all_modes("", &["net_null0", "net_null1"]);
}

/// Polls are testpmd's own bursts by its burst statistics, sizes too; the program tells of its ports when it is asked.
#[test]
fn bursts_and_devices() {
    or_leave_out!();
    let place = Place::new();
    let typed = [
        "set record-burst-stats on",
        "start",
        "show port info 0",
        "stop",
        "quit",
    ];
    let run = testpmd(&place, "", &["net_null0", "net_null1"], 2, &typed);
    run.agrees();
    for (receives, name) in [(true, "RX-bursts : "), (false, "TX-bursts : ")] {
        let parts = run.run.out.split(name).skip(1);
        let number = |part: &str| part.split_whitespace().next()?.parse::<u64>().ok();
        let told: u64 = parts.map(|part| number(part).unwrap()).sum();
        let counted = [0, 1].map(|port| run.counted(port, receives, "calls"));
        assert_eq!(counted.iter().sum::<u64>(), told, "{name}{}", run.run.out);
        assert!(told > 0);
    }
    for row in run.queues["rows"].as_array().unwrap() {
        assert_eq!(row["sizes"], serde_json::json!([[32, row["calls"]]]));
    }
    let port = &run.queues["ports"][0];
    assert_eq!(port["device"]["name"], "net_null0", "{port:#}");
    assert_eq!(
        port["imbalance"].as_f64().map(|i| i < 1.1),
        Some(true),
        "{port:#}"
    );
    let lane = &run.queues["lanes"][0];
    assert_eq!(
        (&lane["lcore"], &lane["name"]),
        (&1.into(), &"lcore 1".into())
    );
    let pools = &run.queues["pools"];
    assert_eq!(pools[0]["last"]["size"], 8192, "{pools:#}");
}

/// Whatever ends the program, what it counted until then is whole; whatever ends the recorder, the program runs on with
/// its own functions, and another recorder counts from there.
#[test]
fn killed_and_recorded_again() {
    or_leave_out!();
    let place = Place::new();
    let prefix = format!("--file-prefix=bypassprof-killed-{}", std::process::id());
    let mut command =
        place.bypassprof(&["record", "--dpdk", "-o", "first.mcap", "--", "dpdk-testpmd"]);
    command
        .args(EAL)
        .arg(prefix)
        .args(["--vdev", "net_null0", "--vdev", "net_null1"]);
    command.args([
        "--",
        "--total-num-mbufs=8192",
        "--no-flush-rx",
        "--auto-start",
        "--stats-period=1",
    ]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut recorder = command.spawn().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", recorder.id());
    let child = || {
        let text = std::fs::read_to_string(&children).ok()?;
        let pid = text.trim().parse().ok()?;
        (wrapped(pid)? == 3).then_some(pid)
    };
    let program: u32 = (0..3000)
        .find_map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            child()
        })
        .expect("its ports are never counted");
    let program = Orphan(program);
    std::thread::sleep(Duration::from_millis(2500));
    recorder.kill().unwrap();
    recorder.wait().unwrap();
    std::thread::sleep(Duration::from_millis(400));
    let first = place.run(&["queues", "first.mcap"]);
    assert_eq!(first.code, Some(0), "{}", first.err);
    // Alive, and counting no more: nobody wants it.
    let counts = || wrapped(program.0);
    assert_eq!(counts(), Some(0), "the drivers' functions are back");
    let pid = program.0.to_string();
    let again = place.run(&["record", "-o", "again.mcap", "--duration", "1", "-p", &pid]);
    assert_eq!(again.code, Some(0), "{}", again.err);
    let again = place.run(&["queues", "again.mcap", "--json"]);
    let again: Value = serde_json::from_str(&again.out).unwrap_or_else(|_| panic!("{}", again.err));
    let rows = again["rows"].as_array().unwrap();
    assert!(
        rows.len() == 4 && rows.iter().all(|r| r["frames"].as_u64() > Some(0)),
        "{again:#}"
    );
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(counts(), Some(0), "it was left as it was found");
}

/// A program whose recorder was killed: it would run for ever, whatever becomes of the test.
struct Orphan(u32);

impl Drop for Orphan {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.0.cast_signed()) {
            // If it ended by itself, so much the better.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Which ports a program counts now, from its queue file, wherever its directory is.
fn wrapped(pid: u32) -> Option<u64> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let text = String::from_utf8_lossy(&environment).into_owned();
    let dir = text
        .split('\0')
        .find_map(|e| e.strip_prefix("BYPASSPROF_SESSION="))?;
    let mut files = std::fs::read_dir(dir)
        .ok()?
        .filter_map(|e| Some(e.ok()?.path()));
    let file = files.find(|f| f.extension().is_some_and(|e| e == "queues"))?;
    let bytes = std::fs::read(file).ok()?;
    Some(u64::from_ne_bytes(bytes.get(144..152)?.try_into().ok()?))
}

/// What recording costs the forwarding thread: nanoseconds on its CPU for a frame, as often as rounds go, taken in turns
/// so that a busy machine disturbs all alike. With the tool and the library as they are released:
/// `cargo build --release -p bypassprof -p bypassprof-dpdk && BYPASSPROF_TOOL=$PWD/target/release/bypassprof
/// BYPASSPROF_DPDK_LIBRARY=$PWD/target/release/libbypassprof_dpdk.so
/// cargo test -p bypassprof --test main dpdk::cost -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn cost() {
    or_leave_out!();
    let place = Place::new();
    let alone: &[&str] = &[];
    let perf: &[&str] = &[
        "perf",
        "record",
        "-q",
        "-g",
        "-F",
        "997",
        "-o",
        "perf.data",
        "--",
    ];
    let ways: [(&str, &[&str]); 4] = [
        ("alone", alone),
        ("perf record -g", perf),
        ("record", &["record", "--"]),
        ("record --dpdk", &["record", "--dpdk", "--"]),
    ];
    let cable = ["net_af_packet0,iface=one", "net_af_packet1,iface=two"];
    for (devices, mode, burst) in [
        (["net_null0", "net_null1"], "io", 32),
        (["net_null0", "net_null1"], "io", 1),
        (cable, "txonly", 32),
    ] {
        let mut figures = [const { Vec::new() }; 4];
        for _ in 0..4 {
            for (way, of) in ways.iter().zip(&mut figures) {
                of.push(ns_per_frame(&place, way.1, &devices, mode, burst));
            }
        }
        for (way, mut of) in ways.iter().zip(figures) {
            of.sort_by(f64::total_cmp);
            let median = (of[1] + of[2]) / 2.0;
            println!(
                "{} {mode}, bursts of {burst:2}, {:15} {median:8.2} ns a frame, {of:.2?}",
                devices[0], way.0
            );
        }
    }
}

fn ns_per_frame(place: &Place, how: &[&str], devices: &[&str], mode: &str, burst: u32) -> f64 {
    let cable =
        "ip link add one type veth peer name two && ip link set one up && ip link set two up &&";
    let shell = format!("{cable} exec stdbuf -oL dpdk-testpmd \"$@\"");
    let mut command = match how {
        [] => Command::new("unshare"),
        ["perf", options @ ..] => {
            let mut command = Command::new("perf");
            command.args(options).arg("unshare");
            command.current_dir(place.path(""));
            command
        }
        how => {
            // The tests' own is not optimized, and shares the CPUs.
            let tool = std::env::var_os("BYPASSPROF_TOOL");
            let mut command = match tool {
                Some(tool) => Command::new(tool),
                None => place.bypassprof(&[]),
            };
            command.args(how).arg("unshare").current_dir(place.path(""));
            command
        }
    };
    command
        .args(["-n", "sh", "-c"])
        .arg(shell)
        .arg("sh")
        .args(EAL);
    command.arg(format!(
        "--file-prefix=bypassprof-cost-{}",
        std::process::id()
    ));
    for device in devices {
        command.args(["--vdev", device]);
    }
    command.args([
        "--",
        "-i",
        "--nb-cores=1",
        "--total-num-mbufs=8192",
        "--no-flush-rx",
    ]);
    command
        .arg(format!("--burst={burst}"))
        .arg(format!("--forward-mode={mode}"));
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut ns = 0.0;
    let typed = ["start", "show port info 0", "stop", "quit"];
    let run = converse(command.spawn().unwrap(), &typed, |child| {
        let children =
            std::fs::read_to_string(format!("/proc/{child}/task/{child}/children")).unwrap();
        let pid = children
            .split_whitespace()
            .next()
            .map_or(child, |c| c.parse().unwrap());
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let read =
            |dir: &std::path::Path, what: &str| std::fs::read_to_string(dir.join(what)).unwrap();
        let mut dirs = tasks.map(|t| t.unwrap().path());
        let worker = dirs
            .find(|d| read(d, "comm").starts_with("rte-worker"))
            .unwrap();
        ns = read(&worker, "schedstat")
            .split(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap();
    });
    let told = Testpmd {
        run,
        queues: Value::Null,
    };
    let frames: u64 = [0, 1]
        .map(|port| told.told(port, "TX-packets:"))
        .iter()
        .sum();
    ns / frames as f64
}

/// Every mode on rings.
#[test]
fn ring_devices() {
    all_modes("", &["net_ring0", "net_ring1"]);
}

/// Every mode on interfaces that the program makes in the kernel.
#[test]
fn tap_devices() {
    all_modes("", &["net_tap0,iface=one", "net_tap1,iface=two"]);
}

/// Every mode on the ends of a cable of the kernel's.
#[test]
fn packet_sockets() {
    for queues in [1, 2] {
        let device =
            |name: &str, interface: &str| format!("{name},iface={interface},qpairs={queues}");
        let devices = [
            device("net_af_packet0", "one"),
            device("net_af_packet1", "two"),
        ];
        let cable = "ip link add one type veth peer name two && ip link set one up && ip link set two up &&";
        let devices: Vec<_> = devices.iter().map(String::as_str).collect();
        modes_with(queues, cable, &devices);
    }
}
