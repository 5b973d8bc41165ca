//! Damaged recordings: what is whole comes out, what is lost is counted, and the damaged file stays as it is.
#![allow(unsafe_code)]

use crate::flight::Program;
use crate::support::{Place, Run};
use bypassprof::trace::record::{End, Meta, Ring, Sample, Session};
use bypassprof::trace::{Reader, Writer};
use bypassprof::units::Nanos;
use bypassprof_wire::{Flow, Slot, Tsc, points};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde_json::Value;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A recording of many chunks with something of everything in each.
fn write(path: &Path, chunks: u64) {
    let mut writer = Writer::create(path).unwrap();
    writer.meta(&Meta::Session(Session::default())).unwrap();
    let ring = Ring {
        ring: 1,
        name: "worker".to_string(),
        ..Ring::default()
    };
    writer.meta(&Meta::Ring(ring)).unwrap();
    for chunk in 0..chunks {
        let slot = |i: u64| {
            let at = chunk * 100 + i;
            Slot::head(
                Tsc::from_raw((1 << 40) + at * 77),
                points::APP_END,
                Flow::from_raw(at as u32),
                9,
            )
        };
        let slots: Vec<_> = (0..100).map(slot).collect();
        writer.slots(1, chunk * 100, &slots).unwrap();
        let samples: Vec<_> = (0..20u64)
            .map(|i| Sample {
                time: Nanos::from_ns(chunk * 1_000_000 + i),
                frames: vec![chunk, i],
                ..Sample::default()
            })
            .collect();
        writer.samples(&samples).unwrap();
        writer.flush().unwrap();
    }
    writer.meta(&Meta::End(End::default())).unwrap();
    writer.finish().unwrap();
}

fn counts(path: &Path) -> (u64, u64) {
    let reader = Reader::open(path).unwrap();
    assert!(reader.records().all(|r| r.is_ok()));
    (reader.meta().sample_count, reader.meta().slot_count())
}

/// A recording damaged in its middle and cut at its end: what is left is copied, what is lost is told, and told again by
/// whoever opens the copy.
#[test]
fn salvaged() {
    let place = Place::new();
    let file = place.path("a.mcap");
    write(&file, 10);
    let mut bytes = std::fs::read(&file).unwrap();
    let marks: Vec<usize> = (0..bytes.len() - 4)
        .filter(|&i| &bytes[i..i + 4] == b"zstd")
        .collect();
    bytes[marks[3] + 30] ^= 1;
    bytes.truncate(marks[8] + 40);
    std::fs::write(&file, &bytes).unwrap();
    let run = place.run(&["recover", "a.mcap", "--json"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert_eq!(
        std::fs::read(&file).unwrap(),
        bytes,
        "the input was written to"
    );
    let told: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(told["schema"], "bypassprof.recover/1");
    assert_eq!(told["kept"]["slots"], 700);
    assert_eq!(told["kept"]["samples"], 140);
    assert_eq!(told["slots_lost"][0]["slots"], 100);
    assert_eq!(told["slots_lost"][0]["name"], "worker");
    assert_eq!(told["lost"].as_array().unwrap().len(), 2, "{told:#}");
    assert_eq!(told["end_is_lost"], true);
    let copy = place.path("a.recovered.mcap");
    assert_eq!(counts(&copy), (140, 700));
    let reader = Reader::open(&copy).unwrap();
    assert!(reader.meta().damage.is_empty());
    let line = reader.meta().damage_line().unwrap();
    assert!(line.contains("1 more places"), "{line}");
    assert_eq!(reader.meta().salvaged[0].slots_missing, [(1, 100)]);
    // Nothing is ever written over.
    let again = place.run(&["recover", "a.mcap"]);
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("-o with another name"), "{}", again.err);
    for output in ["a.mcap", "./a.mcap"] {
        let over = place.run(&["recover", "a.mcap", "-o", output]);
        assert_eq!(over.code, Some(1));
    }
    std::os::unix::fs::symlink(&file, place.path("link.mcap")).unwrap();
    assert_eq!(
        place.run(&["recover", "a.mcap", "-o", "link.mcap"]).code,
        Some(1)
    );
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
}

/// A file without its beginning is searched; one with nothing of ours in it is refused with the reason.
#[test]
fn beheaded() {
    let place = Place::new();
    let file = place.path("a.mcap");
    write(&file, 3);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[60..]).unwrap();
    let refused = place.run(&["report", "a.mcap"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("recover"), "{}", refused.err);
    let run = place.run(&["recover", "a.mcap"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(
        counts(&place.path("a.recovered.mcap")).1 >= 200,
        "{}",
        run.out
    );
    std::fs::write(place.path("text"), "hello ".repeat(1000)).unwrap();
    let text = place.run(&["recover", "text"]);
    assert_eq!(text.code, Some(1));
    assert!(text.err.contains("no whole chunk"), "{}", text.err);
    write(&place.path("whole.mcap"), 3);
    let whole = place.run(&["recover", "whole.mcap"]);
    assert!(
        whole.out.contains("is whole: nothing was written"),
        "{}",
        whole.out
    );
    assert_eq!(whole.code, Some(0));
}

/// A full disk: the reason is said, nothing is left on it, and the damaged file is as it was.
#[test]
fn no_space() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: only root can make a small file system");
        return;
    }
    let place = Place::new();
    let file = place.path("a.mcap");
    write(&file, 200);
    let bytes = std::fs::read(&file).unwrap();
    let bytes = &bytes[..bytes.len() - 100];
    std::fs::write(&file, bytes).unwrap();
    std::fs::create_dir(place.path("small")).unwrap();
    let script = "mount -t tmpfs -o size=8k none small && \"$0\" recover a.mcap -o small/b.mcap; echo $? >code; \
        ls -A small >left";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", script])
        .arg(env!("CARGO_BIN_EXE_bypassprof"))
        .current_dir(place.path(""));
    let run = Run::of(&mut command);
    assert!(
        run.err.contains("small/b.mcap: No space left on device"),
        "{}",
        run.err
    );
    let read = |name: &str| std::fs::read_to_string(place.path(name)).unwrap();
    assert_eq!((read("code").trim(), read("left").trim()), ("1", ""));
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
}

/// What [`writer_killed_at_any_byte`] runs: writes a recording to the file that the environment names.
#[test]
#[ignore = "run by writer_killed_at_any_byte"]
fn writes_a_recording() {
    if let Some(path) = std::env::var_os("RECORDING") {
        write(Path::new(&path), 40);
    }
}

/// A writer that is killed at a byte of its file: the limit on a file's size kills it at exactly that one. What it leaves
/// opens, says that it is cut, and holds whole chunks only.
#[test]
fn writer_killed_at_any_byte() {
    let place = Place::new();
    let cut = place.path("cut.mcap");
    write(&cut, 40);
    let size = std::fs::metadata(&cut).unwrap().len();
    let kills: u64 = std::env::var("BYPASSPROF_KILLS").map_or(100, |k| k.parse().unwrap());
    let mut random = 0x2545_f491_4f6c_dd1du64;
    let mut most = 0;
    for _ in 0..kills {
        std::fs::remove_file(&cut).unwrap();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let limit = random % size;
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "recover::writes_a_recording", "--ignored"])
            .env("RECORDING", &cut);
        let limited = move || {
            let none = Some(0);
            let core = Rlimit {
                current: none,
                maximum: none,
            };
            setrlimit(Resource::Core, core)?;
            let bytes = Rlimit {
                current: Some(limit),
                maximum: Some(limit),
            };
            setrlimit(Resource::Fsize, bytes)?;
            Ok(())
        };
        // SAFETY: between fork and exec only two system calls are made.
        unsafe { command.pre_exec(limited) };
        let output = command.output().unwrap();
        assert_eq!(output.status.signal(), Some(25), "{:?}", Run::from(output));
        match Reader::open(&cut) {
            Ok(reader) => {
                let summary = reader.meta();
                assert!(
                    !summary.damage.is_empty() || summary.end.is_some(),
                    "{limit}"
                );
                assert!(reader.messages().all(|m| m.is_ok()));
                let slots = summary.slot_count();
                assert!(slots.is_multiple_of(100) && slots <= 4000);
                most = most.max(slots);
            }
            Err(e) => assert!(e.to_string().contains("is not a recording"), "{e}"),
        }
    }
    assert!(most > 3000, "{most}");
}

/// A recorder that is killed at any moment: what it leaves opens, says that it is cut, and holds what the program wrote
/// in its order, each event once, with nothing missing that positions or `LOST` slots do not tell of.
#[test]
fn recorder_killed_at_any_moment() {
    let (place, session) = (Place::new(), tempfile::tempdir().unwrap());
    let program = Program::start_with(|command| {
        command.env("BYPASSPROF_SESSION", session.path());
    });
    let (pid, file) = (program.pid(), place.path("killed.mcap"));
    let kills: u64 = std::env::var("BYPASSPROF_KILLS").map_or(5, |k| k.parse().unwrap());
    let mut random = 0x2545_f491_4f6c_dd1du64;
    let (mut without, mut empty, mut events) = (0, 0, 0);
    for kill in 0..kills {
        let _ = std::fs::remove_file(&file);
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut recorder = place.bypassprof(&["record", "-p", &pid, "-o", "killed.mcap"]);
        let mut recorder = recorder.stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(random % 1500));
        if kill + 1 == kills {
            // One of them is not killed before it has anything.
            let has_any = || Reader::open(&file).is_ok_and(|reader| reader.meta().slot_count() > 0);
            let began = Instant::now();
            while !has_any() && began.elapsed() < Duration::from_secs(30) {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        recorder.kill().unwrap();
        assert_eq!(recorder.wait().unwrap().signal(), Some(9));
        let reader = match Reader::open(&file) {
            Ok(reader) => reader,
            Err(_) if !file.exists() => {
                without += 1;
                continue;
            }
            Err(e) => {
                assert!(e.to_string().contains("is not a recording"), "{e}");
                empty += 1;
                continue;
            }
        };
        assert!(!reader.meta().damage.is_empty() && reader.meta().end.is_none());
        let found = in_order(&reader);
        empty += u64::from(found == 0);
        events += found;
    }
    println!("{kills} kills: {without} left no file, {empty} no events, {events} events in all");
    assert!(events > 0);
}

/// Checks the requests' numbers of a recording; gives how many there are.
fn in_order(reader: &Reader) -> u64 {
    let mut found = 0;
    for &ring in reader.meta().rings.keys() {
        let (mut position, mut number, mut whole) = (0, None, false);
        for block in reader.slots(ring) {
            let block = block.unwrap();
            assert!(block.first >= position, "slots come twice");
            whole &= block.first == position;
            position = block.first + block.slots.len() as u64;
            for slot in &block.slots {
                match slot.point() {
                    points::LOST => whole = false,
                    points::APP_START => {
                        let this = slot.word1 as u32;
                        assert!(number < Some(this), "{this} after {number:?}");
                        if whole {
                            assert_eq!(number.map(|n| n + 1), Some(this), "one is missing");
                        }
                        (number, whole) = (Some(this), true);
                        found += 1;
                    }
                    _ => {}
                }
            }
        }
    }
    found
}
