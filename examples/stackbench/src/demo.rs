//! `cargo demo`: every server recorded under two loads, pictures and a page of them.
//!
//! In: a folder; out: a recording and two flame graphs for each run, `index.html`, a table on stdout.

use crate::Failure;
use crate::load::{Figures, Load};
use crate::page;
use crate::programs::Programs;
use crate::progress::Progress;
use crate::server::Server;
use crate::site::{Site, Stack};
use crate::stop::Stop;
use netlab::Lab;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder for recordings, pictures and the page
    #[arg(long, default_value = "target/demo")]
    out: PathBuf,
    /// Servers to record
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Stack::SIX)]
    stacks: Vec<Stack>,
    /// Seconds of load for each run
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
}

const CONNECTIONS: [u32; 2] = [1, 64];
/// Starting, warming up, ending and drawing, besides the load itself.
const AROUND: Duration = Duration::from_secs(4);

/// One server under one load, recorded.
pub struct Run {
    /// The server.
    pub stack: Stack,
    /// Connections of the load.
    pub connections: u32,
    /// What the client saw.
    pub figures: Figures,
    /// `bypassprof report --json`.
    pub report: Value,
    /// Start of its files' names.
    pub stem: String,
}

/// Runs the demo.
pub fn run(args: &Args) -> Result<(), Failure> {
    let stop = Stop::on_signals()?;
    let programs = Programs::ready();
    // Ctrl-C ends a build as well; then it is no failure of the build.
    stop.check()?;
    let programs = programs?;
    let lab = Lab::new()?;
    let write = |source| Failure::Write {
        path: args.out.display().to_string(),
        source,
    };
    fs::create_dir_all(&args.out).map_err(write)?;
    let load = Duration::from_secs(args.seconds);
    let count = (args.stacks.len() * CONNECTIONS.len()) as u32;
    let progress = Progress::new((load + AROUND) * count);
    let (mut runs, mut failed) = (Vec::new(), Vec::new());
    for &stack in &args.stacks {
        for connections in CONNECTIONS {
            let s = if connections == 1 { "" } else { "s" };
            progress.step(&format!(
                "{} of {count}: {}, {connections} connection{s}",
                runs.len() + failed.len() + 1,
                stack.name()
            ));
            let load = Load::closed(connections, load);
            match record(&lab, &programs, stack, load, &args.out, &stop) {
                Ok(run) => runs.push(run),
                Err(failure) => {
                    // After Ctrl-C nothing is worth going on with; otherwise the other servers are.
                    stop.check()?;
                    failed.push(format!(
                        "{}, {connections} connection{s}: {failure}",
                        stack.name()
                    ));
                }
            }
        }
    }
    progress.done();
    page::write(&args.out, &runs, lab.kernel_seen()).map_err(write)?;
    print!("{}", page::table(&runs, lab.kernel_seen()));
    if !lab.kernel_seen() {
        println!(
            "kernel not seen: without root this runs in a user namespace, inside which perf sees no kernel code"
        );
    }
    println!("\n{}", args.out.join("index.html").display());
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::Wrong(format!(
        "not recorded: {}",
        failed.join("; ")
    )))
}

fn record(
    lab: &Lab,
    programs: &Programs,
    stack: Stack,
    load: Load,
    out: &Path,
    stop: &Stop,
) -> Result<Run, Failure> {
    let site = Site::new(lab, stack)?;
    let stem = format!("{}-{}", stack.name(), load.connections);
    let recording = out.join(format!("{stem}.mcap"));
    let mut command = site.server.command(&programs.bypassprof);
    command.arg("record").arg("-o").arg(&recording).arg("--");
    command.arg(&programs.httpd).args(site.httpd_arguments());
    let log = out.join(format!("{stem}.log"));
    let log_file = fs::File::create(&log).map_err(|source| Failure::Write {
        path: log.display().to_string(),
        source,
    })?;
    command.stderr(Stdio::from(log_file));
    let server = Server::start(&format!("httpd --stack {}", stack.name()), command, stop);
    let server = server.inspect_err(|_| show(&log))?;
    let figures = load.run(programs, &site, stop)?;
    server.end().inspect_err(|_| show(&log))?;
    let tool = |words: &[&str]| -> Result<String, Failure> {
        stop.check()?;
        let mut command = Command::new(&programs.bypassprof);
        command.arg(words[0]).arg(&recording).args(&words[1..]);
        let done = command.stdin(Stdio::null()).output();
        let done = done.map_err(|e| Failure::Wrong(format!("cannot run bypassprof: {e}")))?;
        stop.check()?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr).trim_end().to_string();
            return Err(Failure::Wrong(said));
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    };
    let picture = |end: &str| out.join(format!("{stem}{end}")).display().to_string();
    tool(&["flamegraph", "-o", &picture(".svg")])?;
    // A server that was asked nothing has no useful work to draw; the page then has one picture less.
    let busy = picture("-busy.svg");
    let _ = fs::remove_file(&busy);
    let _ = tool(&["flamegraph", "--busy", "-o", &busy]);
    let report = tool(&["report", "--json"])?;
    let report = serde_json::from_str(&report)
        .map_err(|e| Failure::Wrong(format!("bypassprof report --json: {e}")))?;
    Ok(Run {
        stack,
        connections: load.connections,
        figures,
        report,
        stem,
    })
}

/// What the recorder and the server had to say, when it went wrong.
fn show(log: &Path) {
    eprintln!(
        "\n{}",
        fs::read_to_string(log).unwrap_or_default().trim_end()
    );
}
