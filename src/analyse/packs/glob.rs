//! Patterns for the names of functions and threads: `*` stands for anything, all else for itself.
//!
//! In: patterns of packs, names of frames; out: whether they fit. Names are compared as compilers decorate them least:
//! see [`plain`].

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    text: String,
}

impl Glob {
    /// A pattern from its text.
    pub fn new(text: &str) -> Glob {
        Glob {
            text: text.to_owned(),
        }
    }

    /// The pattern's text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a name fits. Linear in the lengths but for the last `*`, which may be tried at each place once.
    pub fn fits(&self, name: &str) -> bool {
        let (pattern, name) = (self.text.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while n < name.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    retry = Some((p + 1, n));
                    p += 1;
                }
                Some(&c) if c == name[n] => {
                    p += 1;
                    n += 1;
                }
                _ => match retry {
                    Some((after, from)) => {
                        retry = Some((after, from + 1));
                        p = after;
                        n = from + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|&c| c == b'*')
    }

    /// Whether every name that fits `other` fits this too, as far as the text tells.
    pub fn covers(&self, other: &Glob) -> bool {
        self.fits(&other.text)
    }
}

/// What compilers, linkers and unwinders append to a function's name and what it is called all the same.
const CLONES: &[&str] = &[
    ".isra.",
    ".part.",
    ".constprop.",
    ".llvm.",
    ".lto_priv.",
    ".cold",
    ".localalias",
    ".ipa-",
];

/// A name without marks of clones (`f.isra.0`, `f.cold`), symbol versions (`f@@GLIBC_2.2.5`), offsets (`f+0x1c`) and
/// the
/// hash of old Rust names.
pub fn plain(name: &str) -> &str {
    let mut name = name.trim();
    if let Some((before, after)) = name.rsplit_once("+0x")
        && !before.is_empty()
        && after.bytes().all(|b| b.is_ascii_hexdigit())
    {
        name = before;
    }
    for mark in CLONES {
        if let Some(at) = name.find(mark).filter(|&at| at > 0) {
            name = &name[..at];
        }
    }
    if let Some((before, _)) = name.split_once("@@").filter(|(b, _)| !b.is_empty()) {
        name = before;
    }
    if let Some((before, hash)) = name.rsplit_once("::h")
        && hash.len() == 16
        && hash.bytes().all(|b| b.is_ascii_hexdigit())
    {
        name = before;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Stars match anything, also nothing; other characters only themselves.
    #[test]
    fn fits() {
        let fits = |pattern, name| Glob::new(pattern).fits(name);
        assert!(fits("tcp_*", "tcp_ack") && fits("*lock*", "pthread_spin_lock"));
        assert!(fits("tcp*gso_segment", "tcp4_gso_segment") && fits("a*", "a"));
        assert!(fits("*::Stack<*>::round", "f::Stack<dyn A>::round"));
        assert!(!fits("tcp_*", "__tcp_ack") && !fits("free", "kfree") && !fits("a*b", "a"));
        assert!(Glob::new("tcp_*").covers(&Glob::new("tcp_ack*")));
        assert!(!Glob::new("tcp_ack*").covers(&Glob::new("tcp_*")));
    }

    /// Decorations go, names stay.
    #[test]
    fn plain_names() {
        assert_eq!(plain("tcp_ack.isra.0.cold"), "tcp_ack");
        assert_eq!(plain("memcpy@@GLIBC_2.14"), "memcpy");
        assert_eq!(plain("memcpy@plt"), "memcpy@plt");
        assert_eq!(plain("do_idle+0x1f"), "do_idle");
        assert_eq!(plain("a::b::h0123456789abcdef"), "a::b");
        assert_eq!(plain("core::ops::add"), "core::ops::add");
    }

    proptest! {
        /// Any text fits itself with any part of it replaced by a star.
        #[test]
        fn own_pattern(text in "[a-z_:]{0,12}", from in 0usize..12, to in 0usize..12) {
            let (from, to) = (from.min(to).min(text.len()), from.max(to).min(text.len()));
            let pattern = format!("{}*{}", &text[..from], &text[to..]);
            prop_assert!(Glob::new(&pattern).fits(&text));
        }
    }
}
