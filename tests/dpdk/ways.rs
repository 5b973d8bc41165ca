//! Other ways than testpmd's usual one: frames looked at, callbacks in place of the table, queues that change, programs
//! that cannot be reached, other programs of DPDK's.

use super::{EAL, NULL, Testpmd, missing, testpmd, testpmd_by};
use crate::support::Place;
use bypassprof::trace::{Reader, Record};
use bypassprof_wire::{Decoder, Event, Flow, Point, points};
use std::process::Stdio;

/// Flows and sizes of the frames that were looked at, by the slots of a point.
fn looked_at(place: &Place, point: Point) -> Vec<(Flow, u32)> {
    let reader = Reader::open(&place.path("bypassprof.mcap")).unwrap();
    let (mut decoder, mut seen) = (Decoder::new(None), Vec::new());
    let mut take = |event: Event| {
        if event.point == point {
            seen.push((event.flow, event.args[1] & 0xff_ffff));
        }
    };
    for record in reader.records() {
        if let Ok(Record::Slots(_, block)) = record {
            let slots = block.slots.iter();
            slots.for_each(|&slot| decoder.push(slot, &mut take));
        }
    }
    decoder.flush(&mut take);
    seen
}

/// Frames that testpmd makes are told by their flow and length; of every 64th burst, or so, and of no other.
#[test]
fn frames_of_some_bursts() {
    or_leave_out!();
    let place = Place::new();
    let record = place.bypassprof(&["record", "--dpdk", "--per-packet=64", "--"]);
    let typed = ["set fwd txonly", "start", "stop", "quit"];
    let run = testpmd_by(record, &place, "", &NULL, 1, &typed);
    run.agrees();
    let frames = looked_at(&place, points::FRAME_OUT);
    let flow = Flow::ipv4(0xc612_0001, 9, 0xc612_0002, 9);
    assert!(
        !frames.is_empty() && frames.iter().all(|&f| f == (flow, 64)),
        "{:?}",
        frames.first()
    );
    let (mut all, mut told) = (0, 0);
    for row in run.queues["rows"].as_array().unwrap() {
        let number = |key: &str| row[key].as_u64().unwrap_or(0);
        all += number("frames");
        told += number("looked_at") + number("not_looked_at");
        assert!(
            row["receives"] == true || row["mean_bytes"] == 64.0,
            "{row:#}"
        );
    }
    let flows = &run.queues["flows"]["rows"];
    let expected = serde_json::json!([format!("{:08x}", flow.raw()), ["0:tx0", "1:tx0"]]);
    assert_eq!(
        serde_json::json!([flows[0]["flow"], flows[0]["queues"]]),
        expected,
        "{flows:#}"
    );
    assert_eq!(
        flows[0]["frames_out"].as_u64(),
        Some(frames.len() as u64),
        "{flows:#}"
    );
    let one_in = all as f64 / told as f64;
    assert!((48.0..80.0).contains(&one_in), "one frame in {one_in}");
    // On the whole nothing is looked at unless it is asked for.
    let place = Place::new();
    testpmd(&place, "", &NULL, 1, &typed);
    assert!(looked_at(&place, points::FRAME_OUT).is_empty());
}

/// Where the table is left alone, callbacks count the same calls; what the device accepted is then not known.
#[test]
fn callbacks() {
    or_leave_out!();
    let place = Place::new();
    let mut record = place.bypassprof(&["record", "--dpdk", "--"]);
    record.env("BYPASSPROF_DPDK_CALLBACKS", "1");
    let typed = ["set fwd io", "start", "stop", "start", "stop", "quit"];
    let run: Testpmd = testpmd_by(record, &place, "", &NULL, 2, &typed);
    for port in [0, 1] {
        for (receives, name) in [(true, "RX-packets:"), (false, "TX-packets:")] {
            let counted = run.counted(port, receives, "frames");
            assert_eq!(counted, run.told(port, name), "{}", run.run.out);
            assert!(counted > 0);
        }
    }
    let rows = run.queues["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 8, "{rows:#?}");
    assert!(rows.iter().all(|r| r["refused"].is_null()), "{rows:#?}");
}

/// A thread that first sends all it can and then polls rings that are empty: its time is told apart, in the table of lcores
/// with what a frame costs, in the report and in the picture, by functions that the pack knows.
#[test]
fn time_at_work_and_without() {
    or_leave_out!();
    let place = Place::new();
    let typed = [
        "set fwd txonly",
        "start",
        "stop",
        "set fwd rxonly",
        "start",
        "show port info 0",
        "stop",
        "quit",
    ];
    let run = testpmd(&place, "", &["net_ring0", "net_ring1"], 1, &typed);
    run.agrees();
    let lanes = run.queues["lanes"].as_array().unwrap();
    let lane = lanes.iter().find(|l| l["lcore"] == 1).unwrap();
    let number = |key: &str| lane[key].as_f64().unwrap_or(f64::NAN);
    assert!((0.001..0.95).contains(&number("busy_share")), "{lane:#}");
    assert!(
        number("empty_polls") > 1000.0 && number("empty_polls") < number("polls"),
        "{lane:#}"
    );
    assert!(number("ns_per_frame") > 0.0, "{lane:#}");
    let carried = number("frames_per_second_at_most") * number("ns_per_frame");
    assert!((carried / 1e9 - 1.0).abs() < 1e-6, "{lane:#}");
    let report = place.report();
    let thread = crate::support::row(&report["threads"], "lcore 1");
    for share in ["useful_share", "empty_poll_share"] {
        assert!(thread[share].as_f64() > Some(0.0), "{share} {thread:#}");
    }
    let picture = place.run(&["flamegraph", "-o", "flames.svg"]);
    assert_eq!(picture.code, Some(0), "{}", picture.err);
    let picture = std::fs::read_to_string(place.path("flames.svg")).unwrap();
    for root in ["useful", "empty polling"] {
        assert!(picture.contains(root), "{root}");
    }
    let packs = place.run(&["packs", "bypassprof.mcap"]);
    assert!(packs.out.contains("dpdk"), "{}", packs.out);
}

/// Ports are stopped, get other queues and are started again: every frame before and after is counted, on its queue.
#[test]
fn queues_that_change() {
    or_leave_out!();
    for way in ["0", "1"] {
        let place = Place::new();
        let mut record = place.bypassprof(&["record", "--dpdk", "--"]);
        record.env("BYPASSPROF_DPDK_CALLBACKS", way);
        let typed = [
            "start",
            "stop",
            "port stop all",
            "port config all rxq 2",
            "port config all txq 2",
            "port start all",
            "start",
            "stop",
            "port stop all",
            "port config all rxq 1",
            "port config all txq 1",
            "port start all",
            "start",
            "stop",
            "quit",
        ];
        let run = testpmd_by(record, &place, "", &NULL, 1, &typed);
        let mut all = 0;
        for port in [0, 1] {
            for (receives, name) in [(true, "RX-packets:"), (false, "TX-packets:")] {
                let counted = run.counted(port, receives, "frames");
                assert_eq!(counted, run.told(port, name), "{}", run.run.out);
                all += counted;
            }
        }
        assert!(all > 1000);
        let rows = run.queues["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 8, "{rows:#?}");
    }
}

/// A program with DPDK built in cannot be reached, and is told so before it starts, with what to do.
#[test]
fn built_in() {
    if std::process::Command::new("cc")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!("left out: no C compiler");
        return;
    }
    let place = Place::new();
    let source = "int rte_eth_dev_start(unsigned short p) { return p; }\n\
                  int rte_eal_init(int n) { return n; }\n\
                  int main(void) { return rte_eal_init(0) + rte_eth_dev_start(0); }\n";
    std::fs::write(place.path("static.c"), source).unwrap();
    for (flags, hint) in [
        (&["-s"][..], None),
        (&[][..], Some("bypassprof_rx_burst")),
        (&["-Wl,--export-dynamic"][..], Some("the EAL option `-d ")),
    ] {
        let built = std::process::Command::new("cc")
            .args(["-o", "static", "static.c"])
            .args(flags)
            .current_dir(place.path(""))
            .status();
        assert!(built.unwrap().success());
        let run = place.run(&["record", "--dpdk", "--", "./static"]);
        match hint {
            // Neither names nor DPDK's own text are left in it: it is run, and found to count nothing.
            None => assert!(run.err.contains("no DPDK port was started"), "{}", run.err),
            Some(hint) => {
                assert_eq!(run.code, Some(1), "{}", run.err);
                assert!(run.err.contains("DPDK is built into"), "{}", run.err);
                assert!(run.err.contains(hint), "{}", run.err);
            }
        }
    }
}

/// Another program of the package: its own threads and its own loops on two interfaces made in the kernel, run until it is ended.
#[test]
fn test_pipeline() {
    or_leave_out!();
    let place = Place::new();
    let mut command = place.bypassprof(&["record", "--dpdk", "--duration", "3", "--"]);
    let prefix = format!("--file-prefix=bypassprof-pipe-{}", std::process::id());
    command.args(["unshare", "-n", "timeout", "-s", "INT", "4"]);
    command.args(["dpdk-test-pipeline", "--no-huge", "-m", "512", "--no-pci"]);
    command.args(["--no-shconf", "--lcores", "0@0,1@1,2@0", &prefix]);
    command.args(["--vdev", "net_tap0", "--vdev", "net_tap1"]);
    command.args(["--", "-p", "0x3", "--none"]);
    command.stdin(Stdio::null());
    let run = command.output().unwrap();
    let said =
        String::from_utf8_lossy(&run.stderr).into_owned() + &String::from_utf8_lossy(&run.stdout);
    let queues = place.run(&["queues", "--json"]);
    assert_eq!(queues.code, Some(0), "{}\n{said}", queues.err);
    let queues: serde_json::Value = serde_json::from_str(&queues.out).unwrap();
    // The kernel says a few words on interfaces that are new. They are fewer than the program sends at a time.
    for port in [0, 1] {
        let mut rows = queues["rows"].as_array().unwrap().iter();
        let row = rows.find(|r| r["port"] == port && r["receives"] == true);
        let number = |key: &str| row.and_then(|r| r[key].as_u64()).unwrap_or(0);
        assert!(number("frames") > 0, "port {port}: {queues:#}");
        assert!(number("calls") > 1000, "port {port}: {queues:#}");
    }
}

/// What our functions cost beside the drivers' own, in one process, in turns. With the library as it is released:
/// `cargo build --release -p bypassprof-dpdk && BYPASSPROF_DPDK_LIBRARY=$PWD/target/release/libbypassprof_dpdk.so
/// cargo test -p bypassprof --test main dpdk::ways::turns -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn turns() {
    or_leave_out!();
    let place = Place::new();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dpdk/turns.c");
    let built = std::process::Command::new("sh")
        .arg("-c")
        .arg(format!(
            "cc -O3 -w -o turns '{source}' $(pkg-config --cflags --libs libdpdk)"
        ))
        .current_dir(place.path(""))
        .status();
    assert!(built.unwrap().success(), "apt-get install libdpdk-dev");
    // Frames that are looked at cost what they cost as long as the ring has room for them.
    for (how, turns) in [
        (&["--dpdk"][..], "5000"),
        (&["--dpdk", "--per-packet=64"], "1000"),
        (&["--dpdk", "--per-packet"], "300"),
    ] {
        let mut command = place.bypassprof(&["record", "-F", "1"]);
        command.args(how).args(["--", "./turns"]).args(EAL);
        command.arg(format!(
            "--file-prefix=bypassprof-turns-{}",
            std::process::id()
        ));
        command.args(["--vdev", NULL[0], "--vdev", NULL[1], "--", turns]);
        let run = command.output().unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(said.contains("wrapped: yes"), "{said}");
        println!("{}\n{said}", how.join(" "));
    }
}
