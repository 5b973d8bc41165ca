//! What programs do besides forwarding: they come in pairs that share ports, are killed, have more ports than there is room
//! for, and tell of their devices over time.

use super::{BY_ITSELF, EAL, NULL, Orphan, arguments_of_testpmd, missing, wrapped};
use crate::support::{Place, Run};
use bypassprof::trace::Reader;
use serde_json::Value;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A primary program and a secondary one of one shell, each testpmd with a queue of its own on the same ports, and a third
/// that only asks. They share memory, which takes huge pages.
const PAIR: &str = r#"
mkdir huge && mount -t hugetlbfs none huge || exit 77
mkfifo one two
pmd() {
    stdbuf -oL dpdk-testpmd -l 0,1 -m 64 --no-pci --huge-dir "$PWD/huge" --file-prefix "$0" --proc-type "$1" \
        --vdev net_null0 --vdev net_null1 -- -i --nb-cores=1 --rxq=2 --txq=2 --num-procs=2 --proc-id="$2" \
        --total-num-mbufs=8192 --no-flush-rx > "$1.out" 2>&1
}
wait_for() {
    for n in $(seq 600); do grep -q "$1" "$2" && return; sleep 0.05; done
    cat "$2" >&2; exit 1
}
forward() {
    echo start >&$1; sleep 0.3; echo stop >&$1
    wait_for 'Done\.$' "$2"
}
pmd primary 0 < one & first=$!; exec 3> one; wait_for testpmd\> primary.out
pmd secondary 1 < two & second=$!; exec 4> two; wait_for testpmd\> secondary.out
forward 3 primary.out
forward 4 secondary.out
dpdk-proc-info --file-prefix "$0" -- -p 0x3 --stats > info.out 2>&1
echo quit >&4; exec 4>&-; wait $second
echo quit >&3; exec 3>&-; wait $first
"#;

/// Huge pages of this machine's, given back at the end.
struct HugePages(u64);

const PAGES: &str = "/proc/sys/vm/nr_hugepages";

impl HugePages {
    /// So many more than there are; `None` where there is no right, or no memory in one piece.
    fn more(count: u64) -> Option<HugePages> {
        let now = || {
            std::fs::read_to_string(PAGES)
                .ok()?
                .trim()
                .parse::<u64>()
                .ok()
        };
        let before = HugePages(now()?);
        std::fs::write(PAGES, (before.0 + count).to_string()).ok()?;
        (now()? == before.0 + count).then_some(before)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        // Nothing better can be done at the end of a test.
        let _ = std::fs::write(PAGES, self.0.to_string());
    }
}

/// A number of testpmd's statistics for a port.
fn told(text: &str, port: u64, name: &str) -> u64 {
    let part = text.split_once(&format!("Forward statistics for port {port} "));
    let number = part.and_then(|(_, part)| {
        part.split_once(name)?
            .1
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    });
    number.unwrap_or_else(|| panic!("no {name} of port {port}: {text}"))
}

/// Programs that share ports are each counted on the queues that they use; a program that only asks harms none.
#[test]
fn secondary_processes() {
    or_leave_out!();
    let Some(_pages) = HugePages::more(64) else {
        eprintln!("left out: no huge pages to be had");
        return;
    };
    let place = Place::new();
    let prefix = format!("bypassprof-pair-{}", std::process::id());
    let run = place.run(&[
        "record", "--dpdk", "--", "unshare", "-m", "-n", "sh", "-c", PAIR, &prefix,
    ]);
    if run.code == Some(77) {
        eprintln!("left out: hugetlbfs cannot be mounted");
        return;
    }
    let read = |name: &str| std::fs::read_to_string(place.path(name)).unwrap_or_default();
    assert_eq!(
        run.code,
        Some(0),
        "{}\n{}\n{}",
        run.err,
        read("primary.out"),
        read("secondary.out")
    );
    let queues = place.run(&["queues", "--json"]);
    let queues: Value =
        serde_json::from_str(&queues.out).unwrap_or_else(|_| panic!("{}", queues.err));
    for (program, queue) in [("primary.out", 0), ("secondary.out", 1)] {
        let text = read(program);
        for port in [0, 1] {
            for (receives, name) in [(true, "RX-packets:"), (false, "TX-packets:")] {
                let rows = queues["rows"].as_array().unwrap().iter();
                let mine = rows.filter(|r| {
                    r["port"] == port && r["receives"] == receives && r["queue"] == queue
                });
                let frames: Vec<_> = mine.map(|r| r["frames"].as_u64().unwrap()).collect();
                assert_eq!(
                    frames,
                    [told(&text, port, name)],
                    "{program}, port {port} {name}\n{text}\n{queues:#}"
                );
            }
        }
    }
    let info = read("info.out");
    assert!(info.contains("RX-packets:"), "{info}");
}

/// A recorded program that is killed leaves a recording that is whole: its last counts, and what it was at for the post mortem.
#[test]
fn killed_while_recorded() {
    or_leave_out!();
    let place = Place::new();
    let mut command = place.bypassprof(&["record", "--dpdk", "--", "dpdk-testpmd"]);
    arguments_of_testpmd(&mut command, "kill9", &NULL, &BY_ITSELF);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let recorder = command.spawn().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", recorder.id());
    let child = || {
        let pid = std::fs::read_to_string(&children)
            .ok()?
            .trim()
            .parse()
            .ok()?;
        (wrapped(pid)? == 3).then_some(pid)
    };
    let program = (0..3000).find_map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        child()
    });
    let program = Orphan(program.expect("its ports are never counted"));
    std::thread::sleep(Duration::from_millis(700));
    drop(program);
    let run = Run::from(recorder.wait_with_output().unwrap());
    assert_eq!(run.code, Some(128 + 9), "{}", run.err);
    let queues = place.run(&["queues", "--json"]);
    let queues: Value =
        serde_json::from_str(&queues.out).unwrap_or_else(|_| panic!("{}", queues.err));
    let rows = queues["rows"].as_array().unwrap();
    assert!(
        rows.len() == 4 && rows.iter().all(|r| r["frames"].as_u64() > Some(0)),
        "{queues:#}"
    );
    // Each port sends what the other has received, but for the burst that the kill came into.
    let frames = |port: u64, receives: bool| {
        let row = rows
            .iter()
            .find(|r| r["port"] == port && r["receives"] == receives);
        row.unwrap()["frames"].as_u64().unwrap()
    };
    for port in [0, 1] {
        let refused: u64 = rows
            .iter()
            .filter(|r| r["port"] == 1 - port)
            .filter_map(|r| r["refused"].as_u64())
            .sum();
        let gone = frames(port, true) - frames(1 - port, false) - refused;
        assert!(gone <= 32, "port {port}: {gone}\n{queues:#}");
    }
    let told = place.run(&["postmortem", "--json", "bypassprof.mcap"]);
    let told: Value = serde_json::from_str(&told.out).unwrap_or_else(|_| panic!("{}", told.err));
    assert_eq!(told["ended"]["signal_name"], "SIGKILL", "{told:#}");
    let threads = told["threads"].as_array().unwrap();
    assert!(threads.iter().any(|t| t["name"] == "lcore 1"), "{told:#}");
}

/// Ports beyond those that there is room for are left as they are, and said to be; the others are counted.
#[test]
fn more_ports_than_room() {
    let place = Place::new();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dpdk/many.c");
    let lines = [
        "-shared -fPIC -DDRIVER -o librte_net_driver.so",
        "-shared -fPIC -DLIBRARY -o librte_ethdev.so -L. -l:librte_net_driver.so",
        "-o many -L. -l:librte_ethdev.so -l:librte_net_driver.so",
    ];
    for line in lines {
        let line = format!("cc -w '{source}' {line} -Wl,-rpath,'$ORIGIN'");
        let Ok(built) = Command::new("sh")
            .args(["-c", &line])
            .current_dir(place.path(""))
            .status()
        else {
            eprintln!("left out: no C compiler");
            return;
        };
        assert!(built.success(), "{line}");
    }
    let run = place.run(&["record", "--dpdk", "--", "./many"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(run.out.contains("received 640"), "{}", run.out);
    assert!(
        run.err.contains("8 ports beyond the 32nd were not counted"),
        "{}",
        run.err
    );
    let queues = place.run(&["queues", "--json"]);
    let queues: Value =
        serde_json::from_str(&queues.out).unwrap_or_else(|_| panic!("{}", queues.err));
    let rows = queues["rows"].as_array().unwrap();
    let frames = rows
        .iter()
        .map(|r| (r["port"].as_u64().unwrap(), r["frames"].as_u64().unwrap()));
    let expected: Vec<_> = (0..32).map(|port| (port, 16)).collect();
    assert_eq!(frames.collect::<Vec<_>>(), expected, "{queues:#}");
}

/// What devices and pools say of themselves is in the recording once a second, with its time: frames grow, and a pool from
/// which a program keeps frames runs dry.
#[test]
fn devices_over_time() {
    or_leave_out!();
    let place = Place::new();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dpdk/forward.c");
    let line = format!("cc -O2 -w -o keeps '{source}' $(pkg-config --cflags --libs libdpdk)");
    let built = Command::new("sh")
        .args(["-c", &line])
        .current_dir(place.path(""))
        .status()
        .unwrap();
    if !built.success() {
        eprintln!("left out: apt-get install libdpdk-dev");
        return;
    }
    let mut command = place.bypassprof(&["record", "--dpdk", "--", "./keeps"]);
    command.args(EAL).arg(format!(
        "--file-prefix=bypassprof-keeps-{}",
        std::process::id()
    ));
    command.args([
        "--vdev",
        "net_null0",
        "--vdev",
        "net_null1",
        "--",
        "3.5",
        "200",
    ]);
    let run = Run::of(&mut command);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let reader = Reader::open(&place.path("bypassprof.mcap")).unwrap();
    let devices = &reader.meta().devices;
    assert!(devices.len() >= 3, "{devices:?}");
    let (mut last, mut fullest, mut seen) = (None, 0, 0);
    for device in devices {
        // The first may be from before the program had started a port and could be asked for its pool.
        let pool = device.pools.iter().find(|p| p.name == "frames");
        let (Some(port), Some(free)) = (device.ports.first(), pool.and_then(|p| p.free)) else {
            assert!(seen == 0, "{devices:?}");
            continue;
        };
        let counter = |name: &str| {
            let named = port.counters.iter().find(|c| c.0 == name);
            named.unwrap_or_else(|| panic!("no {name}: {device:?}")).1
        };
        assert_eq!((counter("imissed"), counter("rx_nombuf")), (0, 0));
        let frames = counter("ipackets");
        if let Some((time, before, more)) = last {
            assert!(
                device.time > time && frames > before && free <= more,
                "{devices:?}"
            );
        }
        last = Some((device.time, frames, free));
        fullest = fullest.max(free);
        seen += 1;
    }
    assert!(seen >= 2, "{devices:?}");
    // It keeps frames for the first two seconds only.
    assert!(last.is_some_and(|l| l.2 < fullest), "{devices:?}");
    let queues = place.run(&["queues", "--json"]);
    let queues: Value = serde_json::from_str(&queues.out).unwrap();
    let pools = queues["pools"].as_array().unwrap();
    let pool = pools
        .iter()
        .find(|p| p["last"]["name"] == "frames")
        .unwrap();
    assert_eq!(pool["fewest_free"].as_u64(), last.map(|l| l.2), "{pool:#}");
}
