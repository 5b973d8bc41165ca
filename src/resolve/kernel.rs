//! Names of kernel addresses from `/proc/kallsyms`.
//!
//! In: the text of kallsyms; out: the function that holds an address, or why there is none. Addresses that the kernel
//! hides (`kptr_restrict`) are all zero there: then nothing is named and the reason says what to do.

use crate::trace::record::{AddressNames, NamedFrame};
use std::collections::HashMap;
use std::io;

/// The kernel's functions by address.
#[derive(Clone, Debug, Default)]
pub struct KernelSymbols {
    symbols: Vec<Symbol>,
    /// Names of modules.
    modules: Vec<String>,
    why: Option<String>,
}

#[derive(Clone, Debug)]
struct Symbol {
    start: u64,
    /// Data symbols end a function but are no answer: theirs is empty.
    name: String,
    /// Its place in the list of modules; the kernel's own have none.
    module: Option<u32>,
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
            modules: Vec::new(),
            why: Some(format!("/proc/kallsyms could not be read: {error}")),
        }
    }

    /// Those of a kernel that does not run here.
    pub fn of_another() -> KernelSymbols {
        KernelSymbols {
            symbols: Vec::new(),
            modules: Vec::new(),
            why: Some("the recorded kernel is not the one that runs here, or lies elsewhere since a restart".into()),
        }
    }

    /// Whether a symbol begins there.
    pub fn begins_at(&self, address: u64) -> bool {
        self.symbols
            .binary_search_by_key(&address, |s| s.start)
            .is_ok()
    }

    /// Reads lines of `ADDRESS TYPE NAME [MODULE]`; lines that are none are skipped.
    pub fn parse(text: &str) -> KernelSymbols {
        let mut symbols = Vec::new();
        let mut modules: HashMap<&str, u32> = HashMap::new();
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
                let next = modules.len() as u32;
                symbols.push(Symbol {
                    start: address,
                    name: if code { name } else { "" }.to_owned(),
                    module: words.next().map(|m| *modules.entry(m).or_insert(next)),
                });
            }
        }
        // Of several names for one address the first in the file is kept, and any name before none.
        symbols.sort_by_key(|s| (s.start, s.name.is_empty()));
        symbols.dedup_by_key(|s| s.start);
        let mut by_place: Vec<(&str, u32)> = modules.into_iter().collect();
        by_place.sort_by_key(|m| m.1);
        let modules = by_place.into_iter().map(|m| m.0.to_owned()).collect();
        let why = match (symbols.is_empty(), lines) {
            (false, _) => None,
            (true, 0) => Some("the kernel shows no symbols (/proc/kallsyms is empty)".into()),
            (true, _) => Some(
                "the kernel hides its addresses: record as root, or set kernel.kptr_restrict to 0"
                    .into(),
            ),
        };
        KernelSymbols {
            symbols,
            modules,
            why,
        }
    }

    /// The function that holds an address of what was mapped there, a module as `[name]` for example. Another module's function
    /// is no answer: the module may have gone since, and any symbol be the nearest before the address.
    pub fn name(&self, mapped: &str, address: u64) -> AddressNames {
        let unknown = |why: &str| AddressNames {
            at: address,
            frames: Vec::new(),
            why: Some(why.to_owned()),
        };
        if let Some(why) = &self.why {
            return unknown(why);
        }
        let after = self.symbols.partition_point(|s| s.start <= address);
        let Some(symbol) = after.checked_sub(1).map(|at| &self.symbols[at]) else {
            return unknown("the address lies before the kernel's first symbol");
        };
        let of_module = mapped.starts_with('[') && !mapped.starts_with("[kernel");
        let module = symbol.module.map(|m| &self.modules[m as usize]);
        if of_module && module != Some(&mapped.replace('-', "_")) {
            return unknown("the module was there no more when its functions were looked for");
        }
        let last = after == self.symbols.len();
        if symbol.name.is_empty() || (last && address - symbol.start > LONGEST_LAST) {
            return unknown("no kernel function holds the address");
        }
        AddressNames {
            at: address,
            frames: vec![NamedFrame {
                name: symbol.name.clone(),
                ..NamedFrame::default()
            }],
            why: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Any text is read; a name is that of a symbol which begins at the address or before it.
        #[test]
        fn any_text(
            lines in prop::collection::vec("[0-9a-f]{1,17} [tTdwa] [a-z]{1,3}(\t\\[[ab]\\])?|[ -~]{0,12}", 0..20),
            at in prop_oneof![0..64u64, any::<u64>()],
        ) {
            let symbols = KernelSymbols::parse(&lines.join("\n"));
            prop_assert!(symbols.symbols.len() <= lines.len());
            for mapped in ["[kernel]", "[a]"] {
                let names = symbols.name(mapped, at);
                prop_assert_eq!(names.frames.is_empty(), names.why.is_some());
                let of = |s: &&Symbol| s.start <= at && Some(&s.name) == names.frames.first().map(|f| &f.name);
                prop_assert!(names.frames.is_empty() || symbols.symbols.iter().any(|s| of(&s)));
            }
        }
    }

    const TEXT: &str = "ffffffff81000000 T _stext\nffffffff81000100 t tcp_ack\nffffffff81000100 T tcp_ack_alias\n\
        ffffffff81000200 D some_data\nffffffffc0000000 t nf_hook\t[nf_tables]\nnonsense\n";

    fn name(symbols: &KernelSymbols, address: u64) -> String {
        let names = symbols.name("[kernel]", address);
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

    /// A module's addresses are named by its own functions, not by those of one that lies before it.
    #[test]
    fn module_that_went() {
        let symbols = KernelSymbols::parse(TEXT);
        let why = |module, at| symbols.name(module, at).why;
        let inside = 0xffff_ffff_c000_0010;
        assert_eq!(why("[nf_tables]", inside), None);
        assert_eq!(why("[nf-tables]", inside), None);
        assert!(why("[brd]", inside + 0x4000).unwrap().contains("no more"));
        assert!(why("[brd]", 0xffff_ffff_8100_0010).is_some());
        assert_eq!(why("[kernel.kallsyms]", 0xffff_ffff_8100_0010), None);
        // Code that was found nowhere may be any.
        assert_eq!(why("[kernel]", inside), None);
    }

    /// Hidden addresses name nothing, and say what to do.
    #[test]
    fn hidden() {
        let symbols =
            KernelSymbols::parse("0000000000000000 T _stext\n0000000000000000 t tcp_ack\n");
        assert!(name(&symbols, 0).contains("kptr_restrict"));
    }
}
