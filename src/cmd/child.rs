//! A command that is run and the ways it ends: its own, by a signal, because its time is over.
//!
//! In: signals and a child; out: whether it is over, an exit code. It refuses to know what is done with it meanwhile.

use super::Failure;
use crate::collect::Outcome;
use crate::trace::record::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid as SysPid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A command's words as they are told and kept.
pub fn words(command: &[OsString]) -> Vec<String> {
    let words = command.iter().map(|w| w.to_string_lossy());
    words.map(|w| w.into_owned()).collect()
}

/// Interrupts that were asked for: a second one is firmer.
pub fn interrupts() -> Result<Arc<AtomicUsize>, Failure> {
    let interrupted = Arc::new(AtomicUsize::new(0));
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let caught = count_signal(signal, Arc::clone(&interrupted));
        caught.map_err(|e| Failure::failed(format!("cannot catch signals: {e}")))?;
    }
    Ok(interrupted)
}

/// Counts how often a signal comes.
pub fn count_signal(signal: i32, count: Arc<AtomicUsize>) -> io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([signal])?;
    std::thread::Builder::new()
        .name("signals".to_string())
        .spawn(move || {
            for _ in signals.forever() {
                // Only a count: nothing is published with it.
                count.fetch_add(1, Ordering::Relaxed);
            }
        })?;
    Ok(())
}

/// What a shell would say of a command that ended so.
pub fn exit_code(outcome: Outcome) -> u8 {
    match (outcome.code, outcome.signal) {
        (Some(code), _) => code as u8,
        (None, Some(signal)) => (128 + signal) as u8,
        (None, None) => 1,
    }
}

/// Ends a command step by step: its own chance at the signal the terminal sent it, then SIGINT, SIGTERM, SIGKILL.
#[derive(Default)]
pub struct Ending {
    since: Option<Instant>,
    sent: Option<Signal>,
    /// Whether it was ended because its time was over.
    pub by_duration: bool,
}

impl Ending {
    /// Whether the command was asked to end.
    pub fn has_begun(&self) -> bool {
        self.since.is_some()
    }

    /// Does what is due now.
    pub fn step(&mut self, child: &Child, interrupts: usize, over: bool) {
        if self.since.is_none() {
            if interrupts == 0 && !over {
                return;
            }
            self.by_duration = over && interrupts == 0;
            self.since = Some(Instant::now());
        }
        let waited = self.since.map_or(Duration::ZERO, |s| s.elapsed());
        let signal = if waited > Duration::from_secs(6) || interrupts > 2 {
            Signal::KILL
        } else if waited > Duration::from_secs(3) || self.by_duration {
            Signal::TERM
        } else if waited > Duration::from_millis(200) {
            Signal::INT
        } else {
            return;
        };
        if self.sent != Some(signal) {
            self.sent = Some(signal);
            if let Some(pid) = SysPid::from_raw(child.id().cast_signed()) {
                // It may have ended by itself; the next turn sees that.
                let _ = kill_process(pid, signal);
            }
        }
    }
}

/// Whether a process is gone, or only its exit status is left.
pub fn ended(pid: Pid) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])),
        Err(_) => true,
    }
}

/// Something that tells at once that a child has ended.
pub struct End(OwnedFd);

impl End {
    /// Of this child.
    pub fn of(child: &Child) -> io::Result<End> {
        let pid = SysPid::from_raw(child.id().cast_signed());
        let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(End(pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// Waits for it, at most so long.
    pub fn wait(&self, most: Duration) {
        wait(Some(self), std::iter::empty(), most);
    }
}

/// A file that is ready but has nothing to be read: one that nobody writes into any more. It is not looked at more often.
const HUNG_UP: Duration = Duration::from_millis(1);

/// Waits for a child's end, or until one of these files can be read from, at most so long.
pub fn wait<'f>(end: Option<&End>, files: impl Iterator<Item = &'f File>, most: Duration) {
    let of_child = end.map(|end| PollFd::new(&end.0, PollFlags::IN));
    let of_files = files.map(|file| PollFd::new(file, PollFlags::IN));
    let mut all: Vec<_> = of_child.into_iter().chain(of_files).collect();
    let timeout = Timespec::try_from(most).unwrap_or_default();
    // Interrupted or over: whoever waits looks again.
    let _ = poll(&mut all, Some(&timeout));
    let mut ready = all
        .iter()
        .map(|f| f.revents())
        .filter(|r| !r.is_empty())
        .peekable();
    if ready.peek().is_some() && ready.all(|r| !r.contains(PollFlags::IN)) {
        std::thread::sleep(HUNG_UP.min(most));
    }
}
