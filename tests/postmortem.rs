//! Post mortems of small things: cores cut at every byte, a program that dies under `record --on-crash`, torn recordings.
//! Servers that die under load are in `examples/httpd/tests/crash.rs`.

use crate::support::{Place, Run};
use bypassprof::collect::core::{Core, rings};
use serde_json::Value;

/// A small core with a ring in it: what the fuzzer begins with.
fn seed() -> Vec<u8> {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/core");
    std::fs::read(format!("{seeds}/ring-and-thread")).unwrap()
}

/// Cut at any byte, a core opens and says that it is cut, or says why it does not open; its ring is whole or told of.
#[test]
fn core_of_every_length() {
    let place = Place::new();
    let bytes = seed();
    let path = place.path("core");
    let mut rings_seen = 0;
    for len in (0..bytes.len()).step_by(7).chain([bytes.len()]) {
        std::fs::write(&path, &bytes[..len]).unwrap();
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
    std::fs::write(place.path("core"), seed()).unwrap();
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
    std::fs::create_dir(place.path("copy")).unwrap();
    for (seed, name) in [("drain", "0-0-0.ring"), ("control", "0-0-9.ring")] {
        let bytes = std::fs::read(format!("{seeds}/{seed}")).unwrap();
        std::fs::write(place.path(&format!("copy/{name}")), bytes).unwrap();
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
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let started = stat
        .rsplit(") ")
        .next()
        .unwrap()
        .split(' ')
        .nth(19)
        .unwrap();
    let pid = std::process::id();
    std::fs::create_dir(place.path("disk")).unwrap();
    let write = |seed: &str, name: &str, boot: u64| {
        let mut bytes = std::fs::read(format!("{seeds}/{seed}")).unwrap();
        let words = [
            (32, u64::from(pid)),
            (48, started.parse().unwrap()),
            (64, boot),
        ];
        for (at, word) in words {
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        std::fs::write(place.path(&format!("disk/{pid}-{started}{name}")), bytes).unwrap();
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
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
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
}

/// What is no remains of anything is refused with a sentence; a torn recording is told as far as it goes.
#[test]
fn refused_and_torn() {
    let place = Place::new();
    std::fs::create_dir(place.path("empty")).unwrap();
    std::fs::write(place.path("text"), "hello ".repeat(500)).unwrap();
    std::fs::write(place.path("half"), &seed()[..30]).unwrap();
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
    let whole = std::fs::read(place.path("bypassprof.mcap")).unwrap();
    std::fs::write(place.path("torn.mcap"), &whole[..whole.len() * 2 / 3]).unwrap();
    let run = place.run(&["postmortem", "torn.mcap"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(run.out.contains("why it ended: not known"), "{}", run.out);
    assert!(run.out.contains("are lost)"), "{}", run.out);
}
