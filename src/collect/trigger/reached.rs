//! Whether a function of a running process was called: a uprobe that only counts.
//!
//! In: a process, a file and a position in it; out: whether the count has grown. The process pays for each call of the
//! function, a microsecond or two, and for nothing else.

use crate::trace::record::{Pid, Tid};
use crate::units::FileOffset;
use perf_event_open::config::{Cpu, Opts, Proc};
use perf_event_open::count::Counter;
use perf_event_open::event::dp::Uprobe;
use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A function in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name, for messages.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Where it begins.
    pub at: FileOffset,
}

pub struct Reached {
    name: String,
    pid: Pid,
    event: Uprobe,
    /// One for each thread: an event with a uprobe must not be inherited (`events/registered.rs` says why).
    counters: HashMap<Tid, Counter>,
    calls: u64,
}

impl Reached {
    pub fn new(pid: Pid, function: &Function) -> io::Result<Reached> {
        let path = CString::new(function.path.as_os_str().as_bytes())?;
        // The library wants a path that lives for ever; one is made for each watch.
        let path = Box::leak(path.into_boxed_c_str());
        let event = Uprobe {
            path,
            offset: function.at.0,
        };
        let mut reached = Reached {
            name: function.name.clone(),
            pid,
            event,
            counters: HashMap::new(),
            calls: 0,
        };
        for tid in crate::collect::proc::threads(pid)? {
            reached.watch(tid)?;
        }
        Ok(reached)
    }

    fn watch(&mut self, tid: Tid) -> io::Result<()> {
        let counter = Counter::new(self.event.clone(), (Proc(tid), Cpu::ALL), Opts::default())?;
        counter.enable()?;
        self.counters.insert(tid, counter);
        Ok(())
    }

    pub fn look(&mut self) -> Option<String> {
        for tid in crate::collect::proc::threads(self.pid).unwrap_or_default() {
            if !self.counters.contains_key(&tid) {
                // Gone again, or the file is: it will not be called there.
                let _ = self.watch(tid);
            }
        }
        let counts = self.counters.values().filter_map(|c| c.stat().ok());
        let calls = counts.map(|stat| stat.count).sum();
        let before = std::mem::replace(&mut self.calls, calls);
        (calls > before).then(|| format!("{} was called", self.name))
    }
}
