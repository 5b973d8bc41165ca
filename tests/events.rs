//! Events in perf's notation are asked of the kernel just as perf asks for them: `tests/data/attrs.txt` holds what perf
//! passed for each of these texts on the machine of `tests/data/machine`, and where perf is installed it is asked again.
//! `BLESS=1` writes the file from perf's answers.

use crate::support::Run;
use bypassprof::collect::events::{Group, Machine};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The texts: every kind of event with every kind of modifier.
const EVENTS: &[&str] = &[
    "cycles",
    "cpu-cycles",
    "instructions",
    "cache-references",
    "cache-misses",
    "branches",
    "branch-instructions",
    "branch-misses",
    "bus-cycles",
    "stalled-cycles-frontend",
    "idle-cycles-backend",
    "ref-cycles",
    "cpu-clock",
    "task-clock",
    "page-faults",
    "faults",
    "context-switches",
    "cs",
    "cpu-migrations",
    "migrations",
    "minor-faults",
    "major-faults",
    "alignment-faults",
    "emulation-faults",
    "dummy",
    "bpf-output",
    "cgroup-switches",
    "cycles:u",
    "cycles:k",
    "cycles:h",
    "cycles:uk",
    "cycles:ukh",
    "cycles:G",
    "cycles:H",
    "cycles:GH",
    "cycles:I",
    "cycles:uI",
    "cycles:p",
    "cycles:pp",
    "cycles:ppp",
    "cycles:S",
    "cycles:D",
    "cycles:e",
    "cycles:W",
    "cycles:pu",
    "cycles:kp",
    "cycles:kH",
    "cycles:uG",
    "cycles:kI",
    "cycles:De",
    "cycles:ukhGHI",
    "cs:u",
    "faults:k",
    "L1-dcache-loads",
    "L1-dcache-load-misses:u",
    "L1-dcache-stores",
    "L1-icache-load-misses",
    "L1-dcache",
    "L1-dcache-prefetch-misses",
    "L1-dcache-misses-loads",
    "LLC-loads",
    "LLC-store-misses:k",
    "dTLB-loads",
    "dTLB-load-misses",
    "dTLB-store-misses",
    "iTLB-load-misses",
    "branch-loads",
    "branch-load-misses",
    "node-loads",
    "node-prefetch-misses",
    "L2-load",
    "l1d-loads",
    "bpu-load-misses",
    "r1a8",
    "rabc123",
    "r1a8:k",
    "r3c:upp",
    "rffffffffffffffff",
    "4:0x3c",
    "1:0x0",
    "0:1:u",
    "3:0x10000",
    "mem:0x1000",
    "mem:0x1000:rw",
    "mem:0x1000/4:w",
    "mem:0x1000/8:r:u",
    "mem:0x1000:x",
    "cpu/event=0x3c,umask=0x1/",
    "cpu/event=0x3c,umask=0x1/u",
    "cpu/event=60,edge,cmask=1/pp",
    "cpu/slow-loads/pp",
    "cpu/slow-loads/",
    "cpu/edges/k",
    "cpu/split=0xa5/",
    "cpu/far=0xff,event=1/",
    "cpu/r1a8/",
    "cpu/config=0x100,event=0x3c/",
    "cpu/config=1,config1=2,config2=3/",
    "cpu/retired,cmask=2/H",
    "cpu/cmask=2,retired/",
    "cpu//",
    "cpu/event=0xc0,name=mine/k",
    "cpu/offcore_rsp=0x3fbfc00001,event=0xb7,umask=1/",
    "cpu/frontend=0x400106,event=0xc6,umask=1/ppu",
    "cpu/in_tx,event=0xc0/",
    "retired",
    "data_reads",
    "uncore_imc/data_reads/",
    "imc/event=1/",
    "uncore_imc_1/event=4,umask=3/",
    "power/energy-pkg/",
    "msr/tsc/",
    "msr/event=2/",
    "tsc",
    "smi",
    "cycles//",
    "cycles//u",
    "cycles/name=abc/u",
    "cpu-clock/config=3/",
    "software/config=2/",
    "uprobe/retprobe/",
    "uprobe/retprobe=1,ref_ctr_offset=5/",
    "net:netif_rx",
    "net:netif_receive_skb:u",
    "net:netif_*",
    "{cs,faults}",
    "{cs,faults}:u",
    "{cs:u,faults:k}",
    "{cs:k,faults}:u",
    "{cs,faults:u}:D",
    "{cs,faults}:W",
    "mine{cs,faults,cpu-clock}:H",
    "cs,faults",
    "cs,{faults,migrations},cpu-clock:u",
    "{net:netif_rx,cs}:I",
];

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

fn machine() -> Machine {
    Machine::at(&data("machine/sys"), Some(data("machine/trace")))
}

/// The fields of an attr that say what is counted, as perf prints them.
const FIELDS: &[&str] = &[
    "type",
    "config",
    "config1",
    "config2",
    "bp_type",
    "precise_ip",
    "pinned",
    "exclusive",
    "exclude_user",
    "exclude_kernel",
    "exclude_hv",
    "exclude_host",
    "exclude_guest",
    "exclude_idle",
];

/// One event: its fields that are not 0, and whether it follows a leader.
fn line(values: &[(&str, u64)], follows: bool) -> String {
    let mut text = String::new();
    for field in FIELDS {
        let value = values.iter().find(|v| v.0 == *field).map_or(0, |v| v.1);
        if value > 0 {
            write!(text, " {field}={value:#x}").unwrap();
        }
    }
    text + if follows { " member" } else { "" }
}

/// What we ask for.
fn ours(text: &str) -> Vec<String> {
    let groups = machine().encode(text).unwrap_or_else(|e| panic!("{e}"));
    let of_group = |group: Group| {
        let events = group.events.into_iter().enumerate();
        let shown = events.map(|(at, event)| {
            let (words, exclude) = (event.set.words, event.exclude);
            let values = [
                ("type", u64::from(event.set.ty)),
                ("config", words.config),
                ("config1", words.config1),
                ("config2", words.config2),
                ("bp_type", u64::from(event.set.breakpoint)),
                ("precise_ip", u64::from(event.precise)),
                ("pinned", event.pinned.into()),
                ("exclusive", event.exclusive.into()),
                ("exclude_user", exclude.user.into()),
                ("exclude_kernel", exclude.kernel.into()),
                ("exclude_hv", exclude.hypervisor.into()),
                ("exclude_host", exclude.host.into()),
                ("exclude_guest", exclude.guest.into()),
                ("exclude_idle", exclude.idle.into()),
            ];
            line(&values, group.braced && at > 0)
        });
        shown.collect::<Vec<_>>()
    };
    sorted(groups.into_iter().flat_map(of_group).collect())
}

/// PMUs of one family come in any order.
fn sorted(mut lines: Vec<String>) -> Vec<String> {
    if lines.iter().all(|l| !l.contains("member")) {
        lines.sort();
    }
    lines
}

/// What perf asks for; what it tries again with less is left out.
fn perfs(text: &str) -> Option<Vec<String>> {
    let mut perf = Command::new("perf");
    perf.args(["stat", "-vv", "-e", text, "--", "true"])
        .env("SYSFS_PATH", data("machine/sys"))
        .env("TRACEFS_PATH", data("machine/trace"));
    let run = Run::from(perf.output().ok()?);
    let mut lines = Vec::new();
    let mut values: Vec<(String, u64)> = Vec::new();
    let mut again = false;
    for row in run.err.lines().map(str::trim) {
        if row == "perf_event_attr:" {
            values.clear();
        } else if let Some(call) = row.strip_prefix("sys_perf_event_open: ") {
            if !again {
                let values: Vec<_> = values.iter().map(|(k, v)| (k.as_str(), *v)).collect();
                lines.push(line(&values, !call.contains("group_fd -1")));
            }
            again = false;
        } else if row.ends_with("error -22") || row.ends_with("error -95") {
            again = true;
        } else if let Some((key, value)) = row.rsplit_once(char::is_whitespace) {
            let key = key.trim().trim_matches(['{', '}']).trim();
            let key = key.rsplit(", ").next().unwrap();
            let number = match value.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16),
                None => value.parse(),
            };
            values.extend(number.map(|n| (key.to_owned(), n)));
        }
    }
    assert!(!lines.is_empty(), "perf on {text}: {}", run.err);
    Some(sorted(lines))
}

fn shown(text: &str, lines: &[String]) -> String {
    format!("{text}\n{}\n", lines.join("\n"))
}

/// The file holds an answer to every text, and ours are the same.
#[test]
fn attrs_are_perfs() {
    assert!(EVENTS.len() >= 100);
    let file = data("attrs.txt");
    if std::env::var_os("BLESS").is_some() {
        let answers: Vec<_> = EVENTS
            .iter()
            .map(|t| shown(t, &perfs(t).unwrap()))
            .collect();
        std::fs::write(&file, answers.concat()).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap();
    let found: String = EVENTS.iter().map(|t| shown(t, &ours(t))).collect();
    for (at, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "line {} of {}", at + 1, file.display());
    }
    assert_eq!(found.lines().count(), expected.lines().count());
}

/// The perf that is installed here says the same as the file.
#[test]
fn perf_still_asks_so() {
    if Run::from(match Command::new("perf").arg("--version").output() {
        Ok(output) => output,
        Err(_) => {
            eprintln!("left out: perf is not installed");
            return;
        }
    })
    .code
        != Some(0)
    {
        eprintln!("left out: perf does not run here");
        return;
    }
    // Each takes perf a moment; every seventh text tells whether the file is of this perf's kind.
    for text in EVENTS.iter().step_by(7) {
        assert_eq!(perfs(text).unwrap(), ours(text), "{text}");
    }
}

/// What cannot be had is named, with the reason and what may have been meant.
#[test]
fn refusals_name_the_reason() {
    for (text, parts) in [
        (
            "cyclse",
            ["there is no event of that name", "is cycles meant?"],
        ),
        (
            "cpu/evnt=1/",
            ["no option and no event evnt", "is event meant?"],
        ),
        ("cpu/event=0x100/", ["event is at most 0xff", ""]),
        ("cpux/event=1/", ["no PMU cpux", "is cpu meant?"]),
        (
            "net:netif_rxx",
            ["there is no such tracepoint", "net:netif_rx"],
        ),
        ("cpu/call-graph=fp/", ["option of perf's recording", ""]),
        ("duration_time", ["told without asking", ""]),
        ("cycles/edge/", ["it has no option edge", ""]),
        ("./no-such-file:main", ["./no-such-file", "No such file"]),
        ("{cycles,cs", ["a comma or `}` is expected", "character 11"]),
        ("cycles:b", ["perf's own", ""]),
    ] {
        let error = machine().encode(text).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{text}: {error}");
        }
    }
    let bare = Machine::at(Path::new("/no/such"), None);
    let error = bare.encode("net:netif_rx").unwrap_err().to_string();
    assert!(error.contains("mount -t tracefs"), "{error}");
}
