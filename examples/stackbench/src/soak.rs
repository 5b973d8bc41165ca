//! Long load while recording: what grows besides the recording?
//!
//! In: a server, minutes; out: the sizes of everything that must stay as it is, early and late, and failure if one of
//! them grew.

use crate::Failure;
use crate::load::Load;
use crate::programs::Programs;
use crate::progress::Progress;
use crate::server::Server;
use crate::site::{Site, Stack};
use crate::stop::Stop;
use netlab::Lab;
use std::fs;
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
    /// Where the recording goes while it lasts
    #[arg(long, default_value = "target/soak.mcap")]
    out: PathBuf,
}

/// Load is put on in pieces, with a look at all sizes after each.
const PIECE: Duration = Duration::from_secs(10);
/// What a size may vary by.
const SLACK_KIB: u64 = 4096;

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
    let mut command = site.server.command(&programs.bypassprof);
    command.arg("record").arg("-o").arg(&args.out).arg("--");
    command.arg(&programs.httpd).args(site.httpd_arguments());
    let server = Server::start("httpd under record", command, &stop)?;
    let load = Load::closed(args.connections, PIECE);
    let pieces = (args.minutes * 60).div_ceil(PIECE.as_secs());
    let progress = Progress::new(PIECE * pieces as u32);
    let mut sizes = Vec::new();
    let mut requests = 0;
    for piece in 0..pieces {
        progress.step(&format!("{requests} requests, piece {piece} of {pieces}"));
        let figures = load.run(&programs, &site, &stop)?;
        if figures.errors > 0 {
            return Err(Failure::Wrong(format!("{} errors", figures.errors)));
        }
        requests += figures.requests;
        sizes.push(look(server.pid(), &args.out));
    }
    progress.done();
    server.end()?;
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
    println!(
        "{:<20} {:>10} {:>10}",
        "recording", early.recording, last.recording
    );
    if grown.is_empty() {
        Ok(())
    } else {
        Err(Failure::Wrong(format!("grew: {}", grown.join(", "))))
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

/// KiB of all that probes and recorders keep in shared memory.
fn in_shared_memory() -> u64 {
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
    let entries = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    let ours = entries.filter(|e| e.file_name().to_string_lossy().starts_with("bypassprof"));
    ours.map(|e| below(&e.path())).sum()
}
