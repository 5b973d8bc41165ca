//! The middle of a few repeated measurements and how far they lie apart.
//!
//! In: figures of the same thing, in any order; out: median, smallest, largest. For three or five repetitions these say
//! more than a mean and its interval.

use serde::Serialize;

/// A median with the smallest and the largest figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Half of the figures are not larger.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

impl Spread {
    /// Of these figures; `None` of none, or if one is no number.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        if sorted.iter().any(|f| f.is_nan()) {
            return None;
        }
        sorted.sort_by(f64::total_cmp);
        let (first, last) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            1 => sorted[middle],
            _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
        };
        Some(Spread {
            median,
            least: first,
            most: last,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Odd and even numbers of figures; none at all.
    #[test]
    fn middles() {
        let of = |f: &[f64]| Spread::of(f.iter().copied());
        let three = of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!((three.median, three.least, three.most), (2.0, 1.0, 3.0));
        assert_eq!(of(&[4.0, 1.0]).unwrap().median, 2.5);
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[1.0, f64::NAN]), None);
    }
}
