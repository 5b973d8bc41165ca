//! Programs in C and C++ with probes, recorded by the real `bypassprof`: what is in the file is what they wrote.

use crate::support::{Place, Run};
use bypassprof::trace::reader::Reader;
use bypassprof_wire::{Decoder, Event, Tsc, points};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

// Cargo builds the static library beside this test because the root package depends on it here.
extern crate bypassprof_capi;

const SYSTEM_LIBRARIES: &[&str] = &["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl"];

/// Builds one of the smoke programs of `probes/capi` in a place of the test's own.
fn build(place: &Place, compiler: &str, standard: &str, source: &str) {
    let capi = concat!(env!("CARGO_MANIFEST_DIR"), "/probes/capi");
    let mut library: PathBuf = std::env::current_exe().unwrap();
    library.set_file_name("libbypassprof_capi.a");
    let mut command = Command::new(compiler);
    command.args([standard, "-Wall", "-Wextra", "-Werror", "-O2", "-o"]);
    command.arg(place.path("smoke"));
    command.arg(format!("-I{capi}/include"));
    command.arg(format!("{capi}/tests/programs/{source}"));
    let run = Run::of(command.arg(library).args(SYSTEM_LIBRARIES));
    assert_eq!(run.code, Some(0), "{}", run.err);
}

/// The events of each thread that made any, by the thread's name; sampled rounds left out.
fn events(place: &Place) -> BTreeMap<String, Vec<Event>> {
    let reader = Reader::open(&place.path("bypassprof.mcap")).unwrap();
    let mut threads = BTreeMap::new();
    for (&number, ring) in &reader.meta().rings {
        let mut events = Vec::new();
        let mut decoder = Decoder::new(Some(Tsc::from_raw(ring.base_tsc)));
        for block in reader.slots(number) {
            for slot in block.unwrap().slots {
                decoder.push(slot, &mut |event| events.push(event));
            }
        }
        decoder.flush(&mut |event| events.push(event));
        events.retain(|event| event.point != points::LOOP);
        if !events.is_empty() {
            let before = threads.insert(ring.name.clone(), events);
            assert!(before.is_none(), "{} has two rings", ring.name);
        }
    }
    threads
}

/// Names of points in order.
fn names(events: &[Event]) -> Vec<&'static str> {
    let name = |event: &Event| event.point.info().map_or("own", |info| info.name);
    events.iter().map(name).collect()
}

/// The C program's events, its own point and its threads' names.
#[test]
fn c_program_is_recorded() {
    let place = Place::new();
    build(&place, "cc", "-std=c11", "smoke.c");
    place.record(&["./smoke"]);
    let threads = events(&place);
    let main = &threads["a name longer than the kernel ha"];
    assert_eq!(
        names(main),
        [
            "app_start",
            "send_call",
            "tcp_out",
            "app_end",
            "own",
            "deliver",
            "deliver",
            "tcp_out"
        ]
    );
    assert_eq!(main[2].args[..7], [1, 2, 3, 4, 5, 6, 7]);
    let second = names(&threads["second"]);
    assert_eq!(
        second[..5],
        ["idle_begin", "idle_end", "rx_burst", "tcp_in", "tcp_in"]
    );
    assert_eq!(second[5..], ["tx_burst", "tx_burst", "idle_begin", "timer"]);
    let reader = Reader::open(&place.path("bypassprof.mcap")).unwrap();
    let mut own = reader.meta().rings.values().flat_map(|ring| &ring.points);
    assert!(own.any(|point| point.name == "own_point"));
    assert_eq!(reader.meta().slots_dropped(), 0);
}

/// The C++ program's two threads, each with the same events.
#[test]
fn cxx_program_is_recorded() {
    let place = Place::new();
    build(&place, "c++", "-std=c++17", "smoke.cc");
    place.record(&["./smoke"]);
    let threads = events(&place);
    for name in ["first", "second"] {
        assert_eq!(
            names(&threads[name]),
            [
                "idle_begin",
                "idle_end",
                "rx_burst",
                "deliver",
                "app_start",
                "app_end",
                "idle_begin"
            ]
        );
    }
}
