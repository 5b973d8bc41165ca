//! Sequence numbers: 32 bits that wrap (RFC 9293 3.4).

/// A sequence number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seq(pub u32);

impl Seq {
    /// `n` further on.
    #[inline(always)]
    pub fn plus(self, n: u32) -> Seq {
        Seq(self.0.wrapping_add(n))
    }

    /// From `earlier` to this, if it is not before it; else 0.
    #[inline(always)]
    pub fn since(self, earlier: Seq) -> u32 {
        let distance = self.0.wrapping_sub(earlier.0);
        if distance as i32 >= 0 { distance } else { 0 }
    }

    /// Whether this lies before `other`, at most 2^31 - 1 away.
    #[inline(always)]
    pub fn before(self, other: Seq) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// Whether this lies after `other`.
    #[inline(always)]
    pub fn after(self, other: Seq) -> bool {
        other.before(self)
    }

    /// The later of two.
    #[inline(always)]
    pub fn max(self, other: Seq) -> Seq {
        if self.before(other) { other } else { self }
    }

    /// The earlier of two.
    #[inline(always)]
    pub fn min(self, other: Seq) -> Seq {
        if self.before(other) { self } else { other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Order holds across the wrap.
    #[test]
    fn wraps() {
        let (a, b) = (Seq(u32::MAX - 1), Seq(3));
        assert!(a.before(b) && b.after(a) && !a.before(a));
        assert_eq!((b.since(a), a.since(b)), (5, 0));
        assert_eq!((a.max(b), a.min(b), a.plus(5)), (b, a, b));
    }
}
