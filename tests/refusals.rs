//! What cannot be done: one sentence, the right exit code, nothing left behind.

use crate::support::{Place, Run};
use bypassprof::trace::Reader;
use bypassprof_probe as probe;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

/// The sentence that a refusal begins with.
fn refused(run: &Run, code: i32, word: &str) {
    assert_eq!(run.code, Some(code), "{run:?}");
    let first = run.err.lines().next().unwrap_or_default();
    assert!(first.contains(word), "{run:?}");
    assert!(run.out.is_empty(), "{run:?}");
}

/// Wrong words on the command line are wrong use.
#[test]
fn wrong_use() {
    let place = Place::new();
    for (args, word) in [
        (&["frobnicate"][..], "frobnicate"),
        (&["record", "--bogus", "true"], "--bogus"),
        (&["record"], "nothing to record"),
        (&["record", "-p", "0"], "0"),
        (&["record", "-p", "1", "--", "true"], "-p"),
        (&["record", "-F", "fast", "--", "true"], "fast"),
        (&["report", "--by", "colour"], "colour"),
        (&["report", "a", "b"], "b"),
        (&["flamegraph", "--busiest"], "--busiest"),
    ] {
        refused(&place.run(args), 2, word);
    }
    assert_eq!(place.names(), [""; 0]);
}

/// What is not there or may not be read or written is named, and no recording begins.
#[test]
fn missing_things() {
    let place = Place::new();
    fs::write(place.path("data"), "not a program").unwrap();
    let record = |more: &[&str]| place.run(&[&["record"], more].concat());
    refused(&record(&["--", "./nope"]), 1, "./nope");
    refused(&record(&["--", "./data"]), 1, "./data");
    refused(&record(&["-p", "2147483647"]), 1, "2147483647");
    refused(
        &record(&["-o", "no/such/dir", "--", "true"]),
        1,
        "no/such/dir",
    );
    refused(&record(&["-o", "data", "--", "true"]), 1, "not a recording");
    refused(&place.run(&["report"]), 1, "bypassprof.mcap");
    refused(&place.run(&["flamegraph", "."]), 1, "not a regular file");
    let fifo = place.path("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    refused(&place.run(&["report", "fifo"]), 1, "not a regular file");
    fs::remove_file(fifo).unwrap();
    assert_eq!(place.names(), ["data"]);
    assert_eq!(fs::read(place.path("data")).unwrap(), b"not a program");
}

/// What cannot be opened is found out before an earlier recording is overwritten.
#[test]
fn import_of_nothing() {
    let place = Place::new();
    fs::write(place.path("stacks"), "a;b 1\n").unwrap();
    assert_eq!(place.run(&["import", "stacks"]).code, Some(0));
    let before = fs::read(place.path("bypassprof.mcap")).unwrap();
    for format in ["perf-script", "perf-data", "folded"] {
        let run = place.run(&["import", "--format", format, "nothing"]);
        refused(&run, 1, "nothing");
        let after = fs::read(place.path("bypassprof.mcap")).unwrap();
        assert_eq!(after, before, "{format}");
    }
}

/// A file that is no recording, or holds none any more, is refused; cut later, it is read as far as it goes.
#[test]
fn hostile_files() {
    let place = Place::new();
    place.hot();
    place.record(&["./hot"]);
    let whole = fs::read(place.path("bypassprof.mcap")).unwrap();
    let report = |bytes: &[u8]| {
        fs::write(place.path("changed"), bytes).unwrap();
        place.run(&["report", "changed"])
    };
    refused(&report(b""), 1, "not a recording");
    refused(&report(&[0x5a; 4096]), 1, "not a recording");
    refused(&report(&whole[..100]), 1, "cut off");
    let run = report(&whole[..whole.len() / 2]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(run.out.contains("file damaged: "), "{}", run.out);
    for at in (0..whole.len()).step_by(whole.len() / 16 + 1) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        let run = report(&bytes);
        assert!(matches!(run.code, Some(0 | 1)), "byte {at}: {run:?}");
        assert!(!run.err.contains("panicked"), "byte {at}: {}", run.err);
    }
}

/// The recording itself is never drawn over.
#[test]
fn picture_over_the_recording() {
    let place = Place::new();
    place.record(&["true"]);
    let before = fs::read(place.path("bypassprof.mcap")).unwrap();
    let run = place.run(&["flamegraph", "-o", "bypassprof.mcap"]);
    refused(&run, 2, "is the recording");
    assert_eq!(fs::read(place.path("bypassprof.mcap")).unwrap(), before);
}

/// A reader that has seen enough is no failure.
#[test]
fn closed_pipe() {
    let place = Place::new();
    place.record(&["true"]);
    let mut command = place.bypassprof(&["report"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

/// Not a test: tells a million events that are hard to compress.
#[test]
#[ignore = "the program that is recorded on a full disk"]
fn pours() {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for n in 0..1_000_000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let flow = probe::Flow::from_raw(random as u32);
        probe::emit(probe::points::APP_END, flow, (random >> 32) as u32);
        if n % 1024 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    println!("\npoured");
}

/// A full disk ends the recording with its reason at once; what is whole in it stays and is finished, with counts of
/// what is there and what is not; the command runs to its end.
#[test]
fn no_space() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: only root can make a small file system");
        return;
    }
    for (size, keeps) in [("8k", false), ("1500k", true), ("3m", true)] {
        let place = Place::new();
        fs::create_dir(place.path("small")).unwrap();
        let script = "mount -t tmpfs -o size=$2 none small && \"$0\" record -F 20000 -o small/a.mcap -- \
            \"$1\" refusals::pours --exact --ignored --nocapture >said; echo $? >code; cp small/* .";
        let mut command = std::process::Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", script])
            .arg(env!("CARGO_BIN_EXE_bypassprof"))
            .arg(std::env::current_exe().unwrap())
            .arg(size)
            .current_dir(place.path(""));
        let run = Run::of(&mut command);
        let read = |name: &str| fs::read_to_string(place.path(name)).unwrap();
        assert!(
            run.err.contains("small/a.mcap: No space left on device"),
            "{}",
            run.err
        );
        assert_eq!(read("code").trim(), "1");
        assert!(read("said").contains("\npoured"));
        if !keeps {
            assert_eq!(place.names(), ["code", "said", "small"]);
            continue;
        }
        let kept = run.err.lines().find(|l| l.contains("kept: "));
        let kept = kept.unwrap_or_else(|| panic!("{}", run.err));
        let numbers: Vec<u64> = kept
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|n| n.parse().ok())
            .collect();
        let [samples, slots, samples_lost, slots_lost] = numbers[..] else {
            panic!("{kept}")
        };
        let reader = Reader::open(&place.path("a.mcap")).unwrap();
        let meta = reader.meta();
        assert_eq!((meta.sample_count, meta.slot_count()), (samples, slots));
        assert!(slots > 1000 && slots_lost > 1000, "{kept}");
        let told = meta.damage_line().unwrap();
        if kept.contains("no room to finish") {
            assert!(
                meta.end.is_none() && told.contains("stopped before"),
                "{told}"
            );
            continue;
        }
        assert!(meta.end.is_some());
        assert_eq!(meta.rings.len(), 1, "a ring is one ring");
        // By the program's own count, to which slots come that tell of the time and of losses.
        let events: u64 = meta.totals.values().map(|t| t.events).sum();
        let taken = slots + slots_lost;
        assert!(
            (events..=events + events / 100 + 2).contains(&taken),
            "{kept} of {events}"
        );
        assert_eq!(meta.symbols.is_empty(), kept.contains("no room for names"));
        assert!(
            told.contains(&format!("{samples_lost} samples and {slots_lost} slots")),
            "{told}"
        );
        let report = place.run(&["report", "a.mcap"]);
        assert_eq!(report.code, Some(0), "{}", report.err);
        assert!(report.out.contains("No space left"), "{}", report.out);
    }
}
