//! The demikernel row: a program of its own, `httpd-demikernel`, which takes this one's place.
//!
//! In: the command line; out: the same as arguments of that program, in this process. It is apart because crate
//! `demikernel` names the allocator of the whole program, which would change every other row.

mod options;

use crate::place::Place;
pub use options::DemikernelOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAM: &str = "httpd-demikernel";

/// Why the other program did not take over.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Where this program is.
    #[error(
        "--stack demikernel: cannot tell where this program is, to find {PROGRAM} beside it: {0}"
    )]
    Self_(io::Error),
    /// It was not built.
    #[error(
        "--stack demikernel: {} is not there; build it: cargo build -p {PROGRAM} (with --release, if this program was)",
        .0.display()
    )]
    NotBuilt(PathBuf),
    /// The kernel refused.
    #[error("--stack demikernel: cannot run {}: {}", .0.display(), .1)]
    Exec(PathBuf, io::Error),
}

/// Runs the server in this process's place; returns only if that fails.
pub fn exec(place: &Place, body: usize, options: &DemikernelOptions) -> Error {
    let program = match std::env::current_exe() {
        Ok(own) => beside(&own),
        Err(error) => return Error::Self_(error),
    };
    let error = Command::new(&program)
        .args(["--listen", &place.listen.to_string()])
        .args(["--dev", &place.device.to_string()])
        .args(["--body", &body.to_string()])
        .args([
            "--demikernel-connections",
            &options.demikernel_connections.to_string(),
        ])
        .args(["--demikernel-piece", &options.demikernel_piece.to_string()])
        .args([
            "--demikernel-pushes",
            &options.demikernel_pushes.to_string(),
        ])
        .args(["--demikernel-wait", &options.demikernel_wait])
        .exec();
    match error.kind() {
        io::ErrorKind::NotFound => Error::NotBuilt(program),
        _ => Error::Exec(program, error),
    }
}

fn beside(own: &Path) -> PathBuf {
    own.with_file_name(PROGRAM)
}
