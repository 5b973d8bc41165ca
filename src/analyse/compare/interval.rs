//! How far a number may be off, by how it scatters over the windows of a run, and when two numbers differ.
//!
//! In: a statistic of all windows and of all but one; out: an [`Uncertain`] value. The standard error is the jackknife's
//! (Tukey, Annals of Mathematical Statistics 29, 1958): it needs no formula of the statistic, so shares, means and sums
//! all go the same way, and what moves together in the windows stays together. It never lies below what the number of
//! samples alone makes uncertain. It refuses to know what differs between two runs of the same program.

/// A two-sided level: the normal distribution's point, and what it is called.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level(f64);

/// Intervals as they are printed.
pub const PRINTED: Level = Level(1.959_964);
/// Where a difference is believed: 99.8 %, so that of 25 rows which do not differ one is believed in at most 5 % of all
/// comparisons (Bonferroni).
pub const BELIEVED: Level = Level(3.090_232);

impl Level {
    /// The normal distribution's point.
    pub fn point(self) -> f64 {
        self.0
    }
}

/// A number with its standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Uncertain {
    /// The number.
    pub value: f64,
    /// Its standard error.
    pub error: f64,
    /// Degrees of freedom of the error; infinite where it is not estimated from a few windows.
    pub freedom: f64,
}

impl Uncertain {
    /// A value, its values with each window left out, and the error that sampling alone makes.
    pub fn of(value: f64, left_out: &[f64], sampling: f64) -> Uncertain {
        let n = left_out.len() as f64;
        let mean = left_out.iter().sum::<f64>() / n.max(1.0);
        let squares: f64 = left_out.iter().map(|v| (v - mean).powi(2)).sum();
        let scatter = if n > 1.0 {
            (squares * (n - 1.0) / n).sqrt()
        } else {
            0.0
        };
        Uncertain {
            value,
            error: scatter.max(sampling),
            freedom: if scatter > 0.0 {
                n - 1.0
            } else {
                f64::INFINITY
            },
        }
    }

    /// `self - before`, from two recordings that know nothing of each other (Welch, Biometrika 34, 1947).
    pub fn since(&self, before: &Uncertain) -> Uncertain {
        let (own, other) = (self.error.powi(2), before.error.powi(2));
        let variance = own + other;
        let of_freedom = own * own / self.freedom + other * other / before.freedom;
        Uncertain {
            value: self.value - before.value,
            error: variance.sqrt(),
            freedom: if of_freedom > 0.0 {
                variance * variance / of_freedom
            } else {
                f64::INFINITY
            },
        }
    }

    /// Half the width of the interval at a level.
    pub fn half(&self, level: Level) -> f64 {
        student(level, self.freedom) * self.error
    }

    /// Whether 0 lies outside of the interval at a level. A number without any error is not believed: nothing tells it.
    pub fn differs(&self, level: Level) -> bool {
        self.error > 0.0 && self.value.abs() > self.half(level)
    }
}

/// Student's t at a level, from the normal distribution's point (Peizer and Pratt's series as in Abramowitz and Stegun
/// 26.7.5). Good to 1 % from 7 degrees of freedom on, below that too small.
fn student(level: Level, freedom: f64) -> f64 {
    let z = level.0;
    if !freedom.is_finite() {
        return z;
    }
    let n = freedom.max(1.0);
    let power = |p: i32| z.powi(p);
    let terms = [
        (power(3) + z) / 4.0,
        (5.0 * power(5) + 16.0 * power(3) + 3.0 * z) / 96.0,
        (3.0 * power(7) + 19.0 * power(5) + 17.0 * power(3) - 15.0 * z) / 384.0,
        (79.0 * power(9) + 776.0 * power(7) + 1482.0 * power(5) - 1920.0 * power(3) - 945.0 * z)
            / 92_160.0,
    ];
    let series = terms.iter().rev().fold(0.0, |sum, term| (sum + term) / n);
    z + series
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tables of Student's distribution: 0.975 and 0.999 at 7, 15 and 30 degrees of freedom.
    #[test]
    fn as_in_tables() {
        let table = [
            (7.0, 2.365, 4.785),
            (15.0, 2.131, 3.733),
            (30.0, 2.042, 3.385),
        ];
        for (freedom, printed, believed) in table {
            let found = (student(PRINTED, freedom), student(BELIEVED, freedom));
            assert!(
                (found.0 / printed - 1.0).abs() < 0.002,
                "{freedom}: {found:?}"
            );
            assert!(
                (found.1 / believed - 1.0).abs() < 0.01,
                "{freedom}: {found:?}"
            );
        }
        assert_eq!(student(PRINTED, f64::INFINITY), PRINTED.0);
    }

    /// The jackknife of a mean is the standard error of a mean; sampling sets a floor.
    #[test]
    fn of_a_mean() {
        let values = [9.0, 11.0, 10.0, 12.0, 8.0, 10.0, 10.0, 10.0];
        let sum: f64 = values.iter().sum();
        let left_out: Vec<_> = values.iter().map(|v| (sum - v) / 7.0).collect();
        let mean = Uncertain::of(10.0, &left_out, 0.0);
        let squares: f64 = values.iter().map(|v| (v - 10.0f64).powi(2)).sum();
        assert!((mean.error - (squares / 7.0 / 8.0).sqrt()).abs() < 1e-9);
        assert_eq!(mean.freedom, 7.0);
        assert_eq!(Uncertain::of(10.0, &left_out, 5.0).error, 5.0);
        let same = mean.since(&mean);
        assert!(!same.differs(PRINTED) && (same.freedom - 14.0).abs() < 1e-9);
        let far = Uncertain {
            value: 20.0,
            ..mean
        };
        assert!(far.since(&mean).differs(BELIEVED));
    }
}
