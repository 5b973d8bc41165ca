//! Names that every kernel understands: hardware, cache and software events.
//!
//! In: a name; out: its type and number in the kernel's interface. It refuses to know what this machine has.

/// `PERF_TYPE_HARDWARE`.
pub const HARDWARE: u32 = 0;
/// `PERF_TYPE_SOFTWARE`.
pub const SOFTWARE: u32 = 1;
/// `PERF_TYPE_TRACEPOINT`.
pub const TRACEPOINT: u32 = 2;
/// `PERF_TYPE_HW_CACHE`.
pub const CACHE: u32 = 3;
/// `PERF_TYPE_RAW`.
pub const RAW: u32 = 4;
/// `PERF_TYPE_BREAKPOINT`.
pub const BREAKPOINT: u32 = 5;

/// Hardware events by the kernel's number; the first name of each is the usual one.
pub const HARDWARE_NAMES: &[&[&str]] = &[
    &["cycles", "cpu-cycles"],
    &["instructions"],
    &["cache-references"],
    &["cache-misses"],
    &["branches", "branch-instructions"],
    &["branch-misses"],
    &["bus-cycles"],
    &["stalled-cycles-frontend", "idle-cycles-frontend"],
    &["stalled-cycles-backend", "idle-cycles-backend"],
    &["ref-cycles"],
];

/// Software events by the kernel's number.
pub const SOFTWARE_NAMES: &[&[&str]] = &[
    &["cpu-clock"],
    &["task-clock"],
    &["page-faults", "faults"],
    &["context-switches", "cs"],
    &["cpu-migrations", "migrations"],
    &["minor-faults"],
    &["major-faults"],
    &["alignment-faults"],
    &["emulation-faults"],
    &["dummy"],
    &["bpf-output"],
    &["cgroup-switches"],
];

/// Caches by the kernel's number.
const CACHES: &[&[&str]] = &[
    &["L1-dcache", "l1-d", "l1d", "L1-data"],
    &["L1-icache", "l1-i", "l1i", "L1-instruction"],
    &["LLC", "L2"],
    &["dTLB", "d-tlb", "Data-TLB"],
    &["iTLB", "i-tlb", "Instruction-TLB"],
    &["branch", "branches", "bpu", "btb", "bpc"],
    &["node"],
];

/// What is done to a cache.
const OPERATIONS: &[&[&str]] = &[
    &["loads", "load", "read"],
    &["stores", "store", "write"],
    &[
        "prefetches",
        "prefetch",
        "speculative-read",
        "speculative-load",
    ],
];

/// What comes of it.
const RESULTS: &[&[&str]] = &[&["refs", "Reference", "ops", "access"], &["misses", "miss"]];

/// Which operations a cache knows, by the number of the cache.
const KNOWN_OPERATIONS: &[&[usize]] = &[
    &[0, 1, 2],
    &[0, 2],
    &[0, 1, 2],
    &[0, 1, 2],
    &[0],
    &[0],
    &[0, 1, 2],
];

/// Type and number of a generic name.
pub fn generic(name: &str) -> Option<(u32, u64)> {
    let place = |names: &[&[&str]]| names.iter().position(|n| n.contains(&name));
    if let Some(at) = place(HARDWARE_NAMES) {
        return Some((HARDWARE, at as u64));
    }
    if let Some(at) = place(SOFTWARE_NAMES) {
        return Some((SOFTWARE, at as u64));
    }
    cache(name).map(|config| (CACHE, config))
}

/// `L1-dcache-load-misses` and the like.
fn cache(name: &str) -> Option<u64> {
    let strip = |rest: &str, names: &[&[&str]]| {
        let mut found: Option<(usize, usize)> = None;
        for (at, words) in names.iter().enumerate() {
            for word in *words {
                let whole = rest.strip_prefix(word);
                let fits = whole.is_some_and(|r| r.is_empty() || r.starts_with('-'));
                if fits && found.is_none_or(|(_, len)| len < word.len()) {
                    found = Some((at, word.len()));
                }
            }
        }
        found
    };
    let (cache, len) = strip(name, CACHES)?;
    let mut rest = &name[len..];
    let (mut operation, mut result) = (None, None);
    while let Some(part) = rest.strip_prefix('-') {
        if let Some((at, len)) = strip(part, OPERATIONS).filter(|_| operation.is_none()) {
            operation = Some(at);
            rest = &part[len..];
        } else if let Some((at, len)) = strip(part, RESULTS).filter(|_| result.is_none()) {
            result = Some(at);
            rest = &part[len..];
        } else {
            return None;
        }
    }
    let operation = operation.unwrap_or(0);
    if !KNOWN_OPERATIONS[cache].contains(&operation) {
        return None;
    }
    Some((cache | operation << 8 | result.unwrap_or(0) << 16) as u64)
}

/// The usual names of all cache events.
pub fn cache_names() -> Vec<String> {
    let mut names = Vec::new();
    for (cache, words) in CACHES.iter().enumerate() {
        for &operation in KNOWN_OPERATIONS[cache] {
            // perf's habit: the accesses by the plural, the misses by the singular.
            let (plural, singular) = (OPERATIONS[operation][0], OPERATIONS[operation][1]);
            names.push(format!("{}-{plural}", words[0]));
            names.push(format!("{}-{singular}-misses", words[0]));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of each kind, and names that only look like one.
    #[test]
    fn numbers() {
        assert_eq!(generic("cpu-cycles"), Some((HARDWARE, 0)));
        assert_eq!(generic("ref-cycles"), Some((HARDWARE, 9)));
        assert_eq!(generic("cs"), Some((SOFTWARE, 3)));
        assert_eq!(generic("L1-dcache-load-misses"), Some((CACHE, 0x10000)));
        assert_eq!(generic("LLC-stores"), Some((CACHE, 0x102)));
        assert_eq!(generic("branches"), Some((HARDWARE, 4)));
        assert_eq!(generic("branch-load-misses"), Some((CACHE, 0x10005)));
        for name in [
            "iTLB-stores",
            "LLC-x",
            "LLC-",
            "nodes",
            "LLCloads",
            "LLC-load-load",
        ] {
            assert_eq!(generic(name), None, "{name}");
        }
        for name in cache_names() {
            assert!(generic(&name).is_some(), "{name}");
        }
    }
}
