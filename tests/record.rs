//! `record` as its users meet it: whom it follows, how it ends, what it leaves behind.

use crate::support::{Place, Run, names_in, row};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn spawn(command: &mut Command) -> Child {
    let command = command.stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Waits until something holds; that it ever does is all that is asked.
fn until(mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The child's program, once it has become the command.
fn children_of(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let list = list.unwrap_or_default();
    list.split_whitespace()
        .filter_map(|p| p.parse().ok())
        .collect()
}

fn runs(pid: u32, name: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.trim() == name)
}

/// The command's exit status is the recorder's, a signal's as a shell would say it; what it prints is its own.
#[test]
fn exit_status_passes_through() {
    let place = Place::new();
    let sh = |script| place.run(&["record", "--", "sh", "-c", script]);
    let run = sh("echo said; exit 7");
    assert_eq!((run.code, run.out.as_str()), (Some(7), "said\n"));
    assert_eq!(sh("kill -TERM $$").code, Some(128 + 15));
    assert_eq!(place.names(), ["bypassprof.mcap"]);
    let report = place.report();
    assert_eq!(report["command"][0], "sh");
}

/// An interrupt ends command and recording, and the recording is whole.
#[test]
fn interrupt_ends_it_well() {
    let place = Place::new();
    place.hot();
    let child = spawn(&mut place.bypassprof(&["record", "--", "./hot", "600"]));
    until(|| children_of(child.id()).iter().any(|&c| runs(c, "hot")));
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, rustix::process::Signal::INT);
    let run = Run::from(child.wait_with_output().unwrap());
    assert_eq!(run.code, Some(128 + 2), "{}", run.err);
    let report = place.report();
    assert!(report["trust"]["damage"].is_null(), "{report:#}");
    row(&report["functions"], "hot");
}

/// A recorder that is killed leaves a file that opens and says what is missing.
#[test]
fn killed_recorder() {
    let place = Place::new();
    place.hot();
    let mut child = spawn(&mut place.bypassprof(&["record", "--", "./hot", "20"]));
    let command = || {
        children_of(child.id())
            .into_iter()
            .find(|&c| runs(c, "hot"))
    };
    until(|| command().is_some());
    let command = command().unwrap();
    let path = place.path("bypassprof.mcap");
    let size = || std::fs::metadata(&path).map_or(0, |m| m.len());
    let head = size();
    until(|| size() > head + 4096);
    child.kill().unwrap();
    child.wait().unwrap();
    let command = rustix::process::Pid::from_raw(command.cast_signed()).unwrap();
    rustix::process::kill_process(command, rustix::process::Signal::KILL).unwrap();
    let report = place.report();
    assert!(report["trust"]["samples"].as_u64().unwrap() > 0);
    assert!(report["trust"]["damage"].is_string());
    let text = place.run(&["report"]).out;
    assert!(text.contains("file damaged: "), "{text}");
    // Its session directory goes with the next recorder.
    let session = format!("bypassprof-session-{}-", child.id());
    let left = || names_in("/dev/shm".as_ref()).into_iter();
    place.record(&["true"]);
    assert_eq!(left().find(|n| n.starts_with(&session)), None);
}

const FAMILY: &str = r#"
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec / 1e9; }
static double end;
volatile unsigned sink;
#define WORK(name) __attribute__((noinline)) void name(void) { do { for (int i = 0; i < 20000; i++) sink = sink * 3 + i; } while (now() < end); }
WORK(in_main) WORK(in_thread) WORK(in_child)
static void *thread(void *none) { pthread_setname_np(pthread_self(), "helper"); in_thread(); return none; }
int main(int argc, char **argv) {
    end = now() + (argc > 1 ? atof(argv[1]) : 0.6);
    pthread_t t;
    if (fork() == 0) { in_child(); _exit(0); }
    if (fork() == 0) { execl("./hot", "hot", "0.6", (char *)0); _exit(1); }
    pthread_create(&t, 0, thread, 0);
    in_main();
    pthread_join(t, 0);
    while (wait(0) > 0) {}
}
"#;

fn family(place: &Place) {
    place.hot();
    let flags = ["-g", "-O1", "-fno-omit-frame-pointer", "-pthread"];
    place.compile("cc", "family", FAMILY, &flags);
}

/// Threads, children and what children execute are all followed.
#[test]
fn threads_and_children() {
    let place = Place::new();
    family(&place);
    place.record(&["./family"]);
    let report = place.report();
    for function in ["in_main", "in_thread", "in_child", "mix"] {
        row(&report["functions"], function);
    }
    for thread in ["family", "helper", "hot"] {
        row(&report["threads"], thread);
    }
}

/// A running process is followed with the threads it has already and the names of its functions; it goes on afterwards.
#[test]
fn running_process() {
    let place = Place::new();
    family(&place);
    let mut command = Command::new(place.path("family"));
    command
        .arg("600")
        .current_dir(place.path(""))
        .process_group(0);
    let mut target = spawn(&mut command);
    let pid = target.id().to_string();
    let threads = || {
        std::fs::read_dir(format!("/proc/{pid}/task"))
            .unwrap()
            .count()
    };
    until(|| threads() == 2);
    let run = place.run(&["record", "-p", &pid, "--duration", "0.6"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(target.try_wait().unwrap().is_none());
    let group = rustix::process::Pid::from_child(&target);
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    target.wait().unwrap();
    let report = place.report();
    row(&report["functions"], "in_main");
    row(&report["functions"], "in_thread");
    row(&report["threads"], "helper");
}

/// Without privileges user code alone is recorded, and that is said.
#[test]
fn without_privileges() {
    let level = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap();
    if !rustix::process::geteuid().is_root() || level.trim() != "2" {
        eprintln!("left out: needs root, to give its privileges away, and perf_event_paranoid 2");
        return;
    }
    let place = Place::new();
    place.hot();
    // Nobody must reach the tool and write here.
    std::fs::copy(env!("CARGO_BIN_EXE_bypassprof"), place.path("tool")).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(place.path(""), open).unwrap();
    let mut command = Command::new(place.path("tool"));
    command
        .args(["record", "--", "./hot"])
        .current_dir(place.path(""))
        .uid(65_534)
        .gid(65_534);
    let run = Run::of(&mut command);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(run.err.contains("recording user code only"), "{}", run.err);
    let report = place.report();
    assert_eq!(report["event"], "cpu-clock:u");
    row(&report["functions"], "mix");
    let notices = report["notices"].as_array().unwrap();
    assert!(notices.iter().any(|n| n["id"] == "user-only"));
}

/// A picture beside the recording, its name and the line of trust on stderr.
#[test]
fn picture_beside_the_recording() {
    let place = Place::new();
    place.hot();
    place.record(&["./hot"]);
    let run = place.run(&["flamegraph"]);
    assert_eq!((run.code, run.out.as_str()), (Some(0), ""));
    assert!(
        run.err.starts_with("bypassprof.svg\ntrust: "),
        "{}",
        run.err
    );
    let svg = std::fs::read_to_string(place.path("bypassprof.svg")).unwrap();
    assert!(svg.contains("trust: ") && svg.contains("mix"));
}
