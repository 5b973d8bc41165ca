//! `stackbench rows`: every server over the same kind of link, case by case, in one run and one table.
//!
//! In: rows, cases, how long and how often; out: tables on stdout and in a page, every measurement as a line of JSON,
//! recordings of what properties were read from. Each measurement has a server and a network of its own; repetitions are
//! interleaved, so that what the machine does meanwhile hits all rows alike. A row that is absent, a case that is beyond a
//! stack's limits and a server that fails are told in words and end nothing.

mod case;
mod probes;
mod properties;
mod table;
mod wrk;

use crate::Failure;
use crate::cpus::Cpus;
use crate::facts::{self, Facts};
use crate::limits::allow_descriptors;
use crate::measure::{Bench, Outcome, create};
use crate::parts;
use crate::programs::Programs;
use crate::progress::Progress;
use crate::site::Stack;
use crate::stop::Stop;
use case::Case;
use netlab::Lab;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `rows`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Rows
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Stack::ALL)]
    stacks: Vec<Stack>,
    /// Cases
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Case::ALL)]
    cases: Vec<Case>,
    /// What to do
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Part::Cases, Part::Properties, Part::Probes])]
    parts: Vec<Part>,
    /// Seconds of each measurement (three times as many for large bodies over a bad link)
    #[arg(long, default_value = "1", value_parser = seconds)]
    seconds: Duration,
    /// Measurements of each case
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    repetitions: u32,
    /// Seconds of each run of wrk
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    wrk_seconds: u64,
    /// Folder for recordings and servers' logs
    #[arg(long, default_value = "target/rows")]
    out: PathBuf,
    /// File for every measurement as a line of JSON [default: rows.jsonl in the folder]
    #[arg(long)]
    json: Option<PathBuf>,
    /// Markdown page whose tables are to be replaced
    #[arg(long)]
    page: Option<PathBuf>,
}

/// A part of the study.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The table of cases
    Cases,
    /// Published properties, from recordings
    Properties,
    /// What probes cost each server
    Probes,
    /// wrk at 1, 64 and 1000 connections
    Wrk,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(number) if (0.2..=600.0).contains(&number) => Ok(Duration::from_secs_f64(number)),
        _ => Err("seconds from 0.2 to 600 are possible".to_string()),
    }
}

/// Name and version of the lines of JSON.
const SCHEMA: &str = "bypassprof.stackbench-rows/1";
/// Starting, connecting and ending, besides the load itself.
const AROUND: Duration = Duration::from_millis(700);

/// All that was found.
pub struct Study {
    facts: Facts,
    load_after: f64,
    time: Duration,
    repetitions: u32,
    stacks: Vec<Stack>,
    mtu: u32,
    runs: BTreeMap<(Case, Stack), Vec<Outcome>>,
    properties: Vec<properties::Property>,
    probes: Vec<probes::Cost>,
    wrk: Vec<wrk::Seen>,
}

/// Runs the study.
pub fn run(args: &Args) -> Result<(), Failure> {
    let stop = Stop::on_signals()?;
    let facts = Facts::gather();
    let does = |part| args.parts.contains(&part);
    let programs = Programs::ready();
    // Ctrl-C ends a build as well; then it is no failure of the build.
    stop.check()?;
    let programs = programs?;
    if does(Part::Wrk) && !wrk::installed() {
        return Err(Failure::Wrong(
            "wrk is not installed; apt-get install wrk, or leave it out of --parts".to_string(),
        ));
    }
    let bare = match does(Part::Probes) {
        true => programs.without_probes()?,
        false => None,
    };
    stop.check()?;
    let lab = Lab::new()?;
    allow_descriptors();
    fs::create_dir_all(&args.out).map_err(|source| Failure::Write {
        path: args.out.display().to_string(),
        source,
    })?;
    let bench = Bench {
        lab: &lab,
        programs: &programs,
        stop: &stop,
        cpus: Cpus::own(),
        out: &args.out,
    };
    let json = args.json.clone();
    let json = json.unwrap_or_else(|| args.out.join("rows.jsonl"));
    let mut lines = Lines(create(&json)?, json.display().to_string());
    let mut study = Study {
        facts,
        load_after: 0.0,
        time: args.seconds,
        repetitions: args.repetitions,
        stacks: args.stacks.clone(),
        mtu: mtu(&bench)?,
        runs: BTreeMap::new(),
        properties: Vec::new(),
        probes: Vec::new(),
        wrk: Vec::new(),
    };
    lines.write("study", &study.header())?;
    let progress = Progress::new(length(args));
    if does(Part::Cases) {
        cases(args, &bench, &mut study, &mut lines, &progress)?;
    }
    let present: Vec<_> = study.present();
    if does(Part::Properties) {
        let mut rates = study.rates(Case::Many);
        if rates.is_empty() {
            for &stack in &present {
                progress.step(&format!("rate of {}", stack.name()));
                if let Outcome::Measured(m) =
                    bench.run(stack, &Case::Many.job(stack, args.seconds, 1))?
                {
                    rates.insert(stack, m.figures.requests_per_second);
                }
            }
        }
        let say = |id: &str| progress.step(&format!("property {id}"));
        study.properties = properties::all(&bench, &present, args.seconds, &rates, say)?;
        for property in &study.properties {
            lines.write("property", property)?;
        }
    }
    if does(Part::Probes) {
        let point = probes::off_point_ns();
        for &stack in &present {
            progress.step(&format!("probes of {}", stack.name()));
            let (bare, cycles) = (bare.as_deref(), args.repetitions);
            let cost = probes::measure(&bench, stack, bare, cycles, args.seconds, point)?;
            lines.write("probes", &cost)?;
            study.probes.push(cost);
        }
    }
    if does(Part::Wrk) {
        for connections in wrk::CONNECTIONS {
            for &stack in &present {
                progress.step(&format!("wrk, {connections}: {}", stack.name()));
                let seen = wrk::run(&bench, stack, connections, args.wrk_seconds)?;
                lines.write("wrk", &seen)?;
                study.wrk.push(seen);
            }
        }
    }
    progress.done();
    study.load_after = facts::load();
    let found = table::parts(&study);
    for (_, text) in &found {
        println!("{text}");
    }
    println!("{}", json.display());
    if let Some(page) = &args.page {
        parts::write(page, "rows --page", &found)?;
    }
    Ok(())
}

/// The table's measurements: all rows of a case after each other, in an order that moves on by one each time.
fn cases(
    args: &Args,
    bench: &Bench,
    study: &mut Study,
    lines: &mut Lines,
    progress: &Progress,
) -> Result<(), Failure> {
    let (mut there, mut absent) = (BTreeSet::new(), BTreeSet::new());
    for repetition in 0..args.repetitions {
        for &case in &args.cases {
            for turn in 0..args.stacks.len() {
                let stack = args.stacks[(turn + repetition as usize) % args.stacks.len()];
                let so_far = study.runs.entry((case, stack)).or_default();
                // What was refused once is not asked again.
                let refused = matches!(so_far.last(), Some(Outcome::Refused { .. }));
                if refused || absent.contains(&stack) {
                    continue;
                }
                progress.step(&format!(
                    "repetition {} of {}, {}: {}",
                    repetition + 1,
                    args.repetitions,
                    case.name(),
                    stack.name()
                ));
                let seed = u64::from(repetition) + 1;
                let outcome = bench.run(stack, &case.job(stack, args.seconds, seed))?;
                let outcome = match outcome {
                    // A row that was there before is not absent: it does not start any more.
                    Outcome::Absent { words } if there.contains(&stack) => {
                        Outcome::Failed { words }
                    }
                    outcome => outcome,
                };
                match outcome {
                    Outcome::Absent { .. } => absent.insert(stack),
                    _ => there.insert(stack),
                };
                lines.write(
                    "run",
                    &json!({"stack": stack, "case": case, "repetition": repetition + 1, "run": outcome}),
                )?;
                so_far.push(outcome);
            }
        }
    }
    Ok(())
}

/// The server's end of a link, as all links of the study are.
fn mtu(bench: &Bench) -> Result<u32, Failure> {
    Ok(crate::site::Site::new(bench.lab, Stack::Linux)?.mtu()?)
}

/// About how long it takes.
fn length(args: &Args) -> Duration {
    let one = args.seconds.mul_f64(1.25) + AROUND;
    let stacks = args.stacks.len() as u32;
    let mut total = Duration::ZERO;
    for part in &args.parts {
        total += match part {
            Part::Cases => {
                let long = args.cases.contains(&Case::BadBody1m);
                let long = args.seconds * if long { 2 } else { 0 };
                (one * args.cases.len() as u32 + long) * stacks * args.repetitions
            }
            Part::Properties => (one + AROUND) * stacks * 3,
            Part::Probes => one * stacks * args.repetitions * 4,
            Part::Wrk => (Duration::from_secs(args.wrk_seconds) + AROUND) * stacks * 3,
        };
    }
    total
}

impl Study {
    /// Rows that are there, as far as is known.
    fn present(&self) -> Vec<Stack> {
        let absent = |stack: &Stack| {
            let mut runs = self.runs.iter();
            runs.any(|((_, of), runs)| {
                of == stack && matches!(runs.first(), Some(Outcome::Absent { .. }))
            })
        };
        let all = self.stacks.iter().copied();
        all.filter(|stack| !absent(stack)).collect()
    }

    /// Middle rates of a case.
    fn rates(&self, case: Case) -> BTreeMap<Stack, f64> {
        let rate = |&stack: &Stack| {
            let spread = table::spread(self, case, stack, |m| Some(m.figures.requests_per_second));
            Some((stack, spread?.median))
        };
        self.stacks.iter().filter_map(rate).collect()
    }

    fn header(&self) -> Value {
        json!({
            "machine": self.facts,
            "seconds": self.time.as_secs_f64(),
            "repetitions": self.repetitions,
            "stacks": self.stacks,
            "link": {
                "kind": "veth, client and server in namespaces of their own",
                "server": "AF_PACKET; linux: the kernel's own end",
                "mtu": self.mtu,
                "offloads": "off at every end: checksums, scatter-gather, TSO, GSO, GRO",
            },
        })
    }
}

/// A file with a line of JSON for each thing that was found.
struct Lines(File, String);

impl Lines {
    fn write(&mut self, kind: &str, what: &impl Serialize) -> Result<(), Failure> {
        let line = json!({"schema": SCHEMA, "kind": kind, "value": what});
        writeln!(self.0, "{line}").map_err(|source| Failure::Write {
            path: self.1.clone(),
            source,
        })
    }
}
