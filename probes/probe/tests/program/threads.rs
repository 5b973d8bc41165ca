//! Many threads, and children.

use crate::harness::{Program, Recorder, session_dir};
use crate::parts::{AT_A_TIME, THREADS};
use bypassprof_wire::layout::Mode;
use std::fs;

/// Ten thousand threads share a bounded number of rings: each is read whole or counted as unreached, and rings of ended
/// threads are used again.
#[test]
fn ten_thousand_threads() {
    const BOUND: u64 = 4 << 20;
    let dir = session_dir();
    let mut program = Program::start_with("threads", dir.path(), |command| {
        command.env("BYPASSPROF_RING_BYTES", BOUND.to_string());
    });
    let mut recorder = Recorder::attach(dir.path(), program.pid(), Mode::Drain);
    program.go();
    let waiting = std::thread::spawn(move || {
        program.expect("done");
        program
    });
    while !waiting.is_finished() {
        recorder.turn();
        std::thread::yield_now();
    }
    let files = fs::read_dir(dir.path()).unwrap().map(Result::unwrap);
    let rings: Vec<u64> = files
        .filter(|file| file.path().extension().is_some_and(|e| e == "ring"))
        .map(|file| file.metadata().unwrap().len())
        .collect();
    assert!(rings.iter().sum::<u64>() <= BOUND);
    assert!(rings.len() > AT_A_TIME / 2, "{} rings", rings.len());
    while recorder.turn() > 0 {}
    let unreached = recorder.control.unreached();
    let reads = recorder.finish();
    assert!(reads.len() > rings.len(), "no ring was used again");
    assert_eq!(reads.len() as u64 + unreached, THREADS as u64);
    assert!(
        reads
            .iter()
            .all(|read| read.events.len() == 10 && read.totals.events == 10)
    );
    assert!(waiting.join().unwrap().finish().success());
}

/// A child has a control file and a ring of its own, is switched on as its parent was, and knows its parent's points.
#[test]
fn forked_child() {
    let dir = session_dir();
    let mut program = Program::start("forks", dir.path());
    let parent = Recorder::attach(dir.path(), program.pid(), Mode::Drain);
    program.go();
    let child = program.expect("child").parse().unwrap();
    let child = Recorder::find(dir.path(), child);
    assert_eq!(
        child.control.own_points(),
        [(256, "before_fork".to_string())]
    );
    let numbers = |recorder: Recorder| {
        let reads = recorder.finish();
        assert_eq!((reads.len(), reads[0].bad), (1, 0));
        let events = reads[0].events.iter();
        events
            .map(|event| (event.point.id(), event.args[0]))
            .collect::<Vec<_>>()
    };
    let expected = |args: &[u32]| args.iter().map(|&arg| (256, arg)).collect::<Vec<_>>();
    assert_eq!(numbers(parent), expected(&[0, 1, 2, 3, 4, 5, 0, 1]));
    assert_eq!(numbers(child), expected(&[0, 1, 2, 3, 4, 5, 6]));
    assert!(program.finish().success());
}
