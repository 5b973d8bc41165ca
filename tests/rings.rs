//! Many threads and many processes with probes: every event of every one is in the recording, and nothing stays behind.
//! The program is this test binary, started again as [`program`].

use crate::support::{Place, Run};
use bypassprof::trace::{Reader, Record};
use bypassprof_probe::{self as probe, Flow, points};
use bypassprof_wire::{Decoder, Tsc};
use std::collections::BTreeMap;
use std::time::Duration;

const THREADS: &str = "BYPASSPROF_TEST_THREADS";
const EVENTS: u32 = 5;

/// Not a test: makes as many threads as its environment says, a few at a time; each writes a few events and ends.
#[test]
#[ignore = "the program that the tests of this module record"]
fn program() {
    let threads: usize = std::env::var(THREADS).unwrap().parse().unwrap();
    for wait in 0.. {
        if probe::enabled() {
            break;
        }
        assert!(wait < 20_000, "no recorder listens");
        std::thread::sleep(Duration::from_millis(1));
    }
    for batch in 0..threads.div_ceil(20) {
        let count = 20.min(threads - 20 * batch);
        let run = || {
            for event in 0..EVENTS {
                probe::emit(points::APP_END, Flow::from_raw(7), event);
            }
        };
        let started: Vec<_> = (0..count).map(|_| std::thread::spawn(run)).collect();
        started.into_iter().for_each(|t| t.join().unwrap());
        // Rings are bounded: threads that come faster than a recorder reads would find none.
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Events of each ring with any, by the ring's process and thread.
fn events(place: &Place) -> BTreeMap<(u32, u32, u32), u64> {
    let reader = Reader::open(&place.path("bypassprof.mcap")).unwrap();
    let rings = &reader.meta().rings;
    let mut events = BTreeMap::new();
    let mut decoders = BTreeMap::new();
    for record in reader.records() {
        let Record::Slots(ring, block) = record.unwrap() else {
            continue;
        };
        let about = &rings[&ring];
        let base = Tsc::from_raw(about.base_tsc);
        let decoder = decoders
            .entry(ring)
            .or_insert_with(|| Decoder::new(Some(base)));
        let count = events.entry((about.pid, about.tid, ring)).or_default();
        let mut seen = |_| *count += 1;
        block.slots.iter().for_each(|&s| decoder.push(s, &mut seen));
        decoder.flush(&mut seen);
    }
    assert_eq!(reader.meta().slots_dropped(), 0);
    assert_eq!(reader.meta().end.as_ref().unwrap().rings_unreached, 0);
    events
}

fn record(place: &Place, threads: usize, shell: &str) -> Run {
    let program = std::env::current_exe().unwrap();
    let mut command = place.bypassprof(&["record", "--", "sh", "-c", shell]);
    command
        .arg(program)
        .args(["--exact", "rings::program", "--ignored"])
        .env(THREADS, threads.to_string());
    let run = Run::of(&mut command);
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    run
}

/// A thread is a ring of its own in the recording, however few rings the program makes for all of them.
#[test]
fn many_threads() {
    let place = Place::new();
    record(&place, 1000, "exec \"$0\" \"$@\"");
    let events = events(&place);
    let full = events.values().filter(|&&n| n == u64::from(EVENTS)).count();
    assert_eq!((events.len(), full), (1000, 1000));
}

/// Children that execute programs of their own are found and told apart.
#[test]
fn many_processes() {
    let place = Place::new();
    let shell = "for i in 1 2 3 4 5 6; do \"$0\" \"$@\" & done; wait";
    record(&place, 20, shell);
    let events = events(&place);
    let mut pids: Vec<_> = events.keys().map(|k| k.0).collect();
    pids.dedup();
    assert_eq!(pids.len(), 6);
    assert_eq!(events.values().sum::<u64>(), 6 * 20 * u64::from(EVENTS));
}
