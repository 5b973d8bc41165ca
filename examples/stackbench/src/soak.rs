//! Long load while recording, or with the flight recorder alone: what grows besides the recording, and does a request cost
//! more in the end?
//!
//! In: a server, minutes; out: the sizes of everything that must stay as it is, early and late, and failure if one of
//! them grew; with the flight recorder also the server's work for a request in each sixth of the time.

use crate::Failure;
use crate::load::Load;
use crate::programs::Programs;
use crate::progress::Progress;
use crate::server::Server;
use crate::site::{Site, Stack};
use crate::stop::Stop;
use netlab::Lab;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Arguments of `soak`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Server to load
    #[arg(long, value_enum, default_value = "fstack")]
    stack: Stack,
    /// Minutes of load
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,
    /// Connections, closed loop
    #[arg(long, default_value_t = 64)]
    connections: u32,
    /// No recorder: the server keeps its newest events by itself
    #[arg(long, conflicts_with = "out")]
    flight: bool,
    /// Where the recording goes while it lasts
    #[arg(long, default_value = "target/soak.mcap")]
    out: PathBuf,
}

/// Load is put on in pieces, with a look at all sizes after each.
const PIECE: Duration = Duration::from_secs(10);
/// What a size may vary by.
const SLACK_KIB: u64 = 4096;
/// Parts of the time whose cost is told apart.
const PARTS: usize = 6;

/// Sizes in KiB.
#[derive(Clone, Copy, Debug, Default)]
struct Sizes {
    server: u64,
    recorder: u64,
    rings: u64,
    recording: u64,
}

/// Loads.
pub fn run(args: &Args) -> Result<(), Failure> {
    let stop = Stop::on_signals()?;
    let programs = Programs::ready()?;
    let lab = Lab::new()?;
    let site = Site::new(&lab, args.stack)?;
    let session = args.flight.then(Session::new).transpose()?;
    let server = match &session {
        Some(session) => {
            let mut command = site.server.command(&programs.httpd);
            command.args(site.httpd_arguments());
            command.env("BYPASSPROF_FLIGHT", "64M");
            command.env("BYPASSPROF_SESSION", &session.0);
            Server::start("httpd with its flight recorder", command, &stop)?
        }
        None => {
            let mut command = site.server.command(&programs.bypassprof);
            command.arg("record").arg("-o").arg(&args.out).arg("--");
            command.arg(&programs.httpd).args(site.httpd_arguments());
            Server::start("httpd under record", command, &stop)?
        }
    };
    let load = Load::closed(args.connections, PIECE);
    let pieces = (args.minutes * 60).div_ceil(PIECE.as_secs());
    let progress = Progress::new(PIECE * pieces as u32);
    let (mut sizes, mut works) = (Vec::new(), Vec::new());
    let mut requests = 0;
    for piece in 0..pieces {
        progress.step(&format!("{requests} requests, piece {piece} of {pieces}"));
        let before = args.flight.then(|| server.totals(&stop)).transpose()?;
        let figures = load.run(&programs, &site, &stop)?;
        if let Some(before) = before {
            works.extend(server.totals(&stop)?.work_since(before));
        }
        if figures.errors > 0 {
            return Err(Failure::Wrong(format!("{} errors", figures.errors)));
        }
        requests += figures.requests;
        sizes.push(match &session {
            Some(session) => Sizes {
                server: resident(server.pid()),
                rings: below(&session.0),
                ..Sizes::default()
            },
            None => look(server.pid(), &args.out),
        });
    }
    progress.done();
    server.end()?;
    if let Some(session) = &session {
        session.is_empty()?;
    }
    let last = sizes.last().copied().unwrap_or_default();
    // The first minute may still fill pools and caches.
    let early = sizes.get(5).copied().unwrap_or(last);
    println!("{requests} requests; KiB after a minute, KiB at the end");
    let mut grown = Vec::new();
    for (what, early, last) in [
        ("server, resident", early.server, last.server),
        ("recorder, resident", early.recorder, last.recorder),
        ("rings in /dev/shm", early.rings, last.rings),
    ] {
        println!("{what:<20} {early:>10} {last:>10}");
        if last > early + SLACK_KIB {
            grown.push(what);
        }
    }
    match args.flight {
        true => tell_work(&works),
        false => println!(
            "{:<20} {:>10} {:>10}",
            "recording", early.recording, last.recording
        ),
    }
    if grown.is_empty() {
        Ok(())
    } else {
        Err(Failure::Wrong(format!("grew: {}", grown.join(", "))))
    }
}

/// Prints what a request cost in each part of the time. It is no verdict: what other programs take of the server's CPU is
/// in it. `cargo bench --bench flight` has a floor beside it, and judges.
fn tell_work(works: &[f64]) {
    let part = works.len().div_ceil(PARTS).max(1);
    let means = works
        .chunks(part)
        .map(|w| w.iter().sum::<f64>() / w.len() as f64);
    let shown: Vec<String> = means.map(|ns| format!("{ns:.0}")).collect();
    println!("work for a request, ns, by part: {}", shown.join(" "));
}

/// A directory for a program's rings, gone at the end.
struct Session(PathBuf);

impl Session {
    fn new() -> Result<Session, Failure> {
        let path = PathBuf::from(format!("/dev/shm/bypassprof-soak-{}", std::process::id()));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|source| Failure::Write {
            path: path.display().to_string(),
            source,
        })?;
        Ok(Session(path))
    }

    /// A program that ended well leaves nothing.
    fn is_empty(&self) -> Result<(), Failure> {
        let left = fs::read_dir(&self.0).map_or(0, Iterator::count);
        match left {
            0 => Ok(()),
            left => Err(Failure::Wrong(format!(
                "{left} files were left in {}",
                self.0.display()
            ))),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // If it is gone already, so much the better.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn look(recorder: u32, recording: &Path) -> Sizes {
    let children = fs::read_to_string(format!("/proc/{recorder}/task/{recorder}/children"));
    let child = children.ok().and_then(|c| c.trim().parse().ok());
    Sizes {
        server: child.map_or(0, resident),
        recorder: resident(recorder),
        rings: in_shared_memory(),
        recording: fs::metadata(recording).map_or(0, |m| m.len() / 1024),
    }
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}

/// KiB of all files below a directory.
fn below(path: &Path) -> u64 {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|e| match e.metadata() {
            Ok(m) if m.is_dir() => below(&e.path()),
            Ok(m) => m.len() / 1024,
            Err(_) => 0,
        })
        .sum()
}

/// KiB of all that probes and recorders keep in shared memory.
fn in_shared_memory() -> u64 {
    let entries = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    let ours = entries.filter(|e| e.file_name().to_string_lossy().starts_with("bypassprof"));
    ours.map(|e| below(&e.path())).sum()
}
