//! What a program's file says about the DPDK inside of it.
//!
//! In: a file; out: whether its DPDK can be reached from outside. Only names in the file are looked at; it is not run.

use object::{Object, ObjectSymbol, ReadCache, ReadRef};
use std::fs::File;
use std::path::Path;

/// How a program came by DPDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dpdk {
    /// From shared libraries: its functions can be preceded by others.
    Shared,
    /// Built in: no call of DPDK's leaves the program.
    BuiltIn,
    /// Built in, but for others to use as well: a library that DPDK loads finds it.
    Exported,
    /// Its file does not say: a script, or a program that loads libraries by itself, or one without DPDK.
    Unknown,
}

/// Functions of DPDK's that every program with ports calls.
const FUNCTIONS: [&[u8]; 2] = [b"rte_eth_dev_start", b"rte_eal_init"];
/// What DPDK's ethdev library calls its log: in a program without symbols, this text is left of it.
const MARK: &[u8] = b"lib.ethdev";
/// Bytes read at a time when looking for the mark.
const PIECE: u64 = 1 << 20;

/// Looks into a program's file.
pub fn dpdk_of(path: &Path) -> Dpdk {
    let Ok(file) = File::open(path) else {
        return Dpdk::Unknown;
    };
    let cache = ReadCache::new(file);
    let Ok(object) = object::File::parse(&cache) else {
        return Dpdk::Unknown;
    };
    let named = |name: object::Result<&[u8]>| name.is_ok_and(|n| FUNCTIONS.contains(&n));
    let mut dynamic = object.dynamic_symbols().filter(|s| named(s.name_bytes()));
    if let Some(symbol) = dynamic.next() {
        return if symbol.is_undefined() {
            Dpdk::Shared
        } else {
            Dpdk::Exported
        };
    }
    let mut inside = object.symbols().filter(|s| named(s.name_bytes()));
    if inside.any(|s| s.is_definition()) || holds(&cache, MARK) {
        return Dpdk::BuiltIn;
    }
    Dpdk::Unknown
}

fn holds(file: &ReadCache<File>, text: &[u8]) -> bool {
    let Ok(len) = file.len() else {
        return false;
    };
    let mut at = 0;
    while at < len {
        // Pieces overlap, so that no text falls between two.
        let size = (PIECE + text.len() as u64).min(len - at);
        match file.read_bytes_at(at, size) {
            Ok(bytes) if bytes.windows(text.len()).any(|w| w == text) => return true,
            Ok(_) => at += PIECE,
            Err(()) => return false,
        }
    }
    false
}
