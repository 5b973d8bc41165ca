//! Post mortems of small things: cores cut at every byte, a program that dies under `record --on-crash`, torn recordings.
//! Servers that die under load are in `examples/httpd/tests/crash.rs`.

use crate::flight::Program;
use crate::support::{Place, Run, names_in};
use bypassprof::collect::core::{Core, rings};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

/// A small core with a ring in it: what the fuzzer begins with.
fn seed() -> Vec<u8> {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/core");
    fs::read(format!("{seeds}/ring-and-thread")).unwrap()
}

/// Cut at any byte, a core opens and says that it is cut, or says why it does not open; its ring is whole or told of.
#[test]
fn core_of_every_length() {
    let place = Place::new();
    let bytes = seed();
    let path = place.path("core");
    let mut rings_seen = 0;
    for len in (0..bytes.len()).step_by(7).chain([bytes.len()]) {
        fs::write(&path, &bytes[..len]).unwrap();
        let core = match Core::open(&path) {
            Ok(core) => core,
            Err(e) => {
                assert!(len < 512, "{len}: {e}");
                continue;
            }
        };
        let (there, said) = core.lengths;
        let cut = there < said || core.notes_damaged;
        assert_eq!(cut, len < bytes.len(), "{len}");
        let aside = tempfile::tempdir().unwrap();
        let found = rings::extract(&core, aside.path()).unwrap();
        rings_seen += found.rings;
        assert!(found.rings == 0 || found.cut.is_empty() == (len == bytes.len()));
        if len == bytes.len() {
            assert_eq!((found.rings, core.threads.len(), core.pid), (1, 1, 42));
            let signal = core.signal.unwrap();
            assert_eq!((signal.number, signal.address), (11, Some(0xdead)));
        }
    }
    assert!(rings_seen > 1);
}

/// What a core holds is told, kept as a recording that other commands open, and told again from that.
#[test]
fn core_to_recording() {
    let place = Place::new();
    fs::write(place.path("core"), seed()).unwrap();
    let told = |paths: &[&str]| -> Value {
        let run = place.run(&[&["postmortem", "--json"], paths].concat());
        assert_eq!(run.code, Some(0), "{}", run.err);
        serde_json::from_str(&run.out).unwrap()
    };
    let first = told(&["core", "--out", "kept.mcap"]);
    assert_eq!(first["schema"], "bypassprof.postmortem/1");
    assert_eq!(first["ended"]["signal_name"], "SIGSEGV");
    assert_eq!(first["ended"]["address"], "0xdead");
    assert_eq!(first["pid"], 42);
    assert_eq!(first["trust"]["events"], 13, "{first:#}");
    let again = told(&["kept.mcap"]);
    for key in ["reason", "ended", "threads", "requests", "missing"] {
        assert_eq!(first[key], again[key], "{key}");
    }
    assert_eq!(again["trust"]["damage"], Value::Null);
    for command in [&["report"][..], &["spans"], &["ledger"]] {
        let run = place.run(&[command, &["kept.mcap"]].concat());
        assert!(!run.err.contains("panicked"), "{}", run.err);
    }
    let over = place.run(&["postmortem", "core", "--out", "kept.mcap"]);
    assert_eq!(over.code, Some(1), "{}", over.err);
    let text = place.run(&["postmortem", "core"]);
    assert!(
        text.out.contains(
            "why it ended: killed by SIGSEGV (nothing is mapped there) at address 0xdead"
        ),
        "{}",
        text.out
    );
}

/// Rings copied from elsewhere, without the file that describes their process: they tell what they hold.
#[test]
fn rings_alone() {
    let place = Place::new();
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/ring");
    fs::create_dir(place.path("copy")).unwrap();
    for (seed, name) in [("drain", "0-0-0.ring"), ("control", "0-0-9.ring")] {
        let bytes = fs::read(format!("{seeds}/{seed}")).unwrap();
        fs::write(place.path(&format!("copy/{name}")), bytes).unwrap();
    }
    let run = place.run(&["postmortem", "--json", "copy"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let told: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(told["trust"]["events"], 13, "{told:#}");
    assert_eq!(told["threads"][0]["lost"], 3);
    let missing = told["missing"].to_string();
    assert!(missing.contains("0-0-9.ring"), "{missing}");
    assert!(missing.contains("record --on-crash"), "{missing}");
}

/// Rings of another boot are of a process that is gone, though one with its number and start may run here; of this boot
/// they are not.
#[test]
fn rings_across_a_reboot() {
    let place = Place::new();
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/ring");
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let started = stat
        .rsplit(") ")
        .next()
        .unwrap()
        .split(' ')
        .nth(19)
        .unwrap();
    let pid = std::process::id();
    fs::create_dir(place.path("disk")).unwrap();
    let write = |seed: &str, name: &str, boot: u64| {
        let mut bytes = fs::read(format!("{seeds}/{seed}")).unwrap();
        let words = [
            (32, u64::from(pid)),
            (48, started.parse().unwrap()),
            (64, boot),
        ];
        for (at, word) in words {
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        fs::write(place.path(&format!("disk/{pid}-{started}{name}")), bytes).unwrap();
    };
    for (boot, code) in [(0, 1), (5, 0)] {
        write("drain", "-0.ring", boot);
        write("control", ".control", boot);
        let run = place.run(&["postmortem", "disk"]);
        assert_eq!(run.code, Some(code), "{}{}", run.out, run.err);
        assert_eq!(run.err.contains("still runs"), code == 1, "{}", run.err);
        assert_eq!(
            run.out.contains("trust: 13 events"),
            code == 0,
            "{}",
            run.out
        );
    }
}

const DIES: &str = r#"
#include <signal.h>
__attribute__((noinline)) void die_here(volatile int *where) { *where = 1; }
__attribute__((noinline)) void serve(int n) { if (n > 1000) die_here((int *)0x40); }
int main(void) { for (int n = 0; n < 2000; n++) serve(n); return 0; }
"#;

/// A program that dies while it is recorded: the recording is whole, and says why and where.
#[test]
fn on_crash() {
    let place = Place::new();
    let flags = ["-g", "-O1", "-fno-omit-frame-pointer", "-Wl,--build-id"];
    place.compile("cc", "dies", DIES, &flags);
    let run = place.run(&["record", "--on-crash", "--", "./dies"]);
    assert_eq!(run.code, Some(128 + 11), "{}", run.err);
    assert!(
        run.err.contains("why it ended: killed by SIGSEGV"),
        "{}",
        run.err
    );
    assert!(
        run.err.contains("bypassprof postmortem bypassprof.mcap"),
        "{}",
        run.err
    );
    let run = place.run(&["postmortem", "--json", "bypassprof.mcap"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let told: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(told["ended"]["signal"], 11);
    assert_eq!(told["trust"]["damage"], Value::Null);
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let cores = place.names().iter().any(|n| n.starts_with("core"));
    if pattern.contains(['|', '/']) || !cores {
        println!("left out: the kernel leaves no core here");
        assert!(told["missing"].to_string().contains("core"), "{told:#}");
        return;
    }
    assert_eq!(told["ended"]["function"], "die_here", "{told:#}");
    assert_eq!(told["ended"]["address"], "0x40");
    let frames = told["threads"][0]["stack"]["frames"].as_array().unwrap();
    let names: Vec<_> = frames
        .iter()
        .map(|f| f["function"].as_str().unwrap())
        .collect();
    assert_eq!(names[..3], ["die_here", "serve", "main"]);
    // One that ends well has nothing to tell.
    let run = place.run(&["record", "--on-crash", "-o", "well.mcap", "--", "true"]);
    assert!(!run.err.contains("post mortem"), "{}", run.err);
    // A script that lives on is the command, and not what it started.
    let script = ["--", "sh", "-c", "./dies; exit $?"];
    let run = place.run(&[&["record", "--on-crash", "-o", "script.mcap"], &script[..]].concat());
    assert!(run.err.contains("`exec`"), "{}", run.err);
}

/// What is no remains of anything is refused with a sentence; a torn recording is told as far as it goes.
#[test]
fn refused_and_torn() {
    let place = Place::new();
    fs::create_dir(place.path("empty")).unwrap();
    fs::write(place.path("text"), "hello ".repeat(500)).unwrap();
    fs::write(place.path("half"), &seed()[..30]).unwrap();
    for (path, says) in [
        ("empty", "holds no rings"),
        ("text", "no whole chunk"),
        ("half", "too short"),
        ("nowhere", "cannot read nowhere"),
    ] {
        let run: Run = place.run(&["postmortem", path]);
        assert_eq!(run.code, Some(1), "{path}");
        assert!(run.err.contains(says), "{path}: {}", run.err);
    }
    let hot = place.hot();
    place.record(&[hot.to_str().unwrap(), "0.3"]);
    let whole = fs::read(place.path("bypassprof.mcap")).unwrap();
    fs::write(place.path("torn.mcap"), &whole[..whole.len() * 2 / 3]).unwrap();
    let run = place.run(&["postmortem", "torn.mcap"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(run.out.contains("why it ended: not known"), "{}", run.out);
    assert!(run.out.contains("are lost)"), "{}", run.out);
}

/// A program that was killed while its flight recorder ran, in a directory on a disk.
fn killed(place: &Place) -> PathBuf {
    let session = place.path("session");
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o700).create(&session).unwrap();
    let program = Program::start(&session, "256K");
    std::thread::sleep(Duration::from_millis(300));
    drop(program);
    session
}

fn told(place: &Place, args: &[&str]) -> Value {
    let run = place.run(&[&["postmortem", "--json"], args].concat());
    assert_eq!(run.code, Some(0), "{}", run.err);
    serde_json::from_str(&run.out).unwrap()
}

/// How long a recording is, by its report: as long as what is in it, and not as old as the machine.
fn seconds(place: &Place, file: &str) -> f64 {
    let run = place.run(&["report", file]);
    let mut head = run
        .out
        .split(": ")
        .nth(1)
        .unwrap_or_default()
        .split([' ', ',']);
    let number = head.next().and_then(|n| n.parse::<f64>().ok());
    let unit = head.next().map(|unit| if unit == "s" { 1.0 } else { 1e-3 });
    let length = number.zip(unit).map(|(number, unit)| number * unit);
    length.unwrap_or_else(|| panic!("{}{}", run.out, run.err))
}

/// What was found of a killed program and kept opens with every other command that takes a recording.
#[test]
fn kept_for_every_command() {
    let place = Place::new();
    killed(&place);
    let first = told(&place, &["session", "--out", "kept.mcap"]);
    assert!(first["trust"]["events"].as_u64() > Some(100), "{first:#}");
    assert_eq!(first["threads"][0]["events"].as_array().unwrap().len(), 20);
    let fewer = told(&place, &["-n", "3", "session"]);
    assert_eq!(fewer["threads"][0]["events"].as_array().unwrap().len(), 3);
    // One directory under several names is one.
    let names = ["session", "./session", "session/../session"];
    let once = told(&place, &names);
    assert_eq!(once["trust"]["events"], first["trust"]["events"]);
    let again = told(&place, &["kept.mcap"]);
    for key in ["threads", "requests", "missing", "trust"] {
        assert_eq!(first[key], again[key], "{key}");
    }
    let length = seconds(&place, "kept.mcap");
    assert!((0.05..20.0).contains(&length), "{length} s");
    let file = "kept.mcap";
    for args in [
        &["report", file][..],
        &["report", "--html", "a.html", file],
        &["ledger", file],
        &["spans", file],
        &["explain", file],
        &["explain", file, file],
        &["compare", file, file],
        &["stat", file],
        &["packs", file],
        &["flamegraph", "--latency", file],
        &["export", "--format", "perfetto", file],
        &["export", "--format", "firefox", file],
        &["export", "--format", "parquet", file],
        &["recover", file],
        &["postmortem", file],
    ] {
        let run = place.run(args);
        assert_eq!(run.code, Some(0), "{args:?}: {}", run.err);
    }
    let spans = place.run(&["spans", "--json", file]);
    let spans: Value = serde_json::from_str(&spans.out).unwrap();
    assert!(spans["requests"].as_u64() > Some(20), "{spans:#}");
}

/// Copied to another machine, whose clock counts something else and where another process may have the number, a
/// directory tells the same; beside the one that it is a copy of, nothing twice.
#[test]
fn copied_elsewhere() {
    let place = Place::new();
    let session = killed(&place);
    let first = told(&place, &["session"]);
    fs::create_dir(place.path("copy")).unwrap();
    for name in names_in(&session) {
        let mut bytes = fs::read(session.join(&name)).unwrap();
        // Which boot it was, in both kinds of files.
        bytes[64..80].fill(7);
        fs::write(place.path(&format!("copy/{name}")), bytes).unwrap();
    }
    let copy = told(&place, &["copy"]);
    assert_eq!(copy["trust"]["events"], first["trust"]["events"]);
    for key in ["program", "pid", "reason", "requests_in_all"] {
        assert_eq!(copy[key], first[key], "{key}");
    }
    for key in ["tid", "name", "lost", "doing", "flow", "stage"] {
        assert_eq!(copy["threads"][0][key], first["threads"][0][key], "{key}");
    }
    let both = told(&place, &["session", "copy"]);
    assert_eq!(both["trust"]["events"], first["trust"]["events"]);
    let threads = |told: &Value| told["threads"].as_array().unwrap().len();
    assert_eq!((threads(&copy), threads(&both)), (1, 1));
}

/// A recording with a block damaged in its middle: that is told, and so is how it ended.
#[test]
fn damaged_in_the_middle() {
    let place = Place::new();
    let hot = place.hot();
    let run = place.run(&["record", "--", hot.to_str().unwrap(), "2.5", "3"]);
    assert_eq!(run.code, Some(3), "{}", run.err);
    let whole = told(&place, &["bypassprof.mcap"]);
    let mut bytes = fs::read(place.path("bypassprof.mcap")).unwrap();
    // Every chunk is named again by the index at the file's end.
    let named: Vec<usize> = (0..bytes.len() - 4)
        .filter(|&at| &bytes[at..at + 4] == b"zstd")
        .collect();
    bytes[named[named.len() / 4] + 40] ^= 1;
    fs::write(place.path("damaged.mcap"), bytes).unwrap();
    let damaged = told(&place, &["damaged.mcap"]);
    assert!(damaged["trust"]["damage"].is_string(), "{damaged:#}");
    assert_eq!(whole["ended"]["exit_code"], 3, "{whole:#}");
    assert_eq!(damaged["ended"]["exit_code"], 3, "{damaged:#}");
    assert_eq!(damaged["pid"], whole["pid"]);
}
