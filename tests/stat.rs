//! `stat`, `list` and `doctor` as their users meet them.

use crate::support::{Place, Run, row};
use serde_json::Value;
use std::process::{Command, Stdio};
use std::time::Duration;

fn json(run: &Run) -> Value {
    assert_eq!(run.code, Some(0), "{}", run.err);
    serde_json::from_str(&run.out).unwrap_or_else(|e| panic!("{e}: {}", run.out))
}

fn counter<'a>(stat: &'a Value, name: &str) -> &'a Value {
    let counters = stat["counters"].as_array().unwrap();
    let found = counters
        .iter()
        .find(|c| c["name"].as_str().unwrap().starts_with(name));
    found.unwrap_or_else(|| panic!("no {name} in {stat:#}"))
}

/// A program that faults on as many pages as it is told, and on few besides.
const FAULTS: &str = r#"
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
int main(int argc, char **argv) {
    long n = argc > 1 ? atol(argv[1]) : 0, page = sysconf(_SC_PAGESIZE);
    char *p = mmap(0, n * page + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(p, n * page + page, MADV_NOHUGEPAGE);
    for (long i = 0; i < n; i++) p[i * page] = 1;
    return argc > 2 ? atoi(argv[2]) : 0;
}
"#;

/// What a program is known to do is counted, alone and in a group; its exit status is ours.
#[test]
fn counts_what_is_known() {
    let place = Place::new();
    place.compile("cc", "faults", FAULTS, &["-O1"]);
    let stat = |args: &[&str], n: &str| {
        let all = [&["stat", "--json"], args, &["--", "./faults", n]].concat();
        json(&place.run(&all))
    };
    for events in ["page-faults:u,task-clock", "{page-faults:u,task-clock}"] {
        let faults = |n: &str| {
            counter(&stat(&["-e", events], n), "page-faults")["value"]
                .as_f64()
                .unwrap()
        };
        let (few, many) = (faults("0"), faults("5000"));
        assert!(
            (4990.0..5010.0).contains(&(many - few)),
            "{events}: {few} and {many}"
        );
    }
    let stat = stat(&[], "100");
    let clock = counter(&stat, "task-clock");
    assert_eq!(
        (&clock["unit"], &clock["running_share"]),
        (&"ns".into(), &1.0.into())
    );
    // It has one thread.
    assert!(stat["elapsed_ns"].as_f64().unwrap() > clock["value"].as_f64().unwrap());
    let run = place.run(&["stat", "--", "./faults", "1", "7"]);
    assert_eq!(run.code, Some(7), "{}", run.err);
    assert!(
        run.out.contains("CPUs used") && run.out.contains("trust: "),
        "{}",
        run.out
    );
}

/// Several runs: a mean and its deviation. Intervals: their counts add up to the whole.
#[test]
fn repeats_and_intervals() {
    let place = Place::new();
    place.hot();
    let stat = json(&place.run(&[
        "stat",
        "--json",
        "-r",
        "3",
        "-e",
        "task-clock",
        "--",
        "./hot",
        "0.05",
    ]));
    assert_eq!(stat["runs"], 3);
    let clock = counter(&stat, "task-clock");
    assert!(clock["deviation"].as_f64().unwrap() >= 0.0);
    let run = place.run(&[
        "stat",
        "--json",
        "-I",
        "50",
        "-e",
        "task-clock,page-faults",
        "--",
        "./hot",
        "0.3",
    ]);
    let (lines, whole) = run.out.split_once("{\n").unwrap();
    let whole: Value = serde_json::from_str(&format!("{{{whole}")).unwrap();
    let sum: f64 = lines
        .lines()
        .map(|l| {
            counter(&serde_json::from_str(l).unwrap(), "task-clock")["value"]
                .as_f64()
                .unwrap()
        })
        .sum();
    let all = counter(&whole, "task-clock")["value"].as_f64().unwrap();
    assert!(lines.lines().count() >= 2, "{lines}");
    assert!(sum > 0.0 && sum <= all, "{sum} of {all}");
}

/// Of a recording: the counts that it holds.
#[test]
fn of_a_recording() {
    let place = Place::new();
    place.hot();
    place.record(&["./hot"]);
    let stat = json(&place.run(&["stat", "--json"]));
    let clock = counter(&stat, "task-clock");
    assert!(clock["value"].as_f64().unwrap() > 1e6, "{stat:#}");
    assert!(stat["trust"]["samples"].as_u64().unwrap() > 0);
    // What was sampled was counted too, and ran all of its time though it was opened on every CPU.
    let sampled = &stat["counters"][0];
    assert!(
        sampled["running_share"].as_f64().unwrap() > 0.9,
        "{sampled:#}"
    );
}

/// Threads of a running process, each by itself.
#[test]
fn threads_apart() {
    let place = Place::new();
    place.compile("cc", "pair", PAIR, &["-O1", "-pthread"]);
    let mut child = Command::new(place.path("pair"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = child.id().to_string();
    let tasks = || {
        std::fs::read_dir(format!("/proc/{pid}/task"))
            .unwrap()
            .count()
    };
    while tasks() < 2 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let run = place.run(&[
        "stat",
        "--json",
        "--per-thread",
        "-e",
        "task-clock",
        "-p",
        &pid,
        "--duration",
        "0.4",
    ]);
    child.kill().unwrap();
    child.wait().unwrap();
    let stat = json(&run);
    let threads = stat["threads"].as_array().unwrap();
    assert_eq!(threads.len(), 2, "{stat:#}");
    let clock = |t: &Value| counter(t, "task-clock")["value"].as_f64().unwrap();
    let (worker, sleeper) = (clock(&threads[0]), clock(&threads[1]));
    assert!(worker > 10.0 * sleeper, "{sleeper} and {worker}");
    let all = counter(&stat, "task-clock")["value"].as_f64().unwrap();
    let rest = stat["rest"][0]["value"].as_f64().unwrap();
    assert!((all - sleeper - worker - rest).abs() < 1.0, "{stat:#}");
    assert!(rest < 0.05 * all, "{stat:#}");
}

/// Threads of a command, which come while it runs, in a child of it too: each by its name, with what it did. Those that
/// end at once are in the sum, and how many they are is told.
#[test]
fn threads_of_a_command() {
    let place = Place::new();
    place.compile("cc", "named", NAMED, &["-O1", "-pthread"]);
    let count = |args: &[&str]| {
        let options = ["stat", "--json", "--per-thread", "-e", "page-faults:u"];
        let run = place.run(&[&options[..], &["--"], args].concat());
        (json(&run), run.out)
    };
    let (stat, _) = count(&["./named", "20"]);
    let threads = stat["threads"].as_array().unwrap();
    let value = |v: &Value| counter(v, "page-faults")["value"].as_f64().unwrap();
    for at in 0..20 {
        let name = format!("worker-{at}");
        let own: Vec<_> = threads.iter().filter(|t| t["name"] == *name).collect();
        let expected = f64::from(100 * (at + 1));
        assert_eq!(own.len(), 1, "{name}: {stat:#}");
        let faults = value(own[0]);
        assert!(
            (expected..expected + 40.0).contains(&faults),
            "{name}: {faults}"
        );
    }
    // The program's first thread, that of its child, and the twenty.
    assert_eq!(threads.len(), 22, "{stat:#}");
    let order: Vec<_> = threads.iter().map(value).collect();
    assert!(order.is_sorted_by(|a, b| a >= b), "{order:?}");
    let all = value(&stat);
    let rest = stat["rest"][0]["value"].as_f64().unwrap();
    assert_eq!(all, order.iter().sum::<f64>() + rest, "{stat:#}");
    assert!(rest < all / 10.0, "{stat:#}");
    // A crowd that lives for nothing: every thread is told or missed, and nothing that it did is lost.
    place.compile("cc", "crowd", CROWD, &["-O1", "-pthread"]);
    let (stat, text) = count(&["./crowd", "2000"]);
    let told = stat["threads"].as_array().unwrap();
    let notices = stat["notices"].as_array().unwrap();
    let missed = |id: &str| {
        let notice = notices.iter().find(|n| n["id"] == id)?;
        let text = notice["text"].as_str().unwrap();
        text.split(' ').find_map(|w| w.parse::<usize>().ok())
    };
    let unseen = missed("threads-unseen").unwrap_or(0);
    assert!(
        told.len() + unseen == 2001 || missed("threads-lost").is_some(),
        "{text}"
    );
    let own: f64 = told.iter().map(value).sum();
    let rest = stat["rest"][0]["value"].as_f64().unwrap();
    assert_eq!(value(&stat), own + rest);
    let run = place.run(&[
        "stat",
        "--per-thread",
        "-e",
        "page-faults:u",
        "--",
        "./named",
        "2",
    ]);
    assert!(run.out.contains("worker-1"), "{}", run.out);
}

/// Threads with names, half of them in a child: each touches a hundred pages more than the one before.
const NAMED: &str = r#"
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
static void *work(void *number) {
    long at = (long)number, n = 100 * (at + 1), page = sysconf(_SC_PAGESIZE);
    char name[16];
    snprintf(name, sizeof name, "worker-%ld", at);
    pthread_setname_np(pthread_self(), name);
    usleep(100000);
    char *p = mmap(0, n * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(p, n * page, MADV_NOHUGEPAGE);
    for (long i = 0; i < n; i++) p[i * page] = 1;
    return 0;
}
static void team(long from, long to) {
    pthread_t t[64];
    for (long i = from; i < to; i++) pthread_create(&t[i], 0, work, (void *)i);
    for (long i = from; i < to; i++) pthread_join(t[i], 0);
}
int main(int argc, char **argv) {
    long n = atol(argv[1]);
    pid_t child = fork();
    if (child == 0) {
        usleep(50000);
        team(0, n / 2);
        _exit(0);
    }
    team(n / 2, n);
    waitpid(child, 0, 0);
    return 0;
}
"#;

/// As many threads as it is told, twenty at a time, that end at once.
const CROWD: &str = r#"
#include <pthread.h>
#include <stdlib.h>
static void *work(void *none) { return none; }
int main(int argc, char **argv) {
    for (int left = atoi(argv[1]); left > 0; left -= 20) {
        pthread_t t[20];
        for (int i = 0; i < 20; i++) if (pthread_create(&t[i], 0, work, 0)) return 1;
        for (int i = 0; i < 20; i++) pthread_join(t[i], 0);
    }
    return 0;
}
"#;

const PAIR: &str = r#"
#include <pthread.h>
#include <unistd.h>
volatile unsigned sink;
static void *work(void *none) { for (;;) sink = sink * 3 + 1; return none; }
int main(void) { pthread_t t; pthread_create(&t, 0, work, 0); for (;;) pause(); }
"#;

/// What cannot be counted is named with the reason; if that is everything, it is a failure.
#[test]
fn refusals() {
    let place = Place::new();
    for (args, code, words) in [
        (&["-e", "cyclse", "--", "true"][..], 1, "is cycles meant?"),
        (&["-e", "cs", "-r", "0", "--", "true"], 2, "-r"),
        (&["-I", "10"], 2, "-I needs something to count"),
        (&["true"], 1, "true"),
        (&["--per-thread", "-a"], 2, "--per-thread"),
        (
            &["--per-thread"],
            2,
            "--per-thread needs something to count",
        ),
        (
            &["-e", "uprobe/retprobe/", "--", "true"],
            1,
            "none of these events",
        ),
    ] {
        let run = place.run(&[&["stat"], args].concat());
        assert_eq!(run.code, Some(code), "{args:?}: {run:?}");
        assert!(run.err.contains(words), "{args:?}: {run:?}");
    }
    let run = place.run(&[
        "stat",
        "-e",
        "task-clock,L1-icache-prefetch-misses",
        "--",
        "true",
    ]);
    assert_eq!(run.code, Some(0), "{run:?}");
    if run.out.contains("not counted") {
        assert!(
            run.out.contains("L1-icache-prefetch-misses: this"),
            "{}",
            run.out
        );
    }
}

/// A function of a program is counted each time it is called, and each time it returns.
#[test]
fn uprobes() {
    if !rustix::process::geteuid().is_root()
        || !std::path::Path::new("/sys/bus/event_source/devices/uprobe").exists()
    {
        eprintln!("left out: needs root and a kernel with uprobes");
        return;
    }
    let place = Place::new();
    place.compile("cc", "calls", CALLS, &["-g", "-O1"]);
    let events = "./calls:called,./calls:called%return,calls:called+0";
    let stat = json(&place.run(&["stat", "--json", "-e", events, "--", "./calls", "321"]));
    for at in 0..3 {
        assert_eq!(stat["counters"][at]["value"], 321.0, "{stat:#}");
    }
    let run = place.run(&["stat", "-e", "./calls:caled", "--", "true"]);
    assert!(run.err.contains("is called meant?"), "{}", run.err);
}

const CALLS: &str = r#"
#include <stdlib.h>
volatile int sink;
__attribute__((noinline)) void called(int n) { sink += n; }
int main(int argc, char **argv) { for (int i = 0; i < atoi(argv[1]); i++) called(i); return 0; }
"#;

/// The list has every generic event, with a reason for each that cannot be had.
#[test]
fn list_shows_the_machine() {
    let place = Place::new();
    let list = json(&place.run(&["list", "--json"]));
    let events = &list["events"];
    for name in ["cycles", "page-faults", "LLC-load-misses"] {
        row(events, name);
    }
    let clock = row(events, "task-clock");
    assert!(clock["why"].is_null(), "{clock}");
    let run = place.run(&["list", "faults"]);
    assert!(
        run.out.contains("minor-faults") && !run.out.contains("cycles"),
        "{}",
        run.out
    );
    assert_eq!(place.run(&["list", "zzzz"]).code, Some(1));
}

/// Every check says how it is; what is in the way has a consequence.
#[test]
fn doctor_answers() {
    let place = Place::new();
    let doctor = json(&place.run(&["doctor", "--json"]));
    assert_eq!(doctor["schema"], "bypassprof.doctor/1");
    let checks = doctor["checks"].as_array().unwrap();
    assert!(checks.len() > 20);
    for check in checks {
        let state = check["state"].as_str().unwrap();
        assert!(
            ["ok", "limits", "no", "unknown"].contains(&state),
            "{check}"
        );
        let bad = ["limits", "no"].contains(&state);
        assert_eq!(
            bad,
            !check["prevents"].as_str().unwrap().is_empty(),
            "{check}"
        );
    }
    let text = place.run(&["doctor"]).out;
    assert!(
        text.contains("kptr_restrict") && text.contains("looked at"),
        "{text}"
    );
}
