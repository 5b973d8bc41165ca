//! Ratios of counts: which events say something together, and what.
//!
//! In: counts by name; out: [`Ratio`]s. Only what counts the same code is divided: names with the same modifiers, or a
//! clock. It refuses to know how counts were made.

use super::Count;

/// A ratio of two counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Ratio {
    /// For machines.
    pub id: String,
    /// The event that it is written beside.
    pub beside: String,
    /// The number.
    pub value: f64,
    /// What it is, in words.
    pub what: String,
    /// Whether it is a share of 1.
    pub share: bool,
}

/// Ratios of one event to another: the events' names, the factor, and what comes of it.
struct Rule {
    of: &'static [&'static str],
    to: &'static [&'static str],
    factor: f64,
    id: &'static str,
    what: &'static str,
    share: bool,
}

const CYCLES: &[&str] = &["cycles", "cpu-cycles"];
const INSTRUCTIONS: &[&str] = &["instructions"];

const fn rule(
    of: &'static [&'static str],
    to: &'static [&'static str],
    factor: f64,
    id: &'static str,
    what: &'static str,
) -> Rule {
    Rule {
        of,
        to,
        factor,
        id,
        what,
        share: false,
    }
}

const fn share(
    of: &'static [&'static str],
    to: &'static [&'static str],
    id: &'static str,
    what: &'static str,
) -> Rule {
    Rule {
        of,
        to,
        factor: 1.0,
        id,
        what,
        share: true,
    }
}

const BRANCHES: &[&str] = &["branches", "branch-instructions"];

const RULES: &[Rule] = &[
    rule(INSTRUCTIONS, CYCLES, 1.0, "ipc", "instructions per cycle"),
    // Nanoseconds below, so that it comes out in GHz.
    rule(CYCLES, &["task-clock", "cpu-clock"], 1.0, "ghz", "GHz"),
    share(
        &["branch-misses"],
        BRANCHES,
        "branch_miss_share",
        "of all branches",
    ),
    share(
        &["cache-misses"],
        &["cache-references"],
        "cache_miss_share",
        "of all cache references",
    ),
    share(
        &["LLC-load-misses"],
        &["LLC-loads"],
        "llc_load_miss_share",
        "of LLC loads",
    ),
    share(
        &["L1-dcache-load-misses"],
        &["L1-dcache-loads"],
        "l1d_load_miss_share",
        "of L1 data loads",
    ),
    share(
        &["dTLB-load-misses"],
        &["dTLB-loads"],
        "dtlb_load_miss_share",
        "of data TLB loads",
    ),
    share(
        &["stalled-cycles-frontend", "idle-cycles-frontend"],
        CYCLES,
        "frontend_stall_share",
        "of cycles stalled in the front end",
    ),
    share(
        &["stalled-cycles-backend", "idle-cycles-backend"],
        CYCLES,
        "backend_stall_share",
        "of cycles stalled in the back end",
    ),
];

/// Events that are told in so many per thousand instructions.
const MISSES: &[(&str, &str)] = &[
    ("branch-misses", "branch_mpki"),
    ("cache-misses", "cache_mpki"),
    ("LLC-load-misses", "llc_mpki"),
    ("L1-dcache-load-misses", "l1d_mpki"),
    ("L1-icache-load-misses", "l1i_mpki"),
    ("dTLB-load-misses", "dtlb_mpki"),
    ("iTLB-load-misses", "itlb_mpki"),
];

/// A name and its modifiers.
fn parts(name: &str) -> (&str, &str) {
    name.split_once(':').unwrap_or((name, ""))
}

/// Everything that the counts of `seconds` say together.
pub fn ratios(counts: &[Count], seconds: f64) -> Vec<Ratio> {
    let mut ratios = Vec::new();
    // Only counts of the same code can be compared; a clock runs in user code and kernel alike.
    let find = |names: &[&str], modifiers: &str| {
        counts.iter().find_map(|c| {
            let (name, own) = parts(&c.name);
            let same = own == modifiers || c.unit == "ns";
            let value = c.value.filter(|&v| v > 0.0)?;
            (names.contains(&name) && same).then_some(value)
        })
    };
    for count in counts {
        let (name, modifiers) = parts(&count.name);
        let Some(value) = count.value else {
            continue;
        };
        let mut add = |id: &str, value: f64, what: &str, share| {
            ratios.push(Ratio {
                id: id.to_owned(),
                beside: count.name.clone(),
                value,
                what: what.to_owned(),
                share,
            });
        };
        if count.unit == "ns" && seconds > 0.0 {
            add("cpus", value / 1e9 / seconds, "CPUs used", false);
        }
        for rule in RULES.iter().filter(|r| r.of.contains(&name)) {
            if let Some(to) = find(rule.to, modifiers) {
                add(rule.id, value / to * rule.factor, rule.what, rule.share);
            }
        }
        if let Some((_, id)) = MISSES.iter().find(|m| m.0 == name)
            && let Some(instructions) = find(INSTRUCTIONS, modifiers)
        {
            add(
                id,
                value / instructions * 1e3,
                "per 1000 instructions",
                false,
            );
        }
    }
    ratios
}
