//! Whether a function of a running process was called: a uprobe that only counts.
//!
//! In: a process, a file and a position in it; out: whether the count has grown. The process pays for each call of the
//! function, a microsecond or two, and for nothing else.

use crate::trace::record::Pid;
use crate::units::FileOffset;
use perf_event_open::config::{Cpu, Inherit, Opts, Proc};
use perf_event_open::count::Counter;
use perf_event_open::event::dp::Uprobe;
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
    counters: Vec<Counter>,
    calls: u64,
}

impl Reached {
    pub fn new(pid: Pid, function: &Function) -> io::Result<Reached> {
        let path = CString::new(function.path.as_os_str().as_bytes())?;
        // The library wants a path that lives for ever; one is made for each watch.
        let path = Box::leak(path.into_boxed_c_str());
        let opts = Opts {
            inherit: Some(Inherit::NewChild),
            ..Opts::default()
        };
        let mut counters = Vec::new();
        for tid in crate::collect::proc::threads(pid)? {
            let event = Uprobe {
                path,
                offset: function.at.0,
            };
            let counter = Counter::new(event, (Proc(tid), Cpu::ALL), &opts)?;
            counter.enable()?;
            counters.push(counter);
        }
        Ok(Reached {
            name: function.name.clone(),
            counters,
            calls: 0,
        })
    }

    pub fn look(&mut self) -> Option<String> {
        let counts = self.counters.iter().filter_map(|c| c.stat().ok());
        let calls = counts.map(|stat| stat.count).sum();
        let before = std::mem::replace(&mut self.calls, calls);
        (calls > before).then(|| format!("{} was called", self.name))
    }
}
