//! What goes wrong around a program never reaches it: it goes on, silently, and what is missing is counted.
#![allow(unsafe_code)]

use crate::harness::{Program, Recorder, session_dir, user};
use crate::parts;
use bypassprof_wire::Event;
use bypassprof_wire::layout::Mode;
use std::ffi::CString;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn small_rings(command: &mut Command) {
    command.env("BYPASSPROF_RING_SLOTS", "1024");
}

fn ring_files(dir: &Path) -> Vec<fs::DirEntry> {
    let all = fs::read_dir(dir).unwrap().map(Result::unwrap);
    all.filter(|e| e.path().extension().is_some_and(|e| e == "ring"))
        .collect()
}

/// A full ring drops; slots written, dropped and told of add up to what was emitted.
#[test]
fn full_ring() {
    let dir = session_dir();
    let mut program = Program::start_with("steps", dir.path(), small_rings);
    let mut recorder = Recorder::attach(dir.path(), program.pid(), Mode::Drain);
    for _ in 0..30 {
        program.go();
        program.expect("step");
    }
    recorder.turn();
    program.go();
    program.expect("step");
    let reads = recorder.finish();
    let main = reads.iter().max_by_key(|read| read.totals.events).unwrap();
    // The EPOCH slot and the LOST slot take two places; the last step came after the ring was emptied.
    assert_eq!(main.totals.events, 1023 + 100);
    assert_eq!(main.totals.events + main.totals.dropped_slots, 31 * 100);
    assert_eq!(main.lost, main.totals.dropped_slots);
    // LOST is given out as an event.
    assert_eq!(
        (main.events.len() as u64, main.bad),
        (main.totals.events + 1, 0)
    );
    assert!(program.finish().success());
}

/// In flight mode the newest events are there, whole and without a gap.
#[test]
fn flight() {
    let dir = session_dir();
    let mut program = Program::start_with("steps", dir.path(), small_rings);
    let recorder = Recorder::attach(dir.path(), program.pid(), Mode::Flight);
    for _ in 0..30 {
        program.go();
        program.expect("step");
    }
    let reads = recorder.finish();
    let main = reads.iter().max_by_key(|read| read.totals.events).unwrap();
    assert_eq!((main.totals.events, main.totals.dropped_slots), (3000, 0));
    let args: Vec<u32> = main.events.iter().map(|event| event.args[0]).collect();
    let expected: Vec<u32> = (0..3000).map(|n| n % 100).collect();
    assert_eq!(args, expected[3000 - (1024 - 8)..]);
    assert!(program.finish().success());
}

/// Switched off, nothing is written; switched on again, everything is.
#[test]
fn switched_off_and_on() {
    let dir = session_dir();
    let mut program = Program::start("steps", dir.path());
    let mut recorder = Recorder::attach(dir.path(), program.pid(), Mode::Drain);
    let mut step = |recorder: &mut Recorder| {
        program.go();
        program.expect("step");
        recorder.turn()
    };
    // Ten events, a hundred, and an EPOCH slot in each of two rings.
    assert_eq!(step(&mut recorder), 112);
    recorder.control.switch_off();
    assert_eq!(step(&mut recorder), 0);
    recorder.control.switch_on(Mode::Drain);
    assert_eq!(step(&mut recorder), 111);
    drop(recorder);
    assert!(program.finish().success());
}

/// The session directory is removed under the program: threads that have rings keep them, later ones are counted.
#[test]
fn directory_gone() {
    let dir = session_dir();
    let mut program = Program::start_with("steps", dir.path(), |command| {
        command
            .env("BYPASSPROF_RING_BYTES", "20480")
            .env("BYPASSPROF_RING_SLOTS", "1024");
    });
    let recorder = Recorder::attach(dir.path(), program.pid(), Mode::Drain);
    fs::remove_dir_all(dir.path()).unwrap();
    for _ in 0..3 {
        program.go();
        program.expect("step");
    }
    assert!(recorder.control.unreached() >= 3);
    assert!(program.finish().success());
}

/// Every file of the session is cut to nothing while the program writes: it goes on and ends well.
#[test]
fn files_cut_short() {
    let dir = session_dir();
    let mut program = Program::start("steps", dir.path());
    let mut recorder = Recorder::attach(dir.path(), program.pid(), Mode::Drain);
    program.go();
    program.expect("step");
    recorder.turn();
    for file in fs::read_dir(dir.path()).unwrap() {
        let file = fs::File::options()
            .write(true)
            .open(file.unwrap().path())
            .unwrap();
        file.set_len(0).unwrap();
    }
    for _ in 0..3 {
        program.go();
        program.expect("step");
        recorder.turn();
    }
    assert!(recorder.control.is_cut_short());
    assert!(program.finish().success());
}

/// A tmpfs of one's own, until it is dropped.
struct SmallTmpfs(tempfile::TempDir);

impl SmallTmpfs {
    fn mount() -> Option<SmallTmpfs> {
        let dir = session_dir();
        let path = CString::new(dir.path().to_str().unwrap()).unwrap();
        let options = c"size=64k,mode=700".as_ptr().cast();
        // SAFETY: all strings end with a zero byte.
        let done = unsafe {
            libc::mount(
                c"none".as_ptr(),
                path.as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                options,
            )
        };
        (done == 0).then_some(SmallTmpfs(dir))
    }
}

impl Drop for SmallTmpfs {
    fn drop(&mut self) {
        let path = CString::new(self.0.path().to_str().unwrap()).unwrap();
        // SAFETY: the path ends with a zero byte.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    }
}

/// On a full file system a thread gets no ring and is counted; no half-made file stays.
#[test]
fn tmpfs_full() {
    let Some(dir) = SmallTmpfs::mount() else {
        eprintln!("skipped: only root can mount a small tmpfs");
        return;
    };
    let mut program = Program::start("steps", dir.0.path());
    let recorder = Recorder::attach(dir.0.path(), program.pid(), Mode::Drain);
    program.go();
    program.expect("step");
    assert_eq!(recorder.control.unreached(), 2);
    assert_eq!(recorder.control.rings(), []);
    assert_eq!(ring_files(dir.0.path()).len(), 0);
    drop(recorder);
    assert!(program.finish().success());
}

/// A thread that starts after root was given up still gets a ring, which a recorder with more rights reads.
#[test]
fn privileges_dropped() {
    if user() != 0 {
        eprintln!("skipped: only root has privileges to drop");
        return;
    }
    let dir = session_dir();
    let mut program = Program::start("nobody", dir.path());
    let recorder = Recorder::attach(dir.path(), program.pid(), Mode::Drain);
    program.go();
    program.expect("done");
    assert_eq!(ring_files(dir.path()).len(), 0);
    let reads = recorder.finish();
    assert_eq!(reads.len(), 1);
    assert_eq!(reads[0].events.len(), 10);
    assert!(program.finish().success());
}

/// Killed at any moment, a writer leaves only whole events, in order, and none that is missing without being counted.
#[test]
fn killed_at_any_moment() {
    let kills = std::env::var("BYPASSPROF_KILLS")
        .ok()
        .and_then(|n| n.parse().ok());
    let mut random = 0x2545_f491u32;
    for kill in 0..kills.unwrap_or(200u32) {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        let mode = if kill % 2 == 0 {
            Mode::Drain
        } else {
            Mode::Flight
        };
        let dir = session_dir();
        let mut program = Program::start_with("checksums", dir.path(), small_rings);
        let mut recorder = Recorder::attach(dir.path(), program.pid(), mode);
        program.go();
        for _ in 0..random % 4 {
            recorder.turn();
        }
        std::thread::sleep(Duration::from_micros(u64::from(random >> 8) % 2000));
        program.kill();
        for read in recorder.finish() {
            let mut last = None;
            for event in &read.events {
                if event.point == bypassprof_wire::points::LOST {
                    continue;
                }
                check(event);
                assert!(
                    last < Some(event.args[0]),
                    "event {} after {last:?}",
                    event.args[0]
                );
                last = Some(event.args[0]);
            }
            assert!(read.bad == 0 || mode == Mode::Flight, "{read:?}");
        }
    }
}

/// An event of the part that is killed is whole.
pub fn check(event: &Event) {
    let n = event.args[0];
    let sum = match event.point.id() {
        300 => (
            4,
            parts::checksum(n, event.flow, &event.args[1..3]),
            event.args[3],
        ),
        301 => (
            7,
            parts::checksum(n, event.flow, &event.args[1..6]),
            event.args[6],
        ),
        302 => (
            1,
            parts::checksum(n, bypassprof_wire::Flow::NONE, &[]),
            event.flow.raw(),
        ),
        id => panic!("point {id}"),
    };
    assert_eq!(
        (event.arg_count, sum.1),
        (sum.0, sum.2),
        "a torn event: {event:?}"
    );
}
