//! The option that says how user stacks are walked.
//!
//! In: its words and whom to record; out: what the kernel is asked for. `auto` looks at the program: files that keep frame
//! pointers need but a small copy of the stack, to get past the libraries that do not.

use crate::collect::Target;
use crate::collect::perf::StackSource;
use crate::resolve::keeps_frame_pointers;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// How user stacks are walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallGraph {
    /// As each file allows.
    Auto,
    /// By frame pointers.
    Fp,
    /// By unwind tables, over so many bytes.
    Dwarf(u32),
    /// By the processor's record of calls.
    Lbr,
    /// Not at all.
    None,
}

/// Bytes of the stack that are copied where programs keep no frame pointers.
const COPY: u32 = 16 << 10;
/// The same where they do.
const SMALL_COPY: u32 = 1 << 10;
/// A sample, copy and all, has no more than 64 KiB.
const LARGEST_COPY: u32 = 63 << 10;

impl FromStr for CallGraph {
    type Err = String;

    fn from_str(text: &str) -> Result<CallGraph, String> {
        let (name, size) = match text.split_once(',') {
            Some((name, size)) => (name, Some(size)),
            None => (text, None),
        };
        let bytes = size.map(|size| {
            let bytes = size.parse::<u32>().ok();
            let fits = |b: &u32| (8..=LARGEST_COPY).contains(b) && b.is_multiple_of(8);
            bytes.filter(fits).ok_or_else(|| {
                format!("the bytes to copy must be a multiple of 8 from 8 to {LARGEST_COPY}")
            })
        });
        match (name, bytes.transpose()?) {
            ("auto", None) => Ok(CallGraph::Auto),
            ("fp", None) => Ok(CallGraph::Fp),
            ("dwarf", bytes) => Ok(CallGraph::Dwarf(bytes.unwrap_or(COPY))),
            ("lbr", None) => Ok(CallGraph::Lbr),
            ("none" | "no", None) => Ok(CallGraph::None),
            _ => Err("must be auto, fp, dwarf, dwarf,BYTES, lbr or none".to_string()),
        }
    }
}

impl CallGraph {
    /// What the kernel is asked for, and the same in words. `command` is the program that is started, if one is.
    pub fn source(self, target: Option<&Target>, command: &[OsString]) -> (StackSource, String) {
        match self {
            CallGraph::None => (StackSource::None, "none".to_string()),
            CallGraph::Fp => (StackSource::FramePointers, "fp".to_string()),
            CallGraph::Lbr => (StackSource::Branches, "lbr".to_string()),
            CallGraph::Dwarf(bytes) => {
                let pointers = false;
                (
                    StackSource::Copy { bytes, pointers },
                    format!("dwarf,{bytes}"),
                )
            }
            CallGraph::Auto => {
                let keep = match target {
                    None => command.first().and_then(program).is_some_and(keeps),
                    Some(Target::Running(pids)) => pids
                        .iter()
                        .all(|pid| keeps(PathBuf::from(format!("/proc/{pid}/exe")))),
                    Some(_) => false,
                };
                let bytes = if keep { SMALL_COPY } else { COPY };
                let pointers = true;
                (
                    StackSource::Copy { bytes, pointers },
                    format!("auto,{bytes}"),
                )
            }
        }
    }
}

fn keeps(path: PathBuf) -> bool {
    keeps_frame_pointers(&path) == Some(true)
}

/// The file that a command's first word names.
fn program(word: &OsString) -> Option<PathBuf> {
    let name = Path::new(word);
    if name.components().count() > 1 {
        return Some(name.to_owned());
    }
    let path = std::env::var_os("PATH")?;
    let mut places = std::env::split_paths(&path).map(|dir| dir.join(name));
    places.find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What can be said, and what is wrong with the rest.
    #[test]
    fn words() {
        assert_eq!("dwarf,8192".parse(), Ok(CallGraph::Dwarf(8192)));
        assert_eq!("no".parse(), Ok(CallGraph::None));
        for wrong in ["dwarf,9", "dwarf,65536", "fp,8", "stack", ""] {
            assert!(wrong.parse::<CallGraph>().is_err(), "{wrong}");
        }
    }
}
