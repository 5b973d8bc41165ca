//! Names of kernel addresses from `/proc/kallsyms`.
//!
//! In: the text of kallsyms; out: the function that holds an address, or why there is none. Addresses that the kernel
//! hides (`kptr_restrict`) are all zero there: then nothing is named and the reason says what to do.

use crate::trace::record::{AddressNames, NamedFrame};
use std::io;

/// The kernel's functions by address.
#[derive(Clone, Debug, Default)]
pub struct KernelSymbols {
    /// Start and name; data symbols end a function but are no answer, they have an empty name.
    symbols: Vec<(u64, String)>,
    why: Option<String>,
}

/// A function is not longer than this when nothing says where it ends.
const LONGEST_LAST: u64 = 0x10000;

impl KernelSymbols {
    /// Reads this machine's `/proc/kallsyms`.
    pub fn read_live() -> KernelSymbols {
        match std::fs::read("/proc/kallsyms") {
            Ok(text) => KernelSymbols::parse(&String::from_utf8_lossy(&text)),
            Err(error) => KernelSymbols::unreadable(&error),
        }
    }

    fn unreadable(error: &io::Error) -> KernelSymbols {
        KernelSymbols {
            symbols: Vec::new(),
            why: Some(format!("/proc/kallsyms could not be read: {error}")),
        }
    }

    /// Those of a kernel that does not run here.
    pub fn of_another() -> KernelSymbols {
        KernelSymbols {
            symbols: Vec::new(),
            why: Some("the recorded kernel is not the one that runs here, or lies elsewhere since a restart".into()),
        }
    }

    /// Whether a symbol begins there.
    pub fn begins_at(&self, address: u64) -> bool {
        self.symbols.binary_search_by_key(&address, |s| s.0).is_ok()
    }

    /// Reads lines of `ADDRESS TYPE NAME [MODULE]`; lines that are none are skipped.
    pub fn parse(text: &str) -> KernelSymbols {
        let mut symbols = Vec::new();
        let mut lines = 0u64;
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(address), Some(kind), Some(name)) =
                (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let Ok(address) = u64::from_str_radix(address, 16) else {
                continue;
            };
            lines += 1;
            if address != 0 {
                let code = matches!(kind, "t" | "T" | "w" | "W");
                symbols.push((address, if code { name } else { "" }.to_owned()));
            }
        }
        // Of several names for one address the first in the file is kept, and any name before none.
        symbols.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.is_empty().cmp(&b.1.is_empty())));
        symbols.dedup_by_key(|s| s.0);
        let why = match (symbols.is_empty(), lines) {
            (false, _) => None,
            (true, 0) => Some("the kernel shows no symbols (/proc/kallsyms is empty)".into()),
            (true, _) => Some(
                "the kernel hides its addresses: record as root, or set kernel.kptr_restrict to 0"
                    .into(),
            ),
        };
        KernelSymbols { symbols, why }
    }

    /// The function that holds an address.
    pub fn name(&self, address: u64) -> AddressNames {
        let unknown = |why: &str| AddressNames {
            at: address,
            frames: Vec::new(),
            why: Some(why.to_owned()),
        };
        if let Some(why) = &self.why {
            return unknown(why);
        }
        let after = self.symbols.partition_point(|s| s.0 <= address);
        let Some((start, name)) = after.checked_sub(1).map(|at| &self.symbols[at]) else {
            return unknown("the address lies before the kernel's first symbol");
        };
        let last = after == self.symbols.len();
        if name.is_empty() || (last && address - start > LONGEST_LAST) {
            return unknown("no kernel function holds the address");
        }
        AddressNames {
            at: address,
            frames: vec![NamedFrame {
                name: name.clone(),
                ..NamedFrame::default()
            }],
            why: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "ffffffff81000000 T _stext\nffffffff81000100 t tcp_ack\nffffffff81000100 T tcp_ack_alias\n\
        ffffffff81000200 D some_data\nffffffffc0000000 t nf_hook\t[nf_tables]\nnonsense\n";

    fn name(symbols: &KernelSymbols, address: u64) -> String {
        let names = symbols.name(address);
        names.frames.first().map_or_else(
            || format!("? {}", names.why.unwrap_or_default()),
            |f| f.name.clone(),
        )
    }

    /// Functions hold the addresses up to the next symbol; data holds none.
    #[test]
    fn names_by_range() {
        let symbols = KernelSymbols::parse(TEXT);
        assert_eq!(name(&symbols, 0xffff_ffff_8100_01ff), "tcp_ack");
        assert_eq!(
            name(&symbols, 0xffff_ffff_8100_0200),
            "? no kernel function holds the address"
        );
        assert_eq!(name(&symbols, 0xffff_ffff_c000_0010), "nf_hook");
        assert!(name(&symbols, 0xffff_ffff_c100_0000).starts_with('?'));
        assert!(name(&symbols, 1).starts_with('?'));
    }

    /// Hidden addresses name nothing, and say what to do.
    #[test]
    fn hidden() {
        let symbols =
            KernelSymbols::parse("0000000000000000 T _stext\n0000000000000000 t tcp_ack\n");
        assert!(name(&symbols, 0).contains("kptr_restrict"));
    }
}
