//! What samples can say, and how surely.
//!
//! In: counts and weights of samples; out: shares with 95 % intervals. Without probes the share of empty polling is an
//! estimate from functions that are sampled when nothing is to be done (*poll symbols*), better with a recording of the
//! same program idle: driver calls are work or polling by what they return, which their names do not tell, but when
//! idle all of them are polling.

use std::collections::BTreeMap;

/// The normal distribution's two-sided 95 % point.
const Z: f64 = 1.959_964;

/// Samples of an idle thread from which on it is compared with.
const ENOUGH: f64 = 30.0;

/// A share of 1 with its 95 % interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share {
    /// The likeliest value.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Share {
    /// A share that was measured, not sampled.
    pub fn exact(value: f64) -> Share {
        Share {
            value,
            low: value,
            high: value,
        }
    }

    /// The share of samples with weight `part` among samples with weight `all`, of which there are effectively `n`: the
    /// interval is Wilson's (JASA 22, 1927), which stays inside 0 to 1 and does not collapse at either end.
    pub fn sampled(part: f64, all: f64, n: f64) -> Share {
        if all <= 0.0 || n <= 0.0 {
            return Share {
                value: 0.0,
                low: 0.0,
                high: 1.0,
            };
        }
        let p = (part / all).clamp(0.0, 1.0);
        let z2 = Z * Z / n;
        let centre = (p + z2 / 2.0) / (1.0 + z2);
        let half = Z / (1.0 + z2) * (p * (1.0 - p) / n + z2 / (4.0 * n)).sqrt();
        Share {
            value: p,
            low: (centre - half).clamp(0.0, p),
            high: (centre + half).clamp(p, 1.0),
        }
    }

    /// The rest of 1.
    pub fn rest(self) -> Share {
        Share {
            value: 1.0 - self.value,
            low: 1.0 - self.high,
            high: 1.0 - self.low,
        }
    }

    /// `self` as a part of `whole`: value by value, the interval by both errors together, each a quarter of its width a
    /// standard deviation, to the first order.
    pub fn over(self, whole: Share) -> Share {
        if whole.value <= 0.0 {
            return Share {
                value: 1.0,
                low: 0.0,
                high: 1.0,
            };
        }
        let value = self.value / whole.value;
        let deviation = |s: Share| {
            if s.value > 0.0 {
                (s.high - s.low) / s.value
            } else {
                0.0
            }
        };
        let own = if self.value > 0.0 {
            value * deviation(self)
        } else {
            (self.high - self.low) / whole.value
        };
        let half = own.hypot(value * deviation(whole)) / 2.0;
        Share {
            value: value.min(1.0),
            low: (value - half).clamp(0.0, 1.0),
            high: (value + half).clamp(0.0, 1.0),
        }
    }
}

/// Samples of unequal weight count as fewer: `(sum w)^2 / sum w^2` (Kish, Survey Sampling, 1965).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weighed {
    /// Sum of the weights.
    pub sum: f64,
    /// Sum of their squares.
    pub squares: f64,
}

impl Weighed {
    /// Adds `samples` of equal weight that sum up to `weight`.
    pub fn add(&mut self, weight: f64, samples: u64) {
        self.sum += weight;
        if samples > 0 {
            self.squares += weight * weight / samples as f64;
        }
    }

    /// Adds samples whose weights' squares sum up to `squares`.
    pub fn add_squares(&mut self, weight: f64, squares: f64) {
        self.sum += weight;
        self.squares += squares;
    }

    /// As many samples of equal weight would say as much.
    pub fn effective(&self) -> f64 {
        if self.squares > 0.0 {
            self.sum * self.sum / self.squares
        } else {
            0.0
        }
    }
}

/// How an estimate of empty polling was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// From the share of poll symbols alone: work inside them counts as polling, polling inside other functions (driver
    /// receive calls) as work. Its interval is that of sampling, not of this.
    PollSymbols,
    /// Compared with the same program idle.
    Calibrated,
}

impl Method {
    /// The name in outputs.
    pub fn name(self) -> &'static str {
        match self {
            Method::PollSymbols => "poll symbols",
            Method::Calibrated => "idle calibration",
        }
    }
}

/// An estimated share of empty polling (or idling) in a thread's samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The share.
    pub empty: Share,
    /// How it was made.
    pub method: Method,
}

/// What a program's threads look like when they have nothing to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Idle {
    /// By role, or by name for threads without one.
    pub roles: BTreeMap<String, IdleMix>,
}

/// Samples of an idle thread.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IdleMix {
    /// All of its samples.
    pub all: Weighed,
    /// Weight in the symbols that are compared: those that are steady, or all poll symbols where none is.
    pub compared: f64,
    /// Whether only steady symbols are compared.
    pub steady: bool,
    /// Weight by phase outside of them.
    pub others: BTreeMap<&'static str, f64>,
    /// Innermost functions seen outside of poll symbols, and in how many samples: any other one is work.
    pub functions: BTreeMap<String, u64>,
    /// All samples.
    pub samples: u64,
}

impl IdleMix {
    /// Share of the compared symbols when there is nothing to do.
    pub fn idle_share(&self) -> Share {
        Share::sampled(self.compared, self.all.sum, self.all.effective())
    }

    /// The share of empty polling when `compared` of the weight is in the same symbols, and `unseen` in functions that
    /// were never seen when there was nothing to do. These are work but for those that idling calls too rarely to have
    /// been seen: their share is that of functions seen once (Good, Biometrika 40, 1953).
    pub fn empty(&self, compared: Share, unseen: Share) -> Share {
        let empty = compared.over(self.idle_share());
        let once = self.functions.values().filter(|n| **n == 1).count();
        let rare = once as f64 / self.samples.max(1) as f64;
        let most = |unseen: f64| 1.0 - (unseen - rare).max(0.0);
        let value = empty.value.min(most(unseen.value));
        Share {
            value,
            low: empty.low.min(value),
            high: empty.high.min(most(unseen.low)).max(value),
        }
    }

    /// Whether it holds enough to compare with.
    pub fn is_enough(&self) -> bool {
        self.compared > 0.0 && self.all.effective() >= ENOUGH
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Known intervals: 10 of 100 (Wilson: 5.5 to 17.4 %), none of 100 (0 to 3.7 %).
    #[test]
    fn wilson() {
        let share = Share::sampled(10.0, 100.0, 100.0);
        assert!(
            (share.low - 0.0552).abs() < 1e-3 && (share.high - 0.1744).abs() < 1e-3,
            "{share:?}"
        );
        let none = Share::sampled(0.0, 100.0, 100.0);
        assert!(
            none.low == 0.0 && (none.high - 0.0370).abs() < 1e-3,
            "{none:?}"
        );
        assert_eq!(Share::sampled(0.0, 0.0, 0.0).high, 1.0);
    }

    /// 60 % of poll symbols where idling shows 80 % are three quarters of empty polling.
    #[test]
    fn calibration() {
        let mut idle = IdleMix::default();
        idle.all.add(1000.0, 1000);
        idle.compared = 800.0;
        let compared = Share::sampled(600.0, 1000.0, 1000.0);
        let empty = idle.empty(compared, Share::default());
        assert!((empty.value - 0.75).abs() < 1e-9);
        // Standard errors: 1.55 points of 60, 1.26 of 80: together 2.3 points of 75.
        assert!(
            (empty.high - empty.low - 4.0 * 0.0227).abs() < 0.004,
            "{empty:?}"
        );
        // What is never seen when idle is work, whatever the comparison says, but for what is rarely seen.
        idle.samples = 1000;
        idle.functions = (0..20).map(|n| (n.to_string(), 1)).collect();
        let empty = idle.empty(compared, Share::sampled(400.0, 1000.0, 1000.0));
        assert!((empty.value - 0.62).abs() < 1e-9 && empty.high < 0.66);
        assert!(idle.is_enough() && !IdleMix::default().is_enough());
    }

    proptest! {
        /// Values lie in their intervals, intervals in 0 to 1, and more samples never widen them.
        #[test]
        fn sane(part in 0.0f64..1.0, n in 1.0f64..1e6, polls in 0.001f64..1.0) {
            let share = Share::sampled(part, 1.0, n);
            prop_assert!(0.0 <= share.low && share.low <= share.value && share.value <= share.high && share.high <= 1.0);
            let more = Share::sampled(part, 1.0, n * 2.0);
            prop_assert!(more.high - more.low <= share.high - share.low);
            let over = share.over(Share::sampled(polls, 1.0, n));
            prop_assert!(0.0 <= over.low && over.low <= over.value && over.value <= over.high && over.high <= 1.0);
        }
    }
}
