//! SYN cookies: what a half-open connection needs to know, kept in the peer's acknowledgement instead of here.
//!
//! In: a SYN, or the acknowledgement that ends a handshake; out: the initial sequence number and timestamp to answer with,
//! or what they said. The idea and the layout of the number are D. J. Bernstein's (1996): five bits of a clock, three of
//! the segment size, the rest a keyed hash (SipHash). Window scale and SACK ride in the low bits of our timestamp, which
//! the peer echoes, as Linux does it. It refuses to know listeners and connections.

use crate::seq::Seq;
use crate::siphash::SipKey;
use crate::time::Time;
use crate::wire::tcp::Options;

/// Seconds of the clock's tick; an acknowledgement is good in the tick of its SYN and the next.
const TICK: u64 = 64;
/// Segment sizes that a cookie can tell.
const SIZES: [u16; 8] = [216, 536, 1200, 1360, 1440, 1460, 4312, 8960];
/// Low bits of a timestamp that carry options.
const BITS: u32 = 5;
/// Among them: SACK is understood.
const SACK: u32 = 1 << 4;
/// Among them: windows are not scaled.
const NO_SCALE: u32 = 15;

/// What a cookie remembers of a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub mss: u16,
    pub scale: Option<u8>,
    pub sack: bool,
}

/// Both ends and the peer's first sequence number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub peer: (u32, u16),
    pub local_port: u16,
    pub irs: Seq,
}

fn hash(key: SipKey, ends: Ends, tick: u64, size: u32) -> u32 {
    let ports = (u64::from(ends.peer.1) << 16) | u64::from(ends.local_port);
    let first = (u64::from(ends.peer.0) << 32) | ports;
    let second = (u64::from(ends.irs.0) << 32) | (tick << 3) & 0xffff_ffff | u64::from(size);
    key.hash(&[first, second]) as u32 & 0x00ff_ffff
}

/// The initial sequence number that stands for this SYN.
pub(crate) fn number(key: SipKey, ends: Ends, options: &Options, now: Time) -> Seq {
    let tick = now.as_nanos() / (TICK * 1_000_000_000);
    let theirs = options.mss.unwrap_or(536);
    let size = SIZES.partition_point(|&size| size <= theirs).max(1) as u32 - 1;
    Seq(((tick as u32) << 27) | (size << 24) | hash(key, ends, tick, size))
}

/// Our timestamp with what the peer offered in its low bits; never ahead of the clock.
pub(crate) fn timestamp(clock: u32, options: &Options) -> u32 {
    let scale = options.scale.map_or(NO_SCALE, u32::from);
    let told = scale | if options.sack_permitted { SACK } else { 0 };
    let stamp = (clock & !((1 << BITS) - 1)) | told;
    if Seq(stamp).after(Seq(clock)) {
        stamp.wrapping_sub(1 << BITS)
    } else {
        stamp
    }
}

/// What the SYN said, if `iss` is a number we made for these ends a short while ago; `echo` is our timestamp as it came
/// back.
pub(crate) fn check(
    key: SipKey,
    ends: Ends,
    iss: Seq,
    echo: Option<u32>,
    now: Time,
) -> Option<Remembered> {
    let current = now.as_nanos() / (TICK * 1_000_000_000);
    let size = iss.0 >> 24 & 7;
    let made = |tick: &u64| (*tick as u32) & 31 == iss.0 >> 27;
    let tick = [Some(current), current.checked_sub(1)]
        .into_iter()
        .flatten()
        .find(made)?;
    if hash(key, ends, tick, size) != iss.0 & 0x00ff_ffff {
        return None;
    }
    // Without timestamps there was no room for more than the segment size.
    let told = echo.unwrap_or(NO_SCALE);
    let scale = told & NO_SCALE;
    Some(Remembered {
        mss: SIZES[size as usize],
        scale: (scale != NO_SCALE).then_some(scale as u8),
        sack: told & SACK != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_millis(1000 * seconds)
    }

    /// A cookie tells what the SYN said, for these ends and this key alone, and for two ticks at most.
    #[test]
    fn says_what_the_syn_said() {
        let key = SipKey::new(1, 2);
        let ends = Ends {
            peer: (9, 40_000),
            local_port: 80,
            irs: Seq(77),
        };
        let options = Options {
            mss: Some(1460),
            scale: Some(7),
            sack_permitted: true,
            ..Options::default()
        };
        let iss = number(key, ends, &options, at(1000));
        let stamp = timestamp(123_456, &options);
        assert!(stamp <= 123_456 && stamp > 123_456 - 64);
        let said = Remembered {
            mss: 1460,
            scale: Some(7),
            sack: true,
        };
        assert_eq!(check(key, ends, iss, Some(stamp), at(1000)), Some(said));
        assert_eq!(check(key, ends, iss, Some(stamp), at(1060)), Some(said));
        assert_eq!(check(key, ends, iss, Some(stamp), at(1150)), None);
        assert_eq!(check(key, ends, iss.plus(1), None, at(1000)), None);
        let others = Ends {
            irs: Seq(78),
            ..ends
        };
        assert_eq!(check(key, others, iss, None, at(1000)), None);
        assert_eq!(check(SipKey::new(2, 2), ends, iss, None, at(1000)), None);
        let plain = check(key, ends, iss, None, at(1000)).unwrap();
        assert_eq!((plain.mss, plain.scale, plain.sack), (1460, None, false));
    }

    /// A size is rounded down to one that can be told; no size is 536.
    #[test]
    fn sizes() {
        let key = SipKey::new(3, 4);
        let ends = Ends {
            peer: (9, 1),
            local_port: 80,
            irs: Seq(0),
        };
        for (theirs, told) in [
            (None, 536),
            (Some(1), 216),
            (Some(1459), 1440),
            (Some(65_535), 8960),
        ] {
            let options = Options {
                mss: theirs,
                ..Options::default()
            };
            let iss = number(key, ends, &options, at(5));
            assert_eq!(check(key, ends, iss, None, at(5)).unwrap().mss, told);
        }
    }
}
