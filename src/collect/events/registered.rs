//! A uprobe that tracefs knows, so that threads and processes made later can have it too.
//!
//! In: a program's file and a position in it; out: a tracepoint's number. The kernel hands an event with a uprobe of its own on to
//! a new thread by reading the file's name again, from memory that is the new thread's: it is not there, and the thread is
//! not made (`kernel/events/core.c`, `perf_uprobe_init`). A tracepoint has no name to read. What a recorder that was killed left is
//! taken away by the next one; it costs nobody anything meanwhile.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Systems of this name and a process's number are ours.
const OURS: &str = "bypassprof_";

/// One that is there for as long as this is.
#[derive(Debug, PartialEq, Eq)]
pub struct Registered {
    tracefs: PathBuf,
    /// `SYSTEM/NAME`.
    event: String,
    /// The tracepoint's number.
    pub id: u64,
    /// Whether it tells of returns.
    pub is_return: bool,
}

impl Registered {
    /// Makes it known. Refused without the right to write there, and for a file with a blank in its name.
    pub fn new(tracefs: &Path, path: &str, at: u64, is_return: bool) -> io::Result<Registered> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        sweep(tracefs);
        let path = fs::canonicalize(path)?;
        let unwritable = || io::Error::from(io::ErrorKind::InvalidFilename);
        let path = path.to_str().ok_or_else(unwritable)?;
        if path.contains(char::is_whitespace) || path.contains(':') {
            return Err(unwritable());
        }
        // Only told apart from each other: no order is needed.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let event = format!("{OURS}{}/p{number}", std::process::id());
        let kind = if is_return { 'r' } else { 'p' };
        tell(tracefs, &format!("{kind}:{event} {path}:{at:#x}\n"))?;
        let mut registered = Registered {
            tracefs: tracefs.to_owned(),
            event,
            id: 0,
            is_return,
        };
        let id = registered.tracefs.join("events").join(&registered.event);
        let id = fs::read_to_string(id.join("id"))?;
        registered.id = id.trim().parse().map_err(io::Error::other)?;
        Ok(registered)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        // Refused while events of it are open; the next recorder takes it away then.
        let _ = forget(&self.tracefs, &self.event);
    }
}

/// Takes away what processes left that are gone. The kernel refuses it for what is still used.
fn sweep(tracefs: &Path) {
    let systems = fs::read_dir(tracefs.join("events"));
    for system in systems.into_iter().flatten().flatten() {
        let name = system.file_name().into_string().unwrap_or_default();
        let Some(pid) = name.strip_prefix(OURS) else {
            continue;
        };
        if Path::new("/proc").join(pid).exists() {
            continue;
        }
        for event in fs::read_dir(system.path()).into_iter().flatten().flatten() {
            if event.path().is_dir() {
                let event = format!("{name}/{}", event.file_name().to_string_lossy());
                let _ = forget(tracefs, &event);
            }
        }
    }
}

fn forget(tracefs: &Path, event: &str) -> io::Result<()> {
    tell(tracefs, &format!("-:{event}\n"))
}

/// Without appending, everybody's would be taken away.
fn tell(tracefs: &Path, line: &str) -> io::Result<()> {
    let file = OpenOptions::new()
        .append(true)
        .open(tracefs.join("uprobe_events"));
    file?.write_all(line.as_bytes())
}
