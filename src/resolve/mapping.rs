//! What a mapping's addresses are in its file, and which file that is.
//!
//! In: a mapping; out: positions and keys that recorded names are found by.

use crate::trace::record::Mapping;
use std::ops::Range;

impl Mapping {
    /// What the kernel's addresses lie in that are neither in its text nor in a module.
    pub(crate) fn of_kernel() -> Mapping {
        Mapping {
            pid: Mapping::KERNEL,
            path: "[kernel]".to_owned(),
            ..Mapping::default()
        }
    }

    /// Its addresses.
    pub(crate) fn range(&self) -> Range<u64> {
        self.start.0..self.start.0.saturating_add(self.len)
    }

    /// Whether the program made the code in it: memory that belongs to no file that others could read.
    pub(crate) fn is_made(&self) -> bool {
        let path = self.path.as_str();
        let of_none = [
            "//anon",
            "[heap]",
            "[anon",
            "[stack",
            "/memfd:",
            "anon_inode:",
            "/dev/zero",
            "/SYSV",
        ];
        self.pid != Mapping::KERNEL && of_none.iter().any(|name| path.starts_with(name))
    }

    /// The name of code that the kernel made, which it tells with the mapping.
    pub(crate) fn made_by_kernel(&self) -> Option<&str> {
        let of_file = self.path.starts_with(['[', '/']);
        (self.pid == Mapping::KERNEL && !of_file && !self.path.is_empty()).then_some(&self.path)
    }

    /// Where `address` lies in the mapping's file; of the kernel and of code that a program made, the address itself.
    pub(crate) fn position(&self, address: u64) -> u64 {
        if self.pid == Mapping::KERNEL || self.is_made() {
            address
        } else {
            let inside = address.wrapping_sub(self.start.0);
            inside.wrapping_add(self.offset.0)
        }
    }

    /// What names are recorded under: path and build id of the file, or the process for code that it made.
    pub(crate) fn key(&self) -> (String, String) {
        match self.is_made() {
            true => (format!("[perf-{}.map]", self.pid), String::new()),
            false => (self.path.clone(), self.build_id.clone()),
        }
    }
}
