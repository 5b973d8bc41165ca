//! Parts of a recording: what `--window`, `--thread`, `--cpu` and `--flow` leave, and what they say when that is nothing.

use crate::compare::run::{LOAD, Load, records, write, write_records};
use crate::support::{Place, Run};
use crate::traffic::{self, PID, THREADS, Traffic};
use bypassprof::trace::record::{CounterValue, Counters, Meta};
use bypassprof::units::Nanos;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;
use std::sync::OnceLock;

/// Made once: a moment of four threads, one on each CPU.
fn recording() -> &'static Place {
    static PLACE: OnceLock<Place> = OnceLock::new();
    PLACE.get_or_init(|| {
        let place = Place::new();
        let traffic = Traffic {
            events: 100_000,
            samples: 1_000,
            flows: 300,
            ..Traffic::default()
        };
        traffic::write(&place.path("bypassprof.mcap"), traffic).unwrap();
        place
    })
}

fn json(args: &[&str]) -> Value {
    let run = run(args);
    assert_eq!(run.code, Some(0), "{args:?}: {}", run.err);
    serde_json::from_str(&run.out).unwrap()
}

fn run(args: &[&str]) -> Run {
    let (command, rest) = args.split_first().unwrap();
    recording().run(&[&[*command, "--json"], rest].concat())
}

fn cycles(ledger: &Value) -> f64 {
    ledger["accounts"][0]["cycles"].as_f64().unwrap()
}

/// Windows that make up the whole recording hold all of its requests and cycles, each once.
#[test]
fn windows_add_up() {
    let parts = ["..2ms", "0.002..0.005", "5ms.."];
    let whole = json(&["spans"]);
    let requests = |v: &Value| v["requests"].as_u64().unwrap();
    let of_parts = parts.map(|w| json(&["spans", "--window", w]));
    assert!(of_parts.iter().all(|p| requests(p) > 0));
    assert_eq!(of_parts.iter().map(requests).sum::<u64>(), requests(&whole));
    let bursts = |v: &Value| v["bursts"][0]["count"].as_u64().unwrap();
    assert_eq!(of_parts.iter().map(bursts).sum::<u64>(), bursts(&whole));

    let whole = json(&["ledger"]);
    let of_parts = parts.map(|w| json(&["ledger", "--window", w]));
    let sum: f64 = of_parts.iter().map(cycles).sum();
    assert!((sum - cycles(&whole)).abs() < 8.0, "{sum} of {whole}");
    let counted: u64 = of_parts.iter().map(requests).sum();
    assert!(
        counted.abs_diff(requests(&whole)) <= 8,
        "{counted} of {}",
        requests(&whole)
    );
    let line = "only window 0.002s..0.005s";
    assert_eq!(of_parts[1]["trust"]["filtered"], line);
}

/// A thread by name, number or pattern, and the CPU that it has to itself, leave the same.
#[test]
fn threads_and_cpus() {
    let name = THREADS[1];
    let by_name = json(&["report", "--thread", name]);
    assert_eq!(by_name["threads"].as_array().unwrap().len(), 1);
    assert_eq!(by_name["threads"][0]["name"], name);
    let total: f64 = by_name["functions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["self_share"].as_f64().unwrap())
        .sum();
    assert!(
        (total - 1.0).abs() < 1e-6,
        "shares are of what is left: {total}"
    );
    let number = (PID + 1).to_string();
    for args in [["--thread", &number], ["--thread", "rtc*1"]] {
        let same = json(&[&["report"], &args[..]].concat());
        assert_eq!(same["functions"], by_name["functions"], "{args:?}");
    }
    let of_cpu = json(&["report", "--cpu", "1"]);
    assert_eq!(of_cpu["functions"], by_name["functions"]);
    assert_eq!(of_cpu["threads"].as_array().unwrap().len(), 1);
    assert_eq!(
        of_cpu["threads"][0]["off_cpu_share"], 0.0,
        "what is blocked is on no CPU"
    );
    assert!(by_name["threads"][0]["off_cpu_share"].as_f64().unwrap() > 0.0);

    let all = json(&["spans"])["requests"].as_u64().unwrap();
    let sum: u64 = ["0", "1", "3"]
        .iter()
        .map(|cpu| json(&["spans", "--cpu", cpu])["requests"].as_u64().unwrap())
        .sum();
    assert!(
        sum <= all && all - sum < all / 20,
        "{sum} of {all}: all but those before a thread was seen on its CPU"
    );
    let two = json(&["spans", "--thread", "rtc-*"])["requests"]
        .as_u64()
        .unwrap();
    let one = json(&["spans", "--thread", "app"])["requests"]
        .as_u64()
        .unwrap();
    assert_eq!(two + one, all);
}

/// The requests of one flow, by the label that timelines print.
#[test]
fn flows() {
    let slowest = json(&["spans", "--show", "1"]);
    let flow = slowest["slowest"][0]["flow"].as_str().unwrap().to_owned();
    let of_flow = json(&["spans", "--flow", &flow, "--show", "1000"]);
    let list = of_flow["slowest"].as_array().unwrap();
    assert_eq!(list.len() as u64, of_flow["requests"].as_u64().unwrap());
    assert!(list.iter().all(|r| r["flow"] == flow.as_str()));
    assert_eq!(list[0], slowest["slowest"][0]);
}

/// What threads did for one flow's requests: its requests and no others, and no more time than those took.
#[test]
fn time_of_flows() {
    let shown = json(&["spans", "--show", "1"]);
    let flow = shown["slowest"][0]["flow"].as_str().unwrap();
    let of_flow = json(&["spans", "--flow", flow, "--show", "1000"]);
    let list = of_flow["slowest"].as_array().unwrap();
    let total: f64 = list.iter().map(|r| r["total_ns"].as_f64().unwrap()).sum();
    let one = json(&["ledger", "--flow", flow]);
    assert_eq!(one["requests"], of_flow["requests"]);
    // Two of its requests in one burst share a part of their time.
    let time = cycles(&one) * one["ns_per_cycle"].as_f64().unwrap();
    assert!(
        (0.5..1.001).contains(&(time / total)),
        "{time} of {total} ns"
    );
    let line = format!(
        "only what threads did for {} requests of flow {flow}",
        one["requests"]
    );
    for command in ["ledger", "report", "explain"] {
        let told = json(&[command, "--flow", flow]);
        assert_eq!(told["trust"]["filtered"], line.as_str(), "{command}");
    }
}

/// Two recordings of which all is known: the second's application takes longer.
fn two() -> Place {
    let place = Place::new();
    let load = Load {
        requests: 2_000,
        ..LOAD
    };
    write(&place.path("a.mcap"), &load);
    let slower = Load {
        seed: 2,
        app: LOAD.app + 4_000,
        acks: 1,
        ..load
    };
    write(&place.path("b.mcap"), &slower);
    place
}

fn asked(place: &Place, args: &[&str]) -> Value {
    let run = place.run(args);
    assert_eq!(run.code, Some(0), "{args:?}: {}", run.err);
    serde_json::from_str(&run.out).unwrap()
}

fn parts<'a>(of: &'a Value, what: &str) -> impl Iterator<Item = f64> + 'a {
    let key = what.to_owned();
    let rows = of.as_array().unwrap().iter();
    rows.map(move |row| row[&key].as_f64().unwrap())
}

/// The slowest requests of two recordings, and one flow's: work and latency are theirs, and so are the contributions,
/// which add up to the gaps; one thread does nothing but these requests while they are on their way.
#[test]
fn some_requests_of_two() {
    let place = two();
    let both = ["a.mcap", "b.mcap", "--json"];
    let all = asked(&place, &[&["compare"], &both[..]].concat());
    for (filter, least, most) in [
        (&["--slowest", "10%"][..], 0.08, 0.13),
        (&["--flow", "64"], 0.22, 0.28),
        (
            &["--flow", "64", "--flow", "65", "--slowest", "10%"],
            0.04,
            0.07,
        ),
    ] {
        let some = asked(&place, &[&["compare"], &both[..], filter].concat());
        for side in ["a", "b"] {
            let share = some[side]["told_requests"].as_f64().unwrap()
                / all[side]["told_requests"].as_f64().unwrap();
            assert!((least..most).contains(&share), "{filter:?}: {share}");
            // The load is the whole program's.
            assert_eq!(
                some[side]["requests_per_second"],
                all[side]["requests_per_second"]
            );
            let work: f64 = parts(&some["contributions"], side).sum();
            let no_work: f64 = parts(&some["no_work"], side).sum();
            let way = some["latency"]["gap"][side].as_f64().unwrap();
            assert!(
                ((work + no_work) / way - 1.0).abs() < 0.01,
                "{filter:?}: {some:#}"
            );
            let longer = way / all["latency"]["gap"][side].as_f64().unwrap();
            let is_longer = filter.contains(&"--slowest");
            assert!(if is_longer {
                longer > 1.1
            } else {
                (longer - 1.0).abs() < 0.05
            });
        }
        for (gap, parts_of) in [
            (&some["gap_ns_per_request"], &some["contributions"]),
            (
                &some["latency"]["gap_ns_per_request"],
                &some["latency"]["contributions"],
            ),
        ] {
            let sum: f64 = parts(parts_of, "a")
                .zip(parts(parts_of, "b"))
                .map(|(a, b)| b - a)
                .sum();
            let rest = parts_of.as_array().unwrap().last().unwrap();
            assert_eq!(rest["cause"], "unaccounted");
            assert!(
                (sum - gap.as_f64().unwrap()).abs() < 1.0,
                "{filter:?}: {sum} of {gap}"
            );
        }
        let first = &some["contributions"][0];
        assert_eq!(first["cause"], "app", "{filter:?}: {some:#}");
        let counted = some["per_request"].as_array().unwrap().iter();
        let times: Vec<_> = counted
            .map(|c| (c["name"].as_str().unwrap(), c["b"].as_f64().unwrap()))
            .collect();
        for name in ["rx_bursts", "tx_bursts", "data_segments", "ack_segments"] {
            let one = times.iter().find(|t| t.0 == name).unwrap().1;
            assert!((one - 1.0).abs() < 0.01, "{filter:?}: {name} {one}");
        }
        let why = asked(&place, &[&["explain"], &both[..], filter].concat());
        assert_eq!(
            why["pairs"][0]["gaps"][0]["gap"]["by"],
            Value::Null,
            "{why:#}"
        );
    }
    let nobody = place.run(&[
        "compare",
        "a.mcap",
        "b.mcap",
        "--flow",
        "10.0.0.1:*-10.0.0.2:80",
    ]);
    assert_eq!(nobody.code, Some(1), "{}", nobody.out);
    for word in ["a.mcap", "only flow 10.0.0.1:*-10.0.0.2:80", "ADDR:*"] {
        assert!(nobody.err.contains(word), "{word}: {}", nobody.err);
    }
    for picture in [&["--busy", "--per", "request"][..], &["--diff", "b.mcap"]] {
        let args = [
            &["flamegraph", "a.mcap", "--slowest", "10%", "-o", "some.svg"],
            picture,
        ]
        .concat();
        let run = place.run(&args);
        assert_eq!(run.code, Some(0), "{args:?}: {}", run.err);
        assert!(
            run.err.contains("the slowest 10 % of"),
            "{args:?}: {}",
            run.err
        );
    }
    let run = place.run(&[
        "report",
        "--html",
        "p.html",
        "--slowest",
        "10%",
        "a.mcap",
        "b.mcap",
    ]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert_eq!(
        run.err.matches("the slowest 10 % of").count(),
        2,
        "{}",
        run.err
    );
}

/// What is exported of some requests is what the other commands say of them: their samples, and the requests themselves;
/// events lie in their time.
#[test]
fn export_of_some() {
    let place = two();
    for filter in [["--slowest", "10%"], ["--flow", "64"]] {
        let export = |format: &str, output: &str| {
            let run = place.run(
                &[
                    &["export", "a.mcap", "-f", format, "-o", output],
                    &filter[..],
                ]
                .concat(),
            );
            assert_eq!(run.code, Some(0), "{format}: {}", run.err);
            assert!(run.err.contains("only what threads did for"), "{}", run.err);
            run.out
        };
        let report = asked(
            &place,
            &[&["report", "a.mcap", "--json"], &filter[..]].concat(),
        );
        let samples = report["threads"][0]["samples"].as_u64().unwrap();
        assert!(samples > 100, "{report:#}");
        let weights = export("folded", "-");
        let weight = |line: &str| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
        assert_eq!(
            weights.lines().map(weight).sum::<u64>(),
            samples * LOAD.sample_every
        );
        let text = export("perf-script", "-");
        assert_eq!(
            text.lines().filter(|l| l.contains("cpu-clock:")).count() as u64,
            samples
        );
        export("parquet", "tables");
        let rows = |table: &str| -> u64 {
            let mut files = Vec::new();
            parquet_files(&place.path("tables").join(table), &mut files);
            let rows = |file: &std::path::PathBuf| {
                let reader = SerializedFileReader::new(std::fs::File::open(file).unwrap()).unwrap();
                reader.metadata().file_metadata().num_rows() as u64
            };
            files.iter().map(rows).sum()
        };
        let requests = asked(
            &place,
            &[&["spans", "a.mcap", "--json"], &filter[..]].concat(),
        );
        let stages = requests["stages"].as_array().unwrap().iter();
        let stages: u64 = stages.map(|s| s["count"].as_u64().unwrap()).sum();
        let requests = requests["requests"].as_u64().unwrap();
        assert_eq!(rows("samples"), samples);
        assert_eq!(rows("spans"), stages);
        // Of each: burst, segment in, delivery, both ends of the application and of idling, segment out, burst out.
        assert_eq!(rows("events"), 10 * requests);
        std::fs::remove_dir_all(place.path("tables")).unwrap();
        export("perfetto", "some.perfetto-trace");
    }
}

fn parquet_files(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => parquet_files(&path, found),
            false => found.push(path),
        }
    }
}

/// What counters counted in parts of the time adds up, between two readings too.
#[test]
fn counters_of_windows() {
    let place = Place::new();
    let mut counted = records(&LOAD);
    let read = |(ms, value): (u64, u64)| {
        Meta::Counters(Counters {
            time: Nanos::from_ns(1_000_000_000 + ms * 1_000_000),
            values: vec![Some(CounterValue {
                value,
                enabled: ms,
                running: ms,
            })],
        })
    };
    counted.metas.extend([(50, 1_000), (150, 5_000)].map(read));
    write_records(&place.path("bypassprof.mcap"), &counted);
    let value = |window: &str| {
        let stat = asked(&place, &["stat", "--json", "--window", window]);
        stat["counters"][0]["value"].as_f64().unwrap()
    };
    assert_eq!(value("0s.."), 5_000.0);
    assert_eq!((value("..100ms"), value("100ms..")), (3_000.0, 2_000.0));
}

/// A filter that an answer cannot have is refused with the reason and what to try.
#[test]
fn without_a_meaning() {
    for (args, words) in [
        (
            &["queues", "--flow", "64"][..],
            &["--flow", "frames of all flows", "spans --flow"][..],
        ),
        (
            &["queues", "--slowest", "1%"],
            &["--slowest", "one request", "ledger --slowest"],
        ),
        (
            &["queues", "--cpu", "1"],
            &["--cpu", "by thread", "--thread"],
        ),
        (
            &["stat", "--slowest", "1%"],
            &["--slowest", "all requests", "ledger --slowest"],
        ),
        (&["stat", "--thread", "x"], &["--thread", "ledger --thread"]),
        (
            &["stat", "--window", "1s", "--", "true"],
            &["--window", "--duration"],
        ),
    ] {
        let run = recording().run(args);
        assert_eq!(run.code, Some(2), "{args:?}: {run:?}");
        for word in words {
            assert!(run.err.contains(word), "{args:?}: {word}: {}", run.err);
        }
    }
}

/// What cannot be meant or leaves nothing is told with what there is; nothing is printed as an answer.
#[test]
fn refusals() {
    for (args, code, words) in [
        (
            &["report", "--window", "5s..2s"][..],
            2,
            &["--window", "ends before"][..],
        ),
        (&["ledger", "--window", "soon"], 2, &["--window", "2s..5s"]),
        (&["spans", "--flow", "10.0.0.1:80"], 2, &["--flow", "both"]),
        (&["report", "--flow", "1234"], 1, &["only flow 00001234"]),
        (&["report", "--cpu", "x"], 2, &["--cpu"]),
        (
            &["report", "--thread", "nobody"],
            1,
            &["no thread", "rtc-0 100", "app 103"],
        ),
        (&["explain", "--window", "1h.."], 2, &["--window"]),
        (
            &["explain", "--window", "100.."],
            1,
            &["after the end", "0s..0."],
        ),
        (&["report", "--cpu", "99"], 1, &["only cpu 99", "4 CPUs"]),
        (&["spans", "--flow", "12345"], 1, &["only flow 00012345"]),
    ] {
        let run = run(args);
        assert_eq!(run.code, Some(code), "{args:?}: {run:?}");
        assert_eq!(run.out, "", "{args:?}");
        for word in words {
            assert!(run.err.contains(word), "{args:?}: {word}: {}", run.err);
        }
    }
}
