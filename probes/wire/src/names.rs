//! Names of files in a session directory, and of the directory itself.
//!
//! ```text
//! PID-START.control     PID-START.queues     PID-START-INDEX.ring     all numbers decimal
//! ```
//!
//! In: a process and the index of a ring; out: a name without allocation, and the numbers back from any text. PID is
//! the process's own view, START its start time in ticks after boot, so that a name is never used twice on one boot.

use core::fmt::{self, Write};

/// Environment variable with the session directory; without it programs use the per-user one.
pub const SESSION_VARIABLE: &str = "BYPASSPROF_SESSION";
/// The per-user directory is this and the user's number.
pub const USER_DIRECTORY: &str = "/dev/shm/bypassprof-";

/// A process in the names of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessKey {
    /// The process as it sees itself.
    pub pid: u32,
    /// When it started, in ticks after boot.
    pub start_time: u64,
}

/// What a file in a session directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    /// The control file of a process.
    Control(ProcessKey),
    /// The counts of a process's device queues.
    Queues(ProcessKey),
    /// Ring number so-and-so of a process.
    Ring(ProcessKey, u32),
}

impl FileKind {
    /// The file's name.
    pub fn name(self) -> FileName {
        let mut name = FileName::default();
        // A name has room for the longest numbers, so writing cannot fail.
        let _ = match self {
            FileKind::Control(p) => write!(name, "{}-{}.control", p.pid, p.start_time),
            FileKind::Queues(p) => write!(name, "{}-{}.queues", p.pid, p.start_time),
            FileKind::Ring(p, index) => write!(name, "{}-{}-{index}.ring", p.pid, p.start_time),
        };
        name
    }

    /// What a name says; `None` if it is not one of ours.
    pub fn parse(name: &str) -> Option<FileKind> {
        let (numbers, ending) = name.rsplit_once('.')?;
        let mut numbers = numbers.split('-');
        let mut next = || {
            numbers
                .next()
                .filter(|n| n.bytes().all(|b| b.is_ascii_digit()))
        };
        let key = ProcessKey {
            pid: next()?.parse().ok()?,
            start_time: next()?.parse().ok()?,
        };
        let kind = match ending {
            "control" => FileKind::Control(key),
            "queues" => FileKind::Queues(key),
            "ring" => FileKind::Ring(key, next()?.parse().ok()?),
            _ => return None,
        };
        numbers.next().is_none().then_some(kind)
    }
}

/// A name or path on the stack, followed by a zero byte for the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileName {
    bytes: [u8; 64],
    len: usize,
}

impl Default for FileName {
    fn default() -> Self {
        FileName {
            bytes: [0; 64],
            len: 0,
        }
    }
}

impl FileName {
    /// The per-user directory.
    pub fn user_directory(uid: u32) -> FileName {
        let mut name = FileName::default();
        let _ = write!(name, "{USER_DIRECTORY}{uid}");
        name
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or("")
    }

    /// The name as the kernel takes it.
    pub fn as_c_str(&self) -> &core::ffi::CStr {
        core::ffi::CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }
}

impl Write for FileName {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        // The last byte stays zero.
        if end >= self.bytes.len() {
            return Err(fmt::Error);
        }
        self.bytes[self.len..end].copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The longest numbers fit, and every name is read back as what it was.
    #[test]
    fn names_round_trip() {
        let key = ProcessKey {
            pid: u32::MAX,
            start_time: u64::MAX,
        };
        for kind in [
            FileKind::Control(key),
            FileKind::Queues(key),
            FileKind::Ring(key, u32::MAX),
        ] {
            assert_eq!(FileKind::parse(kind.name().as_str()), Some(kind));
            assert_eq!(
                kind.name().as_c_str().to_bytes(),
                kind.name().as_str().as_bytes()
            );
        }
        assert_eq!(
            FileName::user_directory(1000).as_str(),
            "/dev/shm/bypassprof-1000"
        );
    }

    /// Anything else is not ours.
    #[test]
    fn foreign_names() {
        for name in [
            "",
            "x",
            "1.control",
            "1-2-3.control",
            "1-2-3.queues",
            "1-2.rings",
            "1-2.ring",
            "1-2-3-4.ring",
            "+1-2.control",
            "1-2-.ring",
            "1-99999999999999999999999.control",
        ] {
            assert_eq!(FileKind::parse(name), None, "{name}");
        }
    }
}
