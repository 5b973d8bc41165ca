//! A program with DPDK built in, from Debian's static libraries: nothing stands in front of its calls, and each way out
//! that the guide names is gone for real, with the program's own counts beside ours.

use super::missing;
use crate::support::{Place, Run};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What such a program is linked with: drivers whole, of the rest what it uses.
const STATIC: &str = "-Wl,--whole-archive -l:librte_bus_vdev.a -l:librte_mempool_ring.a -l:librte_net_null.a \
    -Wl,--no-whole-archive -l:librte_ethdev.a -l:librte_net.a -l:librte_mbuf.a -l:librte_mempool.a -l:librte_ring.a \
    -l:librte_meter.a -l:librte_eal.a -l:librte_telemetry.a -l:librte_kvargs.a \
    $(for newer in log argparse; do test -e $(pkg-config --variable=libdir libdpdk)/librte_$newer.a && echo -l:librte_$newer.a; done) \
    -lnuma -lbsd -lm -ldl -lpthread";
const SHARED: &str = "$(pkg-config --libs libdpdk)";

/// A file that a build left beside the tests.
fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.with_file_name(name)
}

/// Builds `forward.c`; `None`, aloud, where DPDK's headers and static libraries are not.
fn forward(place: &Place, name: &str, libraries: &str) -> Option<()> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dpdk/forward.c");
    let line = format!("cc -O2 -w -o {name} '{source}' $(pkg-config --cflags libdpdk) {libraries}");
    let there = "pkg-config --exists libdpdk && [ -e $(pkg-config --variable=libdir libdpdk)/librte_eal.a ]";
    let sh = |line: &str| {
        Command::new("sh")
            .args(["-c", line])
            .current_dir(place.path(""))
            .status()
    };
    if !sh(there).unwrap().success() {
        eprintln!("left out: no static libraries of DPDK's; apt-get install libdpdk-dev");
        return None;
    }
    assert!(sh(&line).unwrap().success(), "{line}");
    Some(())
}

/// Its arguments; a prefix of its own for each, since their files stay for as long as they run.
fn arguments(name: &str, eal: &[&str], own: &[&str]) -> Vec<String> {
    let prefix = format!("--file-prefix=bypassprof-{name}-{}", std::process::id());
    let usual = [
        "--no-huge",
        "-m",
        "256",
        "--no-pci",
        "--no-shconf",
        "-l",
        "1",
    ];
    let devices = ["--vdev", "net_null0", "--vdev", "net_null1"];
    let mut all: Vec<_> = [&usual[..], eal, &devices, &[&prefix, "--"], own].concat();
    let program = format!("./{name}");
    all.insert(0, &program);
    all.into_iter().map(str::to_owned).collect()
}

/// What the program said of itself, as it stands there.
fn said_in_full<'r>(run: &'r Run, what: &str) -> &'r str {
    let rest = run.out.split_once(what).map(|(_, rest)| rest);
    rest.and_then(|rest| rest.split_whitespace().next())
        .unwrap_or_default()
}

/// The same as a number.
fn said(run: &Run, what: &str) -> u64 {
    let number = said_in_full(run, what).parse();
    number.unwrap_or_else(|_| panic!("no {what}: {}\n{}", run.out, run.err))
}

/// Records it, with these arguments of `record` before the command.
fn record(place: &Place, how: &[&str], command: &[String]) -> Run {
    let command: Vec<_> = command.iter().map(String::as_str).collect();
    let run = place.run(&[&["record"], how, &["--"], &command].concat());
    assert_eq!(run.code, Some(0), "{}\n{}", run.err, run.out);
    run
}

/// Calls and frames of our queues are those that the program counted itself.
fn queues_agree(place: &Place, run: &Run) {
    let queues = place.run(&["queues", "--json"]);
    assert_eq!(queues.code, Some(0), "{}\n{}", queues.err, run.err);
    let queues: Value = serde_json::from_str(&queues.out).unwrap();
    let sum = |receives: bool, what: &str| -> u64 {
        let rows = queues["rows"].as_array().unwrap().iter();
        rows.filter(|r| r["receives"] == receives)
            .map(|r| r[what].as_u64().unwrap())
            .sum()
    };
    assert_eq!(sum(true, "calls"), said(run, "polls "), "{queues:#}");
    assert_eq!(sum(true, "frames"), said(run, "received "), "{queues:#}");
    assert_eq!(sum(false, "frames"), said(run, "sent "), "{queues:#}");
    assert!(said(run, "received ") > 1000);
}

/// The same source on shared libraries is counted to the last call, and told that it has to be refused when it is not.
#[test]
fn shared_is_counted_and_static_refused() {
    or_leave_out!();
    let place = Place::new();
    if forward(&place, "shared", SHARED).is_none() {
        return;
    }
    forward(&place, "static", STATIC).unwrap();
    let run = record(&place, &["--dpdk"], &arguments("shared", &[], &["0.5"]));
    queues_agree(&place, &run);
    let run = place.run(&["record", "--dpdk", "--", "./static", "--", "1"]);
    assert_eq!(run.code, Some(1), "{}", run.err);
    assert!(
        run.err.contains("DPDK is built into ./static"),
        "{}",
        run.err
    );
}

/// First way out: a program that lets loaded drivers use its DPDK loads the library as one of them.
#[test]
fn loaded_as_a_driver() {
    or_leave_out!();
    let place = Place::new();
    if forward(&place, "exports", &format!("-Wl,--export-dynamic {STATIC}")).is_none() {
        return;
    }
    let library = std::env::var_os("BYPASSPROF_DPDK_LIBRARY").map(PathBuf::from);
    let library = library.unwrap_or_else(|| built("libbypassprof_dpdk.so"));
    let library = library.canonicalize().unwrap();
    let run = record(
        &place,
        &[],
        &arguments("exports", &["-d", library.to_str().unwrap()], &["0.5"]),
    );
    queues_agree(&place, &run);
}

/// Second way out: the C interface at the two places where the program calls DPDK.
#[test]
fn calls_at_two_places() {
    or_leave_out!();
    let place = Place::new();
    let include = concat!("-I", env!("CARGO_MANIFEST_DIR"), "/probes/capi/include");
    let probes = built("libbypassprof_capi.a");
    let with = format!(
        "-DPROBES '{include}' '{}' {STATIC} -lgcc_s -lutil -lrt",
        probes.display()
    );
    if forward(&place, "probed", &with).is_none() {
        return;
    }
    let run = record(&place, &[], &arguments("probed", &[], &["0.3"]));
    let reader = bypassprof::trace::Reader::open(&place.path("bypassprof.mcap")).unwrap();
    let totals: Vec<_> = reader.meta().totals.values().collect();
    let [totals] = totals[..] else {
        panic!("{totals:?}")
    };
    assert_eq!(totals.rx_packets, said(&run, "received "), "{totals:?}");
    assert_eq!(totals.rx_bursts, said(&run, "bursts "), "{totals:?}");
    assert_eq!(totals.tx_packets, said(&run, "sent "), "{totals:?}");
}

/// Last resort: uprobes on the driver's burst functions count every call, empty ones too.
#[test]
fn uprobes_on_the_driver() {
    or_leave_out!();
    if !Path::new("/sys/bus/event_source/devices/uprobe").exists() {
        eprintln!("left out: a kernel without uprobes");
        return;
    }
    let place = Place::new();
    if forward(&place, "probed-by-kernel", STATIC).is_none() {
        return;
    }
    let command = arguments("probed-by-kernel", &[], &["0.5"]);
    let alone = Run::of(
        Command::new(&command[0])
            .args(&command[1..])
            .current_dir(place.path("")),
    );
    // On all CPUs: an event of a task would have to be inherited by the threads that the program makes.
    let events = "./probed-by-kernel:eth_null_rx,./probed-by-kernel:eth_null_tx";
    let command: Vec<_> = command.iter().map(String::as_str).collect();
    let how = ["stat", "-a", "--json", "-e", events, "--"];
    let run = place.run(&[&how, &command[..]].concat());
    assert_eq!(run.code, Some(0), "{}\n{}", run.err, run.out);
    let (_, json) = run.out.split_once("\n{").unwrap();
    let told: Value = serde_json::from_str(&format!("{{{json}")).unwrap();
    let counted = [0, 1].map(|at: usize| told["counters"][at]["value"].as_f64());
    let expected = ["polls ", "bursts "].map(|what| Some(said(&run, what) as f64));
    assert_eq!(counted, expected, "{told:#}\n{}", run.out);
    let [alone, probed] = [&alone, &run].map(|run| said_in_full(run, "ns a burst "));
    println!("a burst in and out: {alone} ns alone, {probed} ns with two uprobes");
}
