//! Whether the CPU's counter is one clock: of the same length at all times, and the same on all CPUs.
//!
//! In: nothing; out: a [`Skew`]: two threads on two CPUs show each other their counters, and the fastest answers in each
//! direction tell how far apart they are and how well that can be known; with what the kernel says, a [`Doubt`]. It
//! refuses to correct anything.

use super::{clock, proc};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How far apart the counters of CPUs are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skew {
    /// What is certain, in nanoseconds.
    pub apart_ns: u64,
    /// How well it is known.
    pub within_ns: u64,
    /// The CPUs.
    pub cpus: (u32, u32),
}

/// Counters of CPUs that are further apart than this are not one clock.
const TOLERATED_NS: u64 = 2_000;

/// Why the counter is not to be trusted as a clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Its ticks change their length, or it stops: what the kernel takes for its clock instead.
    Varies(String),
    /// The CPUs' counters differ.
    Apart(Skew),
    /// The kernel's clock is another one: it may have found the counter unstable.
    Replaced(String),
}

impl Doubt {
    /// From the flags of the CPU, the kernel's clock source, and what was measured.
    pub fn of(flags: &str, source: &str, skew: Option<Skew>) -> Option<Doubt> {
        let has = |flag: &str| flags.split_ascii_whitespace().any(|f| f == flag);
        if !has("constant_tsc") || !has("nonstop_tsc") {
            return Some(Doubt::Varies(source.to_owned()));
        }
        if let Some(skew) = skew.filter(|s| s.apart_ns > TOLERATED_NS) {
            return Some(Doubt::Apart(skew));
        }
        // Clocks of hypervisors are made of the counter.
        let trusts = ["tsc", "kvm-clock", "unknown", ""].contains(&source);
        (!trusts && !source.starts_with("hyperv")).then(|| Doubt::Replaced(source.to_owned()))
    }

    /// Of this machine, while something else may be running on it: for no longer than `IN_PASSING` on any CPU, and on
    /// those only that this process may run on.
    pub fn here() -> Option<Doubt> {
        if std::env::consts::ARCH != "x86_64" {
            // The generic timer is one clock by its architecture.
            return None;
        }
        let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
        let mut lines = text.lines().filter_map(|l| l.split_once(':'));
        let flags = lines.find(|l| l.0.trim() == "flags")?.1;
        let source = std::fs::read_to_string(
            "/sys/devices/system/clocksource/clocksource0/current_clocksource",
        );
        Doubt::of(
            flags,
            source.unwrap_or_default().trim(),
            measure(IN_PASSING),
        )
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doubt::Varies(source) => write!(
                f,
                "the counter is not invariant (constant_tsc, nonstop_tsc); clock source {source}"
            ),
            Doubt::Apart(skew) => write!(
                f,
                "counters of CPUs {} and {} are {} ns apart",
                skew.cpus.0, skew.cpus.1, skew.apart_ns
            ),
            Doubt::Replaced(source) => write!(
                f,
                "the kernel's clock source is {source}: it may have found the counter unstable"
            ),
        }
    }
}

/// Time for one pair of CPUs where there is time.
pub const AT_LEISURE: Duration = Duration::from_millis(8);
/// The same where others are to be disturbed as little as opening events disturbs them.
const IN_PASSING: Duration = Duration::from_micros(300);
/// CPUs that are compared with the first at most.
const MOST: usize = 64;
/// Between two readings of both clocks, to tell the length of a tick.
const TICKS: Duration = Duration::from_millis(5);

/// The worst of all CPUs against the first; `None` if there is one CPU, or this process may run on one only.
pub fn measure(each: Duration) -> Option<Skew> {
    let set = sched_getaffinity(None).ok()?;
    let mut cpus = proc::cpus();
    cpus.retain(|&c| (c as usize) < CpuSet::MAX_CPU && set.is_set(c as usize));
    let (&first, others) = cpus.split_first()?;
    if others.is_empty() {
        return None;
    }
    let a = clock::pair();
    std::thread::sleep(TICKS);
    let b = clock::pair();
    let ns_per_tick =
        b.time.since(a.time).ns() as f64 / b.tsc().saturating_sub(a.tsc()).max(1) as f64;
    let of = |&other: &u32| {
        let ways = exchange(first, other, each)?;
        Some(skew(ways, ns_per_tick, (first, other)))
    };
    let all = others.iter().take(MOST).filter_map(of);
    all.max_by_key(|s| (s.apart_ns, s.within_ns))
}

/// What the shortest ways there and back tell, in ticks: each is the way plus or minus what the counters are apart, and
/// no way takes less than nothing.
fn skew((there, back): (i64, i64), ns_per_tick: f64, cpus: (u32, u32)) -> Skew {
    let apart = there.abs_diff(back) / 2;
    let way = there.saturating_add(back).unsigned_abs() / 2;
    let ns = |ticks: u64| (ticks as f64 * ns_per_tick) as u64;
    Skew {
        apart_ns: ns(apart.saturating_sub(way)),
        within_ns: ns(way),
        cpus,
    }
}

/// The shortest ways from one CPU to another and back, in ticks.
fn exchange(one: u32, other: u32, each: Duration) -> Option<(i64, i64)> {
    let (ball, answer, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let answerer = scope.spawn(|| {
            stay_on(other)?;
            let (mut seen, mut shortest) = (0, i64::MAX);
            while !over.load(Ordering::Relaxed) {
                let sent = ball.load(Ordering::Acquire);
                if sent == seen {
                    std::hint::spin_loop();
                    continue;
                }
                seen = sent;
                let now = clock::counter();
                shortest = shortest.min(now.wrapping_sub(sent).cast_signed());
                answer.store(clock::counter(), Ordering::Release);
            }
            Some(shortest)
        });
        let asked = scope.spawn(|| {
            let placed = stay_on(one);
            let (mut seen, mut shortest) = (0, i64::MAX);
            let began = Instant::now();
            while placed.is_some() && began.elapsed() < each {
                ball.store(clock::counter(), Ordering::Release);
                // The other thread may not be there yet, or have no CPU: then it is asked again.
                for _ in 0..20_000 {
                    let told = answer.load(Ordering::Acquire);
                    if told != seen {
                        seen = told;
                        let now = clock::counter();
                        shortest = shortest.min(now.wrapping_sub(told).cast_signed());
                        break;
                    }
                    std::hint::spin_loop();
                }
            }
            over.store(true, Ordering::Relaxed);
            placed.map(|()| shortest)
        });
        let back = asked.join().ok()??;
        let there = answerer.join().ok()??;
        (there < i64::MAX && back < i64::MAX).then_some((there, back))
    })
}

fn stay_on(cpu: u32) -> Option<()> {
    let mut set = CpuSet::new();
    set.set(cpu as usize);
    sched_setaffinity(None, &set).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that runs this has counters that agree, or one CPU.
    #[test]
    fn of_this_machine() {
        if let Some(skew) = measure(AT_LEISURE) {
            assert!(skew.apart_ns < 1_000_000, "{skew:?}");
        }
    }

    /// Readings on two CPUs whose counters are known to be apart: found if it is more than the way can hide, whichever
    /// is ahead, and never more than there is.
    #[test]
    fn apart() {
        for (ahead, way, least) in [
            (0i64, 200i64, 0),
            (150, 200, 0),
            (50_000, 200, 49_800),
            (-50_000, 200, 49_800),
        ] {
            // Half a nanosecond a tick.
            let found = skew((way + ahead, way - ahead), 0.5, (0, 1));
            assert_eq!(found.apart_ns, least / 2, "{ahead}");
            assert!(found.apart_ns <= ahead.unsigned_abs() / 2 && found.within_ns == 100);
        }
    }

    /// Every doubt there is, and none where there is none.
    #[test]
    fn doubts() {
        let good = "fpu constant_tsc nonstop_tsc";
        let skew = |apart_ns| Skew {
            apart_ns,
            within_ns: 100,
            cpus: (0, 3),
        };
        for (flags, source, apart, words) in [
            ("fpu tsc", "hpet", 0, "not invariant"),
            ("constant_tsc", "tsc", 0, "not invariant"),
            (good, "tsc", 2_001, "CPUs 0 and 3 are 2001 ns apart"),
            (good, "acpi_pm", 0, "acpi_pm: it may have"),
        ] {
            let doubt = Doubt::of(flags, source, Some(skew(apart))).unwrap();
            assert!(doubt.to_string().contains(words), "{doubt}");
        }
        for source in ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page"] {
            assert_eq!(Doubt::of(good, source, Some(skew(100))), None);
        }
        assert_eq!(Doubt::of(good, "tsc", None), None);
    }
}
