//! One flow hash, defined once, so that stacks, applications, kernel tracepoints and DPDK name a connection alike.
//!
//! In: the two endpoints of a connection; out: 32 bits, the same whichever end is named first. It refuses to be a
//! secret: it is not keyed and gives no protection against chosen collisions, since it only labels events.

/// A flow's label in events: the hash of its two endpoints, or [`Flow::NONE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow(u32);

impl Flow {
    /// No flow, or not known.
    pub const NONE: Flow = Flow(0);

    /// The label as stored in an event; points that use the field for something else go through this too.
    #[inline(always)]
    pub const fn from_raw(label: u32) -> Flow {
        Flow(label)
    }

    /// The label.
    #[inline(always)]
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// The label of an IPv4 connection. Addresses and ports as numbers (host order: 10.0.0.1 is `0x0a00_0001`).
    #[inline]
    pub const fn ipv4(a: u32, a_port: u16, b: u32, b_port: u16) -> Flow {
        Flow::join(
            mix(((a as u64) << 16) | a_port as u64),
            mix(((b as u64) << 16) | b_port as u64),
        )
    }

    /// The label of an IPv6 connection.
    #[inline]
    pub const fn ipv6(a: u128, a_port: u16, b: u128, b_port: u16) -> Flow {
        Flow::join(end6(a, a_port), end6(b, b_port))
    }

    const fn join(a: u64, b: u64) -> Flow {
        let mixed = mix(a.wrapping_add(b));
        let label = (mixed ^ (mixed >> 32)) as u32;
        Flow(if label == 0 { 1 } else { label })
    }
}

const fn end6(address: u128, port: u16) -> u64 {
    mix(mix(address as u64).wrapping_add((address >> 64) as u64) ^ ((port as u64) << 48))
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): every input bit reaches every output bit.
const fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ends of a connection give it the same label, and the label is never "none".
    #[test]
    fn direction_does_not_matter() {
        for port in 1..2000 {
            let there = Flow::ipv4(0x0a7b_0002, 8080, 0x0a7b_0001, port);
            assert_eq!(there, Flow::ipv4(0x0a7b_0001, port, 0x0a7b_0002, 8080));
            assert_ne!(there, Flow::NONE);
            assert_eq!(
                Flow::ipv6(1 << 100, 80, 2, port),
                Flow::ipv6(2, port, 1 << 100, 80)
            );
        }
    }

    /// 28,000 client ports of one client collide about as often as chance has it (n^2 / 2^33, about 0.1).
    #[test]
    fn ports_spread() {
        let mut labels: Vec<u32> = (32_768..60_768u16)
            .map(|port| Flow::ipv4(0x0a7b_0002, 8080, 0x0a7b_0001, port).raw())
            .collect();
        labels.sort_unstable();
        labels.dedup();
        assert!(labels.len() >= 27_997, "{} labels", labels.len());
    }

    /// The definition is part of the format: these values may never change.
    #[test]
    fn values_are_fixed() {
        assert_eq!(
            Flow::ipv4(0x0a7b_0002, 8080, 0x0a7b_0001, 40_000).raw(),
            FIXED_V4
        );
        assert_eq!(Flow::ipv6(1, 8080, 2, 40_000).raw(), FIXED_V6);
    }
    const FIXED_V4: u32 = 2_635_493_064;
    const FIXED_V6: u32 = 2_411_444_016;
}
