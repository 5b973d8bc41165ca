//! Names that a program gives to code which it made itself: `/tmp/perf-PID.map`.
//!
//! In: lines of address, size and name; out: the name at an address. What was written later counts where two hold the same
//! address. A file is believed if it belongs to the program's user or to root.

use crate::trace::file::open_regular;
use crate::trace::record::{AddressNames, NamedFrame};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Most that is read.
const MAX_LEN: u64 = 256 << 20;

/// Functions by address: size and name.
#[derive(Debug, Default)]
pub struct PerfMap(BTreeMap<u64, (u64, String)>);

impl PerfMap {
    /// Where a process writes its own, by the number that it knows.
    pub fn path(pid: u32) -> PathBuf {
        PathBuf::from(format!("/tmp/perf-{pid}.map"))
    }

    /// Opens a file if it belongs to `owner`, or to root.
    pub fn open(path: &Path, owner: u32) -> Option<File> {
        let file = open_regular(path).ok()?;
        let uid = file.metadata().ok()?.uid();
        (uid == owner || uid == 0).then_some(file)
    }

    /// Reads what is there.
    pub fn read(file: &File) -> PerfMap {
        let mut text = Vec::new();
        // What can be read of it is as true without the rest.
        let _ = file.take(MAX_LEN).read_to_end(&mut text);
        PerfMap::parse(&String::from_utf8_lossy(&text))
    }

    /// Reads lines of `START SIZE NAME`; lines that are none are skipped.
    pub fn parse(text: &str) -> PerfMap {
        let line = |line: &str| {
            let (start, rest) = line.trim_start().split_once(' ')?;
            let (size, name) = rest.trim_start().split_once(' ')?;
            let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
            let name = name.trim();
            (!name.is_empty()).then_some((number(start)?, (number(size)?, name.to_owned())))
        };
        PerfMap(text.lines().filter_map(line).collect())
    }

    /// The function at an address.
    pub fn names(&self, at: u64) -> AddressNames {
        let found = self.0.range(..=at).next_back();
        let found = found.filter(|(start, (size, _))| at - *start < *size);
        AddressNames {
            at,
            frames: found
                .map(|(_, (_, name))| NamedFrame {
                    name: name.clone(),
                    ..NamedFrame::default()
                })
                .into_iter()
                .collect(),
            why: match found {
                Some(_) => None,
                None => Some(
                    "the program made this code and its /tmp/perf-PID.map does not name it".into(),
                ),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Any text is read; what has a name lies in a line's range, and all else has a reason.
        #[test]
        fn any_text(
            lines in prop::collection::vec("(0x)?[0-9a-f]{1,17} {1,2}[0-9a-f]{1,3} [a-z ]{0,3}|[ -~]{0,12}", 0..20),
            at in prop_oneof![0..64u64, any::<u64>()],
        ) {
            let map = PerfMap::parse(&lines.join("\n"));
            prop_assert!(map.0.len() <= lines.len());
            let names = map.names(at);
            prop_assert_eq!(names.frames.is_empty(), names.why.is_some());
            let holds = map.0.iter().any(|(start, (size, _))| (u128::from(*start)..u128::from(*start) + u128::from(*size)).contains(&u128::from(at)));
            prop_assert!(holds || names.frames.is_empty());
        }
    }
}
