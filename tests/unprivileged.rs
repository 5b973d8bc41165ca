//! Each command as a user who may do little, or nothing: what it falls back to, or why it cannot, and what would help.

use crate::support::{Place, Run};
use rustix::process::geteuid;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Runs a program whose system calls are filtered as in a container: no perf events.
const NO_PERF: &str = r#"
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int argc, char **argv) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_perf_event_open, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {4, code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) return 99;
    execvp(argv[1], argv + 1);
    return 98;
}
"#;

/// A place where nobody may work, with the tool and something to record.
fn place() -> Option<Place> {
    let level = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap();
    if !geteuid().is_root() || level.trim() != "2" {
        eprintln!("left out: needs root, to give its privileges away, and perf_event_paranoid 2");
        return None;
    }
    let place = Place::new();
    place.hot();
    place.compile("cc", "no-perf", NO_PERF, &[]);
    std::fs::copy(env!("CARGO_BIN_EXE_bypassprof"), place.path("tool")).unwrap();
    let everyone = PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(place.path(""), everyone).unwrap();
    Some(place)
}

fn as_nobody(place: &Place, before: &[&str], args: &[&str]) -> Run {
    let words = [before, &["./tool"], args].concat();
    let mut command = Command::new(place.path(words[0]));
    command.args(&words[1..]).current_dir(place.path(""));
    Run::of(command.uid(65_534).gid(65_534))
}

fn json(run: &Run) -> Value {
    assert_eq!(run.code, Some(0), "{}", run.err);
    serde_json::from_str(&run.out).unwrap()
}

/// The state and the fix of a check of `doctor`.
fn check(doctor: &Value, id: &str) -> (String, String) {
    let checks = doctor["checks"].as_array().unwrap();
    let check = checks.iter().find(|c| c["id"] == id).unwrap();
    let text = |key: &str| check[key].as_str().unwrap().to_owned();
    (text("state"), text("fix"))
}

/// His own programs without the kernel: what lies in the kernel is named with the level that would allow it.
#[test]
fn user_code_only() {
    let Some(place) = place() else {
        return;
    };
    let run = |args: &[&str]| as_nobody(&place, &[], args);
    let stat = json(&run(&[
        "stat",
        "--json",
        "-e",
        "task-clock,cs",
        "--",
        "./hot",
        "0.1",
    ]));
    assert_eq!(stat["counters"][0]["name"], "task-clock:u");
    assert!(stat["counters"][0]["value"].as_f64().unwrap() > 0.0);
    let why = stat["counters"][1]["why"].as_str().unwrap();
    assert!(why.contains("kernel.perf_event_paranoid=1"), "{why}");
    for args in [
        &["record", "-a", "--duration", "0.1"][..],
        &["stat", "-a", "-e", "task-clock", "--duration", "0.1"],
    ] {
        let run = run(args);
        assert_eq!(run.code, Some(1), "{args:?}: {}", run.err);
        let said = run.out + &run.err;
        assert!(said.contains("kernel.perf_event_paranoid=0"), "{said}");
    }
    let threads = json(&run(&[
        "stat",
        "--json",
        "--per-thread",
        "-e",
        "task-clock",
        "--",
        "./hot",
        "0.1",
    ]));
    assert_eq!(threads["threads"][0]["name"], "hot", "{threads:#}");
    // Process 1 is root's.
    let others = run(&["record", "-p", "1", "--duration", "0.1"]);
    assert_eq!(others.code, Some(1), "{}", others.err);
    assert!(
        others.err.contains("another user's process"),
        "{}",
        others.err
    );
    let list = json(&run(&["list", "--json"]));
    let clock = crate::support::row(&list["events"], "task-clock");
    assert!(clock["why"].is_null(), "{clock}");
    let doctor = json(&run(&["doctor", "--json"]));
    for id in ["perf", "paranoid", "capabilities"] {
        assert_eq!(check(&doctor, id).0, "limits", "{id}");
    }
    assert!(
        !place.names().iter().any(|n| n.ends_with(".mcap")),
        "a refusal left a file"
    );
}

/// No perf events at all: nothing is recorded or counted, the filter is named, not the level that allows it; what needs
/// no events still works.
#[test]
fn no_events_at_all() {
    let Some(place) = place() else {
        return;
    };
    let run = |args: &[&str]| as_nobody(&place, &["no-perf"], args);
    let record = run(&["record", "--", "./hot", "0.1"]);
    assert_eq!(record.code, Some(1), "{}", record.err);
    assert!(record.err.contains("(seccomp"), "{}", record.err);
    assert!(!record.err.contains("sysctl"), "{}", record.err);
    let stat = run(&["stat", "-e", "task-clock:u", "--", "./hot", "0.1"]);
    assert_eq!(stat.code, Some(1), "{}", stat.err);
    assert!(stat.out.contains("(seccomp"), "{}", stat.out);
    // Without a wish for any event the command runs, and what it ended with is told.
    let usual = run(&["stat", "--", "./hot", "0.1", "7"]);
    assert_eq!(usual.code, Some(7), "{}", usual.err);
    assert!(
        usual.out.contains("0 of 10 events counted"),
        "{}",
        usual.out
    );
    let list = json(&run(&["list", "--json"]));
    let clock = crate::support::row(&list["events"], "task-clock");
    assert!(
        clock["why"].as_str().unwrap().contains("seccomp"),
        "{clock}"
    );
    let doctor = json(&run(&["doctor", "--json"]));
    let (state, fix) = check(&doctor, "perf");
    assert!(state == "no" && fix.contains("seccomp"), "{state} {fix}");
    assert_eq!(check(&doctor, "seccomp").0, "limits");
    assert!(
        !place.names().iter().any(|n| n.ends_with(".mcap")),
        "a refusal left a file"
    );
}

/// Levels that some distributions have above the kernel's own highest: no perf events for anyone but root. The kernel here
/// does not know them: its answer is given by a filter, its level by a file in a mount namespace.
#[test]
fn no_events_by_level() {
    let Some(place) = place() else {
        return;
    };
    let levels = "/proc/sys/kernel/perf_event_paranoid";
    for level in ["3", "4"] {
        std::fs::write(place.path("level"), level).unwrap();
        let before = format!(
            "mount --bind level {levels} && \
             exec setpriv --reuid 65534 --regid 65534 --clear-groups ./no-perf ./tool \"$@\""
        );
        let run = |args: &[&str]| {
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", &before, "sh"]);
            Run::of(command.args(args).current_dir(place.path("")))
        };
        let why = format!("kernel.perf_event_paranoid is {level}");
        let fix = "kernel.perf_event_paranoid=2";
        let record = run(&["record", "--", "./hot", "0.1"]);
        assert_eq!(record.code, Some(1), "{}", record.err);
        assert!(
            record.err.contains(&why) && record.err.contains(fix),
            "{}",
            record.err
        );
        let stat = run(&["stat", "-e", "task-clock:u", "--", "./hot", "0.1"]);
        assert_eq!(stat.code, Some(1), "{}", stat.err);
        assert!(
            stat.out.contains(&why) && stat.out.contains(fix),
            "{}",
            stat.out
        );
        let apart = run(&["stat", "--per-thread", "--", "./hot", "0.1"]);
        assert_eq!(apart.code, Some(1), "{}", apart.err);
        assert!(
            apart.err.contains(&why) && apart.err.contains(fix),
            "{}",
            apart.err
        );
        // Without a wish for any event the command runs, as ever.
        assert_eq!(run(&["stat", "--", "./hot", "0.1", "7"]).code, Some(7));
        let list = json(&run(&["list", "--json"]));
        let clock = crate::support::row(&list["events"], "task-clock");
        assert!(clock["why"].as_str().unwrap().contains(&why), "{clock}");
        let doctor = json(&run(&["doctor", "--json"]));
        let (state, fixed) = check(&doctor, "paranoid");
        let any = "kernel.perf_event_paranoid=";
        assert!(state == "no" && fixed.contains(any), "{state} {fixed}");
    }
    let left = place.names();
    assert!(!left.iter().any(|n| n.ends_with(".mcap")), "{left:?}");
}
