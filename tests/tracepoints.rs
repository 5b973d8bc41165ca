//! What tracepoints and uprobes record is kept with every sample and told by name.

use crate::support::{Place, Run};
use rustix::process::geteuid;
use std::path::Path;
use std::process::Command;

/// Writes its numbers of bytes to a file descriptor of its choice; each is a call of `called`.
const WRITES: &str = r#"
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
static char bytes[4096];
__attribute__((noinline)) long called(int to, long n) { return write(to, bytes, n) + 1; }
int main(int argc, char **argv) {
    int to = open("/dev/null", O_WRONLY);
    dup2(to, 77);
    for (int i = 1; i < argc; i++) called(77, atol(argv[i]));
    return 0;
}
"#;

fn place() -> Place {
    let place = Place::new();
    place.compile(
        "cc",
        "writes",
        WRITES,
        &["-g", "-O1", "-fno-omit-frame-pointer"],
    );
    place
}

/// Runs a shell line where tracefs is mounted, `$0` being the tool.
fn with_tracefs(place: &Place, line: &str) -> Option<Run> {
    let mounted = "mount -t tracefs none /sys/kernel/tracing && exec sh -c \"$1\" \"$0\"";
    let mut command = Command::new("unshare");
    command
        .args([
            "--mount",
            "sh",
            "-c",
            "mount -t tracefs none /sys/kernel/tracing",
        ])
        .current_dir(place.path(""));
    if !geteuid().is_root() || Run::of(&mut command).code != Some(0) {
        eprintln!("left out: needs root and tracefs");
        return None;
    }
    let mut command = Command::new("unshare");
    let tool = env!("CARGO_BIN_EXE_bypassprof");
    command
        .args(["--mount", "sh", "-c", mounted, tool, line])
        .current_dir(place.path(""));
    Some(Run::of(&mut command))
}

/// The lines of the text of perf script that begin a sample of an event.
fn heads<'t>(text: &'t str, event: &str) -> Vec<&'t str> {
    let word = format!(" {event}: ");
    let of = text.lines().filter(|l| l.contains(&word));
    of.map(|l| l.split_once(&word).unwrap().1).collect()
}

/// Fields of tracepoints are those that the program is known to have passed, in its order, beside samples of the clock;
/// the same text comes back in by import, each event apart.
#[test]
fn fields_of_tracepoints() {
    let place = place();
    let line = "\"$0\" record -e syscalls:sys_enter_write,syscalls:sys_exit_write,sched:sched_process_exit,cpu-clock \
        -- ./writes 1 20 300 4000 >&2";
    let Some(run) = with_tracefs(&place, line) else {
        return;
    };
    assert_eq!(run.code, Some(0), "{}", run.err);
    // Reading needs no tracefs: the recording brings what it takes.
    let text = place
        .run(&["export", "--format", "perf-script", "-o", "-"])
        .out;
    let writes = heads(&text, "syscalls:sys_enter_write");
    for (write, count) in writes.iter().zip([1, 20, 300, 4000]) {
        assert!(write.contains(" fd=77 buf=0x"), "{write}");
        assert!(write.ends_with(&format!(" count={count}")), "{write}");
    }
    let exits = heads(&text, "syscalls:sys_exit_write");
    let results: Vec<_> = exits
        .iter()
        .map(|e| e.rsplit(' ').next().unwrap())
        .collect();
    assert_eq!(
        results,
        ["ret=1", "ret=20", "ret=300", "ret=4000"],
        "{text}"
    );
    let ends = heads(&text, "sched:sched_process_exit");
    assert!(
        ends.len() == 1 && ends[0].starts_with("comm=writes pid="),
        "{ends:?}"
    );
    assert!(
        run.err.contains("syscalls:sys_enter_write each time"),
        "{}",
        run.err
    );
    std::fs::write(place.path("text"), &text).unwrap();
    let event = "syscalls:sys_exit_write";
    let run = place.run(&["import", "text", "--event", event, "-o", "back.mcap"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let report = place.run(&["report", "--json", "back.mcap"]).out;
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["trust"]["samples"], 4, "{report:#}");
}

/// A uprobe tells where it was hit, a return probe which function returned and to where, each with its stack.
#[test]
fn uprobes_and_returns() {
    if !geteuid().is_root() || !Path::new("/sys/bus/event_source/devices/uprobe").exists() {
        eprintln!("left out: needs root and a kernel with uprobes");
        return;
    }
    let place = place();
    let events = "./writes:called,./writes:called%return";
    let run = place.run(&["record", "-e", events, "--", "./writes", "1", "2", "3"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let text = place
        .run(&["export", "--format", "perf-script", "-o", "-"])
        .out;
    let hits = heads(&text, "./writes:called");
    let returns = heads(&text, "./writes:called%return");
    assert_eq!((hits.len(), returns.len()), (3, 3), "{text}");
    let called = hits[0].strip_prefix("__probe_ip=").unwrap();
    for back in returns {
        let (function, to) = back.split_once(' ').unwrap();
        assert_eq!(function, format!("__probe_func={called}"));
        // The sample is taken where it came back to: in `main`.
        let to = to.strip_prefix("__probe_ret_ip=0x").unwrap();
        let frame = format!("{to} main (writes)");
        assert!(text.contains(&frame), "{frame} in {text}");
    }
}

/// A program makes threads with a uprobe on it as without. With tracefs, the uprobe is seen in them; without, it is said that
/// it is not.
#[test]
fn uprobes_in_later_threads() {
    if !geteuid().is_root() || !Path::new("/sys/bus/event_source/devices/uprobe").exists() {
        eprintln!("left out: needs root and a kernel with uprobes");
        return;
    }
    let place = Place::new();
    let source = "#include <pthread.h>
        __attribute__((noinline)) void called(void) { __asm__ volatile(\"\"); }
        static void *work(void *p) { for (int i = 0; i < 5; i++) called(); return p; }
        int main(void) {
            pthread_t t[3];
            called();
            for (int i = 0; i < 3; i++) if (pthread_create(&t[i], 0, work, 0)) return 7;
            for (int i = 0; i < 3; i++) pthread_join(t[i], 0);
            return 0;
        }";
    place.compile("cc", "many", source, &["-O1", "-pthread"]);
    let seen = |place: &Place| {
        let export = place.run(&["export", "--format", "perf-script", "-o", "-"]);
        heads(&export.out, "./many:called").len()
    };
    let counted = |text: &str| {
        let row = text.lines().find(|l| l.contains("./many:called"));
        let words = row.unwrap_or_else(|| panic!("{text}")).split_whitespace();
        words.filter_map(|w| w.parse::<u64>().ok()).next()
    };
    let hidden = "umount -q /sys/kernel/tracing /sys/kernel/debug; \"$0\" record -e ./many:called -- ./many && \
        \"$0\" stat -e ./many:called -- ./many";
    let mut command = Command::new("unshare");
    let tool = env!("CARGO_BIN_EXE_bypassprof");
    command.args(["--mount", "sh", "-c", hidden, tool]);
    let run = Run::of(command.current_dir(place.path("")));
    assert_eq!(run.code, Some(0), "{}", run.err);
    let told = format!("{}{}", run.out, run.err);
    assert!(told.contains("threads made later left out"), "{told}");
    let report = place.run(&["report"]).out;
    assert!(report.contains("none that are made later"), "{report}");
    assert_eq!(seen(&place), 1);

    let line = "\"$0\" record -e ./many:called -- ./many && \"$0\" stat -e ./many:called -- ./many && \
        ! grep -q \"$PWD/many\" /sys/kernel/tracing/uprobe_events";
    let Some(run) = with_tracefs(&place, line) else {
        return;
    };
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert_eq!(seen(&place), 16, "{}", run.err);
    let text = format!("{}{}", run.out, run.err);
    assert_eq!(counted(&text), Some(16), "{text}");

    // What a killed recorder left in the table is taken away by the next one.
    let line = "t=/sys/kernel/tracing/uprobe_events; \"$0\" record -o k.mcap -e ./many:called -- sleep 2 & \
        until grep -q \"$PWD/many\" $t; do sleep 0.05; done; kill -9 $!; wait; \
        \"$0\" record -o n.mcap -e ./many:called -- true && ! grep -q \"$PWD/many\" $t";
    let run = with_tracefs(&place, line).unwrap();
    assert_eq!(run.code, Some(0), "{}", run.err);
}
