//! The code that the kernel maps into every process.
//!
//! In: nothing; out: its bytes, as this process sees them: they are the same in all processes of an architecture.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// Longest that is read.
const MAX_LEN: u64 = 1 << 20;

/// The vdso, an object file.
pub fn bytes() -> Option<Vec<u8>> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|l| l.ends_with("[vdso]"))?;
    let (start, end) = line.split_ascii_whitespace().next()?.split_once('-')?;
    let start = u64::from_str_radix(start, 16).ok()?;
    let end = u64::from_str_radix(end, 16).ok()?;
    let mut memory = File::open("/proc/self/mem").ok()?;
    memory.seek(SeekFrom::Start(start)).ok()?;
    let mut bytes = Vec::new();
    let len = end.checked_sub(start)?.min(MAX_LEN);
    memory.take(len).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
