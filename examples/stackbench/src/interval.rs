//! A mean of a few measurements and how far it may be off.
//!
//! In: differences measured in the same way, one a cycle; out: their mean and the interval that holds the true one with
//! 95 % confidence if they scatter normally (Student, Biometrika 1908).

/// A mean with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The mean.
    pub mean: f64,
    /// The interval reaches this far to both sides; infinite with fewer than two measurements.
    pub half: f64,
}

/// Quantiles of Student's t at 0.975 for 1 to 30 degrees of freedom.
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

impl Interval {
    /// Of these measurements.
    pub fn of(values: &[f64]) -> Interval {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        let half = match values.len() {
            0 | 1 => f64::INFINITY,
            count => {
                let t = T.get(count - 2).copied().unwrap_or(1.96);
                t * (squares / (n - 1.0) / n).sqrt()
            }
        };
        Interval { mean, half }
    }

    /// As percent: `+1.2 % +-0.4`.
    pub fn percent(&self) -> String {
        format!("{:+.2} % +-{:.2}", self.mean * 100.0, self.half * 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The textbook's example: ten values, nine degrees of freedom.
    #[test]
    fn of_ten() {
        let sleep = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0];
        let interval = Interval::of(&sleep);
        assert!((interval.mean - 0.75).abs() < 1e-9);
        assert!((interval.half - 1.2798).abs() < 1e-3, "{interval:?}");
        assert!(Interval::of(&[1.0]).half.is_infinite());
    }
}
