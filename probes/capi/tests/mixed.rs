//! One program of C code, Rust code and a loaded library with its own copy of the probes.

use crate::session::{Recorded, SYSTEM_LIBRARIES, Workbench, built, record, succeed, thread};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The static library that cargo makes of `examples/rust_half.rs`: probes for Rust and for C.
fn rust_half() -> PathBuf {
    let deps = built("libbypassprof_capi.a");
    let half = deps.parent().unwrap().with_file_name("examples");
    half.join("librust_half.a")
}

/// Links the program and what it loads, and records it. With `exported` the names of the program's copy are there for
/// the loaded library to bind to, as in a program linked with `-rdynamic`.
fn record_mixed(exported: bool) -> Vec<Recorded> {
    let bench = Workbench::new();
    let loaded = bench.path("libloaded.so");
    let mut command = bench.compiler("loaded.c");
    command.args(["-O2", "-fPIC", "-shared", "-o"]).arg(&loaded);
    succeed(
        command
            .arg(built("libbypassprof_capi.a"))
            .args(SYSTEM_LIBRARIES),
    );
    let program = bench.path("mixed");
    let mut command = bench.compiler("mixed.c");
    command.args(["-O2", "-o"]).arg(&program).arg(rust_half());
    if exported {
        command.arg("-rdynamic");
    }
    succeed(command.args(SYSTEM_LIBRARIES));
    assert!(
        has_own_copy(&loaded),
        "the loaded library has no copy of its own"
    );
    record(Command::new(program).arg(loaded))
}

fn has_own_copy(library: &Path) -> bool {
    let symbols = succeed(Command::new("nm").arg(library)).stdout;
    let symbols = String::from_utf8_lossy(&symbols).into_owned();
    symbols.lines().any(|line| {
        line.contains(" B bypassprof_thread_v1") || line.contains(" b bypassprof_thread_v1")
    })
}

fn check_turns(rings: &[Recorded]) {
    for number in 0..4 {
        let ring = thread(rings, &format!("mixed {number}"));
        let turns = (0..1002u32).map(|turn| format!("timer {:#x} [{turn}]", turn % 3 + 1));
        assert_eq!(ring.text(), turns.collect::<Vec<_>>());
        assert_eq!(ring.totals.events, 1002);
    }
    let first = thread(rings, "loaded first");
    assert_eq!(
        first.text(),
        ["timer 0x3 [0]", "timer 0x1 [1]", "timer 0x2 [2]"]
    );
}

/// Each thread has one ring, with the events of all three in their order, whoever came first.
#[test]
fn one_ring_per_thread() {
    let rings = record_mixed(false);
    check_turns(&rings);
    let with_events = rings.iter().filter(|ring| !ring.events.is_empty());
    assert_eq!(with_events.count(), 7, "threads with events");
}

/// The same where the loaded library binds to the program's names instead of its own.
#[test]
fn one_ring_per_thread_with_shared_names() {
    check_turns(&record_mixed(true));
}

/// The same rounds leave the same events and totals from C as from Rust.
#[test]
fn rounds_are_the_same_from_both_languages() {
    let rings = record_mixed(false);
    let (c, rust) = (thread(&rings, "c rounds"), thread(&rings, "rust rounds"));
    assert!(c.events.len() > 200, "{} events", c.events.len());
    assert_eq!(c.text(), rust.text());
    let totals = |ring: &Recorded| {
        let mut totals = ring.totals;
        totals.events = 0;
        totals
    };
    assert_eq!(totals(c), totals(rust));
}
