//! Whom `record` and `stat` look at, and when: whole CPUs, control groups, crowds of threads, processes that end, orders
//! on the way.

use crate::support::{Place, Run, row};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn privileged() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("left out: needs root");
    }
    root
}

fn spawn(place: &Place, seconds: &str) -> Child {
    let mut command = Command::new(place.path("hot"));
    command.arg(seconds).stdout(Stdio::null()).spawn().unwrap()
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn stat(run: &Run) -> Value {
    assert_eq!(run.code, Some(0), "{}", run.err);
    serde_json::from_str(&run.out).unwrap()
}

fn count(stat: &Value, at: usize) -> f64 {
    stat["counters"][at]["value"]
        .as_f64()
        .unwrap_or_else(|| panic!("{stat:#}"))
}

/// Everything on the machine, or on a CPU: programs that were never named are there, by name.
#[test]
fn whole_cpus() {
    if !privileged() {
        return;
    }
    let place = Place::new();
    place.hot();
    let child = spawn(&place, "600");
    let run = place.run(&["record", "-a", "--duration", "0.5"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    row(&place.report()["functions"], "hot");
    row(&place.report()["threads"], "hot");
    let run = place.run(&[
        "stat",
        "--json",
        "-a",
        "-e",
        "task-clock:u,cpu-clock",
        "--duration",
        "0.3",
    ]);
    assert!(count(&stat(&run), 0) > 0.0);
    // A CPU's clock runs as long as it is watched.
    let one = stat(&place.run(&[
        "stat",
        "--json",
        "-C",
        "0",
        "-e",
        "cpu-clock",
        "--duration",
        "0.3",
    ]));
    let share = count(&one, 0) / one["elapsed_ns"].as_f64().unwrap();
    assert!((0.9..1.1).contains(&share), "{share}");
    // And for as long as a command runs.
    let run = place.run(&["record", "-C", "0", "--", "sleep", "0.2"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    end(child);
    let run = place.run(&["record", "-C", "4095"]);
    assert_eq!(
        (run.code, run.err.contains("4095 is not online")),
        (Some(2), true),
        "{}",
        run.err
    );
}

/// A control group: what is in it is counted, what is not is not.
#[test]
fn control_group() {
    let places = [
        "/sys/fs/cgroup/perf_event",
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/unified",
    ];
    let name = format!("bypassprof-test-{}", std::process::id());
    let make = |p: &&&str| {
        Path::new(p).join("cgroup.procs").exists()
            && fs::create_dir(Path::new(p).join(&name)).is_ok()
    };
    let Some(parent) = places.iter().find(make) else {
        eprintln!("left out: no control group can be made here");
        return;
    };
    let group = Path::new(parent).join(&name);
    let place = Place::new();
    place.hot();
    let (inside, outside) = (spawn(&place, "600"), spawn(&place, "600"));
    fs::write(group.join("cgroup.procs"), inside.id().to_string()).unwrap();
    let run = place.run(&["record", "--cgroup", &name, "--duration", "0.5"]);
    let counted = place.run(&[
        "stat",
        "--json",
        "--cgroup",
        &name,
        "-e",
        "task-clock",
        "--duration",
        "0.3",
    ]);
    let (pid, other) = (inside.id(), outside.id());
    end(inside);
    end(outside);
    let left = Instant::now();
    while fs::remove_dir(&group).is_err() && left.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(run.code, Some(0), "{}", run.err);
    let report = place.report();
    row(&report["functions"], "hot");
    let threads = report["threads"].as_array().unwrap();
    let samples = |pid: u32| {
        let of = threads.iter().filter(|t| t["pid"] == pid);
        of.map(|t| t["samples"].as_u64().unwrap()).sum::<u64>()
    };
    assert!(samples(pid) > 0, "{report:#}");
    assert_eq!(samples(other), 0, "{report:#}");
    assert!(count(&stat(&counted), 0) > 0.0);
    assert_eq!(
        place.run(&["stat", "--cgroup", "no/such", "-e", "cs"]).code,
        Some(1)
    );
}

const CROWD: &str = r#"
#include <pthread.h>
#include <stdlib.h>
volatile unsigned sink;
static void *work(void *none) { for (int i = 0; i < 2000; i++) sink += i; return none; }
int main(int argc, char **argv) {
    int left = atoi(argv[1]);
    while (left > 0) {
        pthread_t t[20];
        int n = left < 20 ? left : 20;
        for (int i = 0; i < n; i++) if (pthread_create(&t[i], 0, work, 0)) return 1;
        for (int i = 0; i < n; i++) pthread_join(t[i], 0);
        left -= n;
    }
    return 0;
}
"#;

/// Ten thousand threads that come and go: all of them are seen, or the loss is told.
#[test]
fn crowd_of_threads() {
    let place = Place::new();
    place.compile("cc", "crowd", CROWD, &["-O1", "-pthread"]);
    let run = place.record(&["./crowd", "10000"]);
    let words: Vec<&str> = run.err.split_whitespace().collect();
    let before = |word: &str| {
        let at = words.iter().position(|w| w.starts_with(word)).unwrap();
        words[at - 1].parse::<u64>().unwrap()
    };
    let (threads, lost) = (before("threads"), before("other"));
    assert!(threads == 10_001 || lost > 0, "{}", run.err);
    let counted = place.run(&[
        "stat",
        "--json",
        "-e",
        "task-clock",
        "--",
        "./crowd",
        "2000",
    ]);
    assert!(count(&stat(&counted), 0) > 0.0);
}

/// Processes that end while they are attached to: a recording, or that there is no such process.
#[test]
fn ending_while_attached() {
    let place = Place::new();
    for at in 0..24u64 {
        let mut child = Command::new("sh")
            .args(["-c", "sleep 0.01; :"])
            .spawn()
            .unwrap();
        let pid = child.id().to_string();
        let reaper = std::thread::spawn(move || child.wait().unwrap());
        std::thread::sleep(Duration::from_micros(at * 500));
        let run = place.run(&["record", "-p", &pid]);
        let gone = run.code == Some(1)
            && (run.err.contains("no process") || run.err.contains("No such process"));
        assert!(run.code == Some(0) || gone, "{run:?}");
        assert!(!run.err.contains("panicked"), "{run:?}");
        reaper.join().unwrap();
    }
}

/// A delay leaves the beginning out; what was mapped meanwhile has its names.
#[test]
fn delay() {
    let place = Place::new();
    place.hot();
    let run = place.run(&["record", "-D", "300", "--", "./hot", "0.9"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    row(&place.report()["functions"], "hot");
    let counted = |delay: &str| {
        let run = place.run(&[
            "stat",
            "--json",
            "-D",
            delay,
            "-e",
            "page-faults:u,task-clock",
            "--",
            "./hot",
            "0.5",
        ]);
        count(&stat(&run), 0)
    };
    // A program faults when it begins.
    let (all, late) = (counted("0"), counted("250"));
    assert!(late < all / 4.0, "{late} of {all}");
}

/// Orders through a fifo, answered; nothing is counted before `enable` and after `disable`; `stop` ends it.
#[test]
fn control_fifo() {
    let place = Place::new();
    place.hot();
    for name in ["ctl", "ack"] {
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(
            rustix::fs::CWD,
            place.path(name),
            rustix::fs::FileType::Fifo,
            mode,
            0,
        )
        .unwrap();
    }
    let both = |name: &str| {
        fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(place.path(name))
            .unwrap()
    };
    let (mut ctl, mut ack) = (both("ctl"), both("ack"));
    let child = spawn(&place, "600");
    let pid = child.id().to_string();
    let recorder = |args: &[&str]| {
        let mut command = place.bypassprof(args);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut order = |text: &str| {
        ctl.write_all(format!("{text}\n").as_bytes()).unwrap();
        let mut answer = [0; 4];
        std::io::Read::read_exact(&mut ack, &mut answer).unwrap();
        assert_eq!(&answer, b"ack\n");
    };
    let control = "fifo:ctl,ack";
    let counting = recorder(&[
        "stat",
        "--json",
        "-e",
        "task-clock",
        "-D",
        "-1",
        "-p",
        &pid,
        "--control",
        control,
    ]);
    order("ping");
    std::thread::sleep(Duration::from_millis(300));
    order("enable");
    std::thread::sleep(Duration::from_millis(100));
    order("disable");
    std::thread::sleep(Duration::from_millis(300));
    order("stop");
    let stat = stat(&Run::from(counting.wait_with_output().unwrap()));
    let shares = count(&stat, 0) / stat["elapsed_ns"].as_f64().unwrap();
    assert!(shares > 0.0 && shares < 0.7, "{shares}");
    let recording = recorder(&["record", "-D", "-1", "-p", &pid, "--control", control]);
    order("enable");
    std::thread::sleep(Duration::from_millis(300));
    order("stop");
    let run = Run::from(recording.wait_with_output().unwrap());
    assert_eq!(run.code, Some(0), "{}", run.err);
    row(&place.report()["functions"], "hot");
    end(child);
    for wrong in ["ctl", "fd:x", "pipe:ctl"] {
        let run = place.run(&["stat", "-e", "cs", "--control", wrong, "--", "true"]);
        assert_eq!(run.code, Some(2), "{run:?}");
    }
}

/// Orders through files that are open already, as programs give them that start the recorder.
#[test]
fn control_files() {
    let place = Place::new();
    place.hot();
    let child = spawn(&place, "600");
    let pid = child.id().to_string();
    // Made for heirs: the standard library's would be closed when the recorder starts.
    let [orders, answers] = [(); 2].map(|()| rustix::pipe::pipe().unwrap());
    let number = |fd: &std::os::fd::OwnedFd| std::os::fd::AsRawFd::as_raw_fd(fd).to_string();
    let mut ctl = fs::File::from(orders.1);
    let mut ack = fs::File::from(answers.0);
    for wanted in [true, false] {
        let control = match wanted {
            true => format!("fd:{},{}", number(&orders.0), number(&answers.1)),
            false => format!("fd:{}", number(&orders.0)),
        };
        let options = ["stat", "--json", "-e", "task-clock", "-D", "-1", "-p", &pid];
        let mut command = place.bypassprof(&[&options[..], &["--control", &control]].concat());
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let counting = command.spawn().unwrap();
        for order in ["enable", "disable", "stop"] {
            ctl.write_all(format!("{order}\n").as_bytes()).unwrap();
            if wanted {
                let mut answer = [0; 4];
                std::io::Read::read_exact(&mut ack, &mut answer).unwrap();
                assert_eq!(&answer, b"ack\n");
            }
            std::thread::sleep(Duration::from_millis(250));
        }
        let stat = stat(&Run::from(counting.wait_with_output().unwrap()));
        let share = count(&stat, 0) / stat["elapsed_ns"].as_f64().unwrap();
        // Without answers no one knows when an order was taken: two of them at once count nothing.
        assert!((share > 0.0 || !wanted) && share < 0.8, "{share}");
    }
    end(child);
}

/// SIGUSR1 starts, SIGUSR2 stops.
#[test]
fn signals() {
    let place = Place::new();
    place.hot();
    let mut command = place.bypassprof(&["record", "-D", "-1", "--", "./hot", "1.5"]);
    let recorder = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = rustix::process::Pid::from_child(&recorder);
    let signal = |signal| rustix::process::kill_process(pid, signal).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    signal(rustix::process::Signal::USR1);
    std::thread::sleep(Duration::from_millis(400));
    signal(rustix::process::Signal::USR2);
    let run = Run::from(recorder.wait_with_output().unwrap());
    assert_eq!(run.code, Some(0), "{}", run.err);
    let report = place.report();
    row(&report["functions"], "hot");
    // Far fewer than in all of its time.
    let samples = report["trust"]["samples"].as_u64().unwrap();
    assert!(samples > 0 && samples < 1200, "{samples}");
}

/// Several events at once: each sample is of one of them, and the report is of the first.
#[test]
fn several_events() {
    let place = Place::new();
    place.hot();
    let run = place.run(&["record", "-e", "cpu-clock,page-faults", "--", "./hot"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let reader = bypassprof::trace::Reader::open(&place.path("bypassprof.mcap")).unwrap();
    let mut of = [0; 2];
    for record in reader.records() {
        if let bypassprof::trace::Record::Sample(sample) = record.unwrap() {
            of[usize::from(sample.event)] += 1;
        }
    }
    assert!(of[0] > 20 && of[1] > 0, "{of:?}");
    let report = place.report();
    assert!(report["event"].as_str().unwrap().starts_with("cpu-clock"));
    row(&report["functions"], "hot");
}

/// The rate goes down when the recorder uses more than it may, and that is told.
#[test]
fn budget() {
    let place = Place::new();
    place.hot();
    let run = place.run(&[
        "record", "-F", "20000", "--budget", "0.1%", "--", "./hot", "2.6",
    ]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let report = place.report();
    let notices = report["notices"].as_array().unwrap();
    assert!(notices.iter().any(|n| n["id"] == "budget"), "{}", run.err);
    row(&report["functions"], "hot");
    let clock = report["trust"]["samples"].as_u64().unwrap();
    assert!(clock < 40_000, "{clock} samples");
}

/// No thread of the recorder runs on an isolated CPU; its command does.
#[test]
fn isolated() {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    if online.trim() == "0" {
        eprintln!("left out: there is one CPU");
        return;
    }
    let place = Place::new();
    let seen = "for t in /proc/$PPID/task/*; do grep Cpus_allowed_list $t/status; done; \
                grep Cpus_allowed_list /proc/self/status | sed s/^/own:/";
    let run = place.run(&["record", "--isolated", "1", "--", "sh", "-c", seen]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let (own, recorder): (Vec<_>, Vec<_>) = run.out.lines().partition(|l| l.starts_with("own:"));
    assert!(recorder.len() > 1, "{}", run.out);
    for line in recorder {
        let cpus = line.split_whitespace().nth(1).unwrap();
        assert!(cpus == "0" || cpus.starts_with("0,2"), "{line}");
    }
    assert!(own[0].contains("0-") || own[0].contains("0,1"), "{own:?}");
    let run = place.run(&["record", "--isolated", online.trim(), "--", "true"]);
    assert_eq!(run.code, Some(2), "{}", run.err);
}
