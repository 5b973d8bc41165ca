//! Where the kernel's text and its modules lie, now and as modules come.
//!
//! In: `/proc/kallsyms` and `/proc/modules`; out: mappings. Nobody tells of modules: the list is read again on the way, and
//! one that came since is there from when it was seen. It refuses to know functions.

use super::clock;
use crate::trace::record::{Mapping, Meta};
use crate::units::{Avma, Nanos};
use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

/// Between two readings of the list.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the kernel has loaded.
pub struct Kernel {
    known: BTreeSet<Module>,
    looked: Instant,
}

/// A module: first address, bytes, name.
type Module = (u64, u64, String);

impl Kernel {
    /// The kernel's text and its modules. Nothing if their addresses are hidden from us.
    pub fn read(out: &mut Vec<Meta>) -> Kernel {
        let symbols = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
        let time = clock::now();
        out.extend(text(&symbols).map(|(start, len)| {
            let name = "[kernel.kallsyms]".to_string();
            mapping(time, start, len, name)
        }));
        let mut kernel = Kernel {
            known: BTreeSet::new(),
            looked: Instant::now(),
        };
        kernel.look(out);
        kernel
    }

    /// What has come since, if it is time to look.
    pub fn look_again(&mut self, out: &mut Vec<Meta>) {
        if self.looked.elapsed() >= LOOK_EVERY {
            self.look(out);
        }
    }

    /// What has come since.
    pub fn look(&mut self, out: &mut Vec<Meta>) {
        self.looked = Instant::now();
        let list = fs::read_to_string("/proc/modules").unwrap_or_default();
        let time = clock::now();
        let now: BTreeSet<Module> = modules(&list).collect();
        let come = now.difference(&self.known).cloned();
        out.extend(come.map(|(start, len, name)| mapping(time, start, len, name)));
        // One that goes and comes back comes anew.
        self.known = now;
    }
}

fn mapping(time: Nanos, start: u64, len: u64, path: String) -> Meta {
    Meta::Mapping(Mapping {
        time,
        pid: Mapping::KERNEL,
        start: Avma(start),
        len,
        path,
        ..Mapping::default()
    })
}

/// Beginning and length of the kernel's text.
fn text(symbols: &str) -> Option<(u64, u64)> {
    let address = |name: &str| {
        let line = symbols.lines().find(|l| l.ends_with(name))?;
        u64::from_str_radix(line.split(' ').next()?, 16).ok()
    };
    let start = address(" _text").or(address(" _stext"))?;
    let end = address(" _etext")?;
    (start != 0 && end > start).then(|| (start, end - start))
}

/// Lines of `NAME SIZE USES USERS STATE ADDRESS`; where the address is hidden it is zero.
fn modules(list: &str) -> impl Iterator<Item = Module> {
    list.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (name, size) = (fields.next()?, fields.next()?.parse().ok()?);
        let start = fields.nth(3)?.strip_prefix("0x")?;
        let start = u64::from_str_radix(start, 16).ok().filter(|&s| s != 0)?;
        Some((start, size, format!("[{name}]")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Any text is read: no more modules than lines, none at zero, and a text of the kernel that has a length.
        #[test]
        fn any_text(lines in prop::collection::vec("[a-z]{1,3} [0-9]{1,20} 0 - Live 0x[0-9a-f]{1,17}|[0-9a-f]{1,17} T _(e|s)?text|[ -~]{0,12}", 0..20)) {
            let list = lines.join("\n");
            prop_assert!(modules(&list).count() <= lines.len());
            prop_assert!(modules(&list).all(|(start, ..)| start != 0));
            prop_assert!(text(&list).is_none_or(|(start, len)| start != 0 && len != 0));
        }
    }

    const SYMBOLS: &str = "ffffffff81000000 T _text\nffffffff81000000 T _stext\nffffffff82000000 T _etext\n\
        ffffffffc0000000 t nf_hook\t[nf_tables]\n";

    /// Text and modules are where the kernel says, and nowhere if it does not.
    #[test]
    fn lists() {
        assert_eq!(text(SYMBOLS), Some((0xffff_ffff_8100_0000, 0x100_0000)));
        let hidden = "0000000000000000 T _text\n0000000000000000 T _etext\n";
        assert_eq!(text(hidden), None);
        assert_eq!(text(""), None);
        let list = "nf_tables 380928 2 nft_ct,nft_log, Live 0xffffffffc0000000 (OE)\n\
            brd 16384 0 - Loading 0xffffffffc0100000\nhidden 16384 0 - Live 0x0000000000000000\nshort 1\n\nbrd x 0 - Live 0x1\n";
        let found: Vec<_> = modules(list).collect();
        let expected = [
            (0xffff_ffff_c000_0000, 380_928, "[nf_tables]".to_string()),
            (0xffff_ffff_c010_0000, 16_384, "[brd]".to_string()),
        ];
        assert_eq!(found, expected);
    }

    /// Each module is told once, however often one looks, and all are told to one who begins.
    #[test]
    fn told_once() {
        let (mut first, mut again) = (Vec::new(), Vec::new());
        let mut kernel = Kernel::read(&mut first);
        kernel.look(&mut again);
        assert_eq!(again, []);
        let some = kernel.known.pop_first();
        kernel.look(&mut again);
        assert_eq!(again.len(), usize::from(some.is_some()));
    }
}
