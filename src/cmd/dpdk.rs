//! What `record --dpdk` needs: the library to preload, and a word with those whose program it cannot reach.

use super::Failure;
use crate::collect::Tally;
use crate::resolve::{Dpdk, dpdk_of};
use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// The loader's variable.
pub const PRELOAD_VARIABLE: &str = "LD_PRELOAD";
/// Where the library is, if not beside the tool.
const LIBRARY_VARIABLE: &str = "BYPASSPROF_DPDK_LIBRARY";
const LIBRARY: &str = "libbypassprof_dpdk.so";
/// Where it may be, as seen from the tool's directory.
const PLACES: [&str; 4] = ["", "deps", "../lib", "../lib/bypassprof"];

/// What to preload into a command, after a look at its program.
pub fn preload(command: &[OsString]) -> Result<OsString, Failure> {
    let library = library()?;
    let program = command.first().map(|name| found(name)).unwrap_or_default();
    let built_in = |what: &str| {
        Failure::failed(format!(
            "DPDK is built into {}{what}: its calls never leave the program, and --dpdk finds nothing to count",
            program.display()
        ))
    };
    match dpdk_of(&program) {
        Dpdk::Shared | Dpdk::Unknown => {}
        Dpdk::Exported => {
            return Err(built_in(", which lets loaded drivers use it").hint(format!(
                "record without --dpdk and give the program the EAL option `-d {}`",
                library.display()
            )));
        }
        Dpdk::BuiltIn => {
            return Err(built_in("").hint(
                "record without --dpdk; link it with -Wl,--export-dynamic and load the library by the EAL option -d, or call \
                 bypassprof_rx_burst and bypassprof_tx_burst at two places (docs/guide/dpdk.md has both, and uprobes)",
            ));
        }
    }
    // The loader splits at spaces and colons.
    if library.to_string_lossy().contains([' ', ':']) {
        return Err(Failure::failed(format!(
            "{} cannot be preloaded: its path has a space or a colon",
            library.display()
        ))
        .hint(format!("{LIBRARY_VARIABLE} with another path to it")));
    }
    let mut preload = library.into_os_string();
    if let Some(others) = env::var_os(PRELOAD_VARIABLE).filter(|o| !o.is_empty()) {
        preload.push(":");
        preload.push(others);
    }
    Ok(preload)
}

fn library() -> Result<PathBuf, Failure> {
    if let Some(path) = env::var_os(LIBRARY_VARIABLE) {
        let path = PathBuf::from(path);
        return match path.canonicalize() {
            Ok(path) => Ok(path),
            Err(e) => Err(Failure::failed(format!(
                "{LIBRARY_VARIABLE} names {}: {e}",
                path.display()
            ))),
        };
    }
    let tool = env::current_exe().map_err(Failure::failed)?;
    let dir = tool.parent().unwrap_or(Path::new("/"));
    let places = PLACES.iter().map(|place| dir.join(place).join(LIBRARY));
    places
        .filter_map(|p| p.canonicalize().ok())
        .next()
        .ok_or_else(|| {
            Failure::failed(format!("{LIBRARY} is not beside {}", tool.display())).hint(format!(
                "`cargo build -p bypassprof-dpdk`, or {LIBRARY_VARIABLE} with its path"
            ))
        })
}

/// The file that a shell would run.
fn found(name: &OsStr) -> PathBuf {
    let path = PathBuf::from(name);
    if path.components().count() > 1 {
        return path;
    }
    let dirs = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&dirs)
        .map(|dir| dir.join(name))
        .find(|p| p.is_file());
    found.unwrap_or(path)
}

/// After a recording: what the library did not reach.
pub fn say(tally: &Tally) {
    let probes = &tally.probes;
    if !probes.counts_queues {
        eprintln!(
            "  note: no DPDK port was started where {LIBRARY} could see it: no DPDK, DPDK built in, or a \
             program with raised privileges, which preloads nothing"
        );
    }
    if probes.ports_refused > 0 {
        eprintln!(
            "  note: {} ports beyond the 32nd were not counted",
            probes.ports_refused
        );
    }
    if probes.bursts_uncounted > 0 {
        eprintln!(
            "  note: {} bursts were not counted: more threads or queues than there is room for",
            probes.bursts_uncounted
        );
    }
}
