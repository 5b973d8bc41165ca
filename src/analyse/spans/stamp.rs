//! A counter value that may be missing, in eight bytes: of ten thousand flows each has two dozen of them.
//!
//! In and out: what an `Option<u64>` holds, but for the last value of a counter, which no machine lives to see: it comes
//! out as the one before.

use std::num::NonZeroU64;

/// A counter value or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp(Option<NonZeroU64>);

impl Stamp {
    /// None.
    pub const NONE: Stamp = Stamp(None);

    /// The counter value.
    pub fn get(self) -> Option<u64> {
        Some(self.0?.get() - 1)
    }

    /// Its memory, whatever it means.
    pub fn glance(self) -> u64 {
        self.0.map_or(0, NonZeroU64::get)
    }

    /// Whether there is none.
    pub fn is_none(self) -> bool {
        self.0.is_none()
    }
}

impl From<u64> for Stamp {
    fn from(tsc: u64) -> Stamp {
        Stamp(NonZeroU64::new(tsc.saturating_add(1)))
    }
}

impl From<Option<u64>> for Stamp {
    fn from(tsc: Option<u64>) -> Stamp {
        tsc.map_or(Stamp::NONE, Stamp::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// What goes in comes out, and takes no more than a number.
        #[test]
        fn comes_back(tsc in proptest::option::of(0..u64::MAX)) {
            prop_assert_eq!(Stamp::from(tsc).get(), tsc);
            prop_assert_eq!(Stamp::from(tsc).is_none(), tsc.is_none());
            prop_assert_eq!(size_of::<Stamp>(), 8);
        }
    }
}
