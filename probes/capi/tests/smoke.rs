//! C and C++ programs built against the headers, and what a recorder then finds in their rings.

use crate::session::{Library, Workbench, record, succeed, thread};
use bypassprof_wire::Flow;
use std::process::Command;

/// Lines with the flow's label in place of `FLOW`.
fn expected(flow: Flow, lines: &[&str]) -> Vec<String> {
    let label = format!("{:#x}", flow.raw());
    lines
        .iter()
        .map(|line| line.replace("FLOW", &label))
        .collect()
}

fn check_smoke(library: Library) {
    let flow = Flow::ipv4(0x0a7b_0002, 8080, 0x0a7b_0001, 40_000);
    let bench = Workbench::new();
    let rings = record(&mut Command::new(bench.build("smoke.c", library)));
    assert_eq!(rings.len(), 2);

    let main = thread(&rings, "a name longer than the kernel ha");
    let events = expected(
        flow,
        &[
            "app_start FLOW [1]",
            "send_call FLOW [151, 150, 4096, 0]",
            "tcp_out FLOW [1, 2, 3, 4, 5, 6, 7]",
            "app_end FLOW [151]",
            "own_point 0x0 [1]",
            "deliver FLOW [5]",
            "= deliver FLOW [6, 7, 8, 0]",
            "= tcp_out FLOW [8, 9, 10, 11, 12, 13, 14]",
        ],
    );
    assert_eq!(main.text(), events);
    assert_eq!(main.totals.requests, 1);
    assert_eq!(main.totals.events, events.len() as u64);

    let second = thread(&rings, "second");
    let events = expected(
        flow,
        &[
            "idle_begin 0x0 [0]",
            "idle_end 0x0 [3]",
            "= rx_burst 0x1020002 [1000]",
            "= tcp_in FLOW [1000, 64, 0, 65535]",
            "= tcp_in FLOW [1001, 64, 0, 65535]",
            "tx_burst 0x1001002 [1000]",
            "tx_burst 0x1001001 [1001, 77, 2, 0]",
            "idle_begin 0x0 [0]",
            "timer 0x0 [6]",
        ],
    );
    assert_eq!(second.text(), events);
    let totals = second.totals;
    assert_eq!(
        (totals.rx_bursts, totals.rx_packets, totals.rx_bytes),
        (1, 2, 120)
    );
    assert_eq!(
        (totals.tx_bursts, totals.tx_packets, totals.tx_bytes),
        (2, 2, 300)
    );
    assert_eq!((totals.rounds, totals.empty_rounds), (5, 4));
}

/// Every call of the header, from C with the static library.
#[test]
fn c_program_with_the_static_library() {
    check_smoke(Library::Static);
}

/// The same with the shared library, whose thread-local words are reached by a call.
#[test]
fn c_program_with_the_shared_library() {
    check_smoke(Library::Shared);
}

/// From C++, with a loop that does not stamp its rounds and IPv6 flows.
#[test]
fn cxx_program() {
    let bench = Workbench::new();
    let rings = record(&mut Command::new(bench.build("smoke.cc", Library::Static)));
    assert_eq!(
        rings.iter().filter(|ring| !ring.events.is_empty()).count(),
        2
    );
    let flow = Flow::ipv6(ADDRESS + 1, 8080, ADDRESS + 2, 40_000);
    for (name, burst) in [
        ("first", "= rx_burst 0x1020001 [7]"),
        ("second", "= rx_burst 0x2020001 [7]"),
    ] {
        let ring = thread(&rings, name);
        let events = expected(
            flow,
            &[
                "idle_begin 0x0 [0]",
                "idle_end 0x0 [1]",
                burst,
                "= deliver FLOW [64]",
                "app_start FLOW [1]",
                "app_end FLOW [151]",
                "idle_begin 0x0 [0]",
            ],
        );
        assert_eq!(ring.text(), events);
        assert_eq!(ring.totals.requests, 1);
    }
}

/// 2001:db8::, as a number.
const ADDRESS: u128 = 0x2001_0db8 << 96;

/// With the probes compiled out, programs need no library and nothing of it is left in them.
#[test]
fn off_leaves_nothing() {
    let bench = Workbench::new();
    for source in ["smoke.c", "smoke.cc"] {
        let program = bench.build(source, Library::Off);
        let symbols = succeed(Command::new("nm").arg(&program)).stdout;
        let symbols = String::from_utf8(symbols).unwrap();
        assert!(symbols.contains(" main"), "nm shows no symbols");
        assert!(!symbols.contains("bypassprof"), "{symbols}");
    }
}

/// The headers stand alone, in both languages, switched on and off, with and without optimisation.
#[test]
fn headers_stand_alone() {
    let bench = Workbench::new();
    for source in ["alone.c", "alone.cc"] {
        for switch in ["-DBYPASSPROF_ON", "-DBYPASSPROF_OFF", "-DBYPASSPROF_SHARED"] {
            for level in ["-O0", "-O2"] {
                let mut command = bench.compiler(source);
                succeed(
                    command
                        .args([switch, level, "-c", "-o"])
                        .arg(bench.path("alone.o")),
                );
            }
        }
    }
}

/// The guide's example compiles as both languages.
#[test]
fn guide_compiles() {
    let guide = include_str!("../../../docs/guide/probes-c.md");
    let code = guide.split("```c\n").nth(1).unwrap();
    let code = code.split("```").next().unwrap();
    let bench = Workbench::new();
    for name in ["guide.c", "guide.cc"] {
        std::fs::write(bench.path(name), code).unwrap();
        let mut command = bench.compiler_for(&bench.path(name));
        succeed(command.args(["-O2", "-c", "-o"]).arg(bench.path("guide.o")));
    }
}
