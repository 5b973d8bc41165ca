//! Why a process ended, from everything that tells a part of it.
//!
//! In: what core dumps and recorders said, and the threads; out: [`Ended`]. What two tell differently is told by the one
//! that knows more: a core knows the address, a recorder the exit code.

use super::threads::ThreadEnd;
use crate::trace::record::Crash;

/// Why it ended. What nothing tells is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// In a sentence.
    pub text: String,
    /// The signal's number.
    pub signal: Option<i32>,
    /// Its exit code.
    pub exit_code: Option<i32>,
    /// Address that could not be used.
    pub address: Option<u64>,
    /// The thread that was hit: number and name.
    pub thread: Option<(u32, String)>,
    /// The function it was in: the innermost that is not inlined into another.
    pub function: Option<String>,
    /// Source file and line of it.
    pub source: Option<String>,
    /// The flow of the last event of that thread that is of one.
    pub flow: Option<u32>,
    /// The stage of a request's way that it was at.
    pub stage: Option<&'static str>,
    /// It did not end: it was copied while it ran.
    pub alive: bool,
}

/// One story of several tellers.
pub fn merge(crashes: &[Crash], end: Option<(Option<i32>, Option<i32>)>) -> Crash {
    let mut all = Crash::default();
    for crash in crashes {
        all.pid = all.pid.max(crash.pid);
        all.tid = all.tid.or(crash.tid);
        all.signal = all.signal.or(crash.signal);
        all.code = all.code.or(crash.code);
        all.address = all.address.or(crash.address);
        all.sender = all.sender.or(crash.sender);
        all.exit_code = all.exit_code.or(crash.exit_code);
        all.oom_kills = all.oom_kills.or(crash.oom_kills);
        all.alive |= crash.alive;
        if all.told_by.is_empty() {
            all.told_by.clone_from(&crash.told_by);
        }
    }
    if let Some((code, signal)) = end {
        all.exit_code = all.exit_code.or(code);
        all.signal = all.signal.or(signal);
        if all.told_by.is_empty() && (code.is_some() || signal.is_some()) {
            all.told_by = "the recorder".to_owned();
        }
    }
    // Copied while it ran, and ended later.
    all.alive &= all.signal.is_none() && all.exit_code.is_none();
    all
}

impl Ended {
    /// Whether nothing tells why.
    pub(super) fn is_untold(&self) -> bool {
        !self.alive && self.signal.is_none() && self.exit_code.is_none()
    }

    pub(super) fn of(crash: &Crash, threads: &[ThreadEnd]) -> Ended {
        let hit = crash
            .tid
            .and_then(|tid| threads.iter().find(|t| t.tid == tid));
        let frame = hit.and_then(|t| t.stack.as_ref()).and_then(|stack| {
            // The standard library's and C's own ways of dying are nobody's fault. Where it has no name, the next one's
            // is not its.
            let mut frames = stack.frames.iter().filter(|f| !f.inlined);
            let frame = frames.find(|f| !f.is_way_of_dying());
            frame.filter(|f| !f.name.is_empty())
        });
        let doing = hit.map(|t| &t.doing);
        let mut ended = Ended {
            text: String::new(),
            signal: crash.signal,
            exit_code: crash.exit_code,
            address: crash.address,
            thread: crash
                .tid
                .map(|tid| (tid, hit.map_or_else(String::new, |t| t.name.clone()))),
            function: frame.map(|f| f.name.clone()),
            source: frame
                .filter(|f| !f.file.is_empty())
                .map(|f| format!("{}:{}", f.file, f.line)),
            flow: doing.and_then(|d| d.flow),
            stage: doing.and_then(|d| d.stage),
            alive: crash.alive,
        };
        ended.text = sentence(crash, &ended);
        ended
    }
}

fn sentence(crash: &Crash, ended: &Ended) -> String {
    let mut text = match (crash.alive, crash.signal, crash.exit_code) {
        (true, ..) => "it did not end: its memory was copied while it ran".to_owned(),
        (_, Some(signal), _) => format!("killed by {}", signal_name(signal)),
        (_, None, Some(0)) => "it ended by itself".to_owned(),
        (_, None, Some(code)) => format!("it ended by itself with exit code {code}"),
        (_, None, None) => return "not known: nothing that was read tells it".to_owned(),
    };
    if let Some(what) = crash
        .signal
        .zip(crash.code)
        .and_then(|(s, c)| code_name(s, c))
    {
        text.push_str(&format!(" ({what})"));
    }
    if let Some(address) = crash.address {
        text.push_str(&format!(" at address {address:#x}"));
    }
    if let Some((pid, uid)) = crash.sender.filter(|_| !crash.alive) {
        text.push_str(&format!(", sent by process {pid} of user {uid}"));
    }
    if let Some(kills) = crash.oom_kills.filter(|&kills| kills > 0) {
        text.push_str(&format!(
            ": out of memory (the kernel killed {kills} for it in its cgroup meanwhile)"
        ));
    }
    // A signal from elsewhere hits some thread, whatever that does.
    let from_elsewhere = crash.sender.is_some_and(|(pid, _)| pid != crash.pid);
    if let Some(function) = ended
        .function
        .as_ref()
        .filter(|_| !from_elsewhere && !crash.alive)
    {
        text.push_str(&format!(", in {function}"));
    }
    text
}

/// The name of a signal.
pub fn signal_name(signal: i32) -> String {
    let names = [
        (1, "SIGHUP"),
        (2, "SIGINT"),
        (3, "SIGQUIT"),
        (4, "SIGILL"),
        (5, "SIGTRAP"),
        (6, "SIGABRT"),
        (7, "SIGBUS"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (10, "SIGUSR1"),
        (11, "SIGSEGV"),
        (12, "SIGUSR2"),
        (13, "SIGPIPE"),
        (14, "SIGALRM"),
        (15, "SIGTERM"),
        (24, "SIGXCPU"),
        (25, "SIGXFSZ"),
        (31, "SIGSYS"),
    ];
    let name = names.iter().find(|(number, _)| *number == signal);
    name.map_or_else(
        || format!("signal {signal}"),
        |(_, name)| (*name).to_owned(),
    )
}

/// Why the kernel sent a signal.
fn code_name(signal: i32, code: i32) -> Option<&'static str> {
    Some(match (signal, code) {
        (11, 1) => "nothing is mapped there",
        (11, 2) => "access is not allowed",
        (7, 1) => "misaligned",
        (7, 2) => "behind the end of a mapped file",
        (7, 3..=5) => "broken memory",
        (8, 1) => "division by zero",
        (4, _) if code > 0 => "no such instruction",
        _ => return None,
    })
}
