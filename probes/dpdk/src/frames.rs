//! What is looked at of a frame: its length, its headers, and how long ago it was stamped. Never what it carries.
//!
//! In: frames as DPDK hands them around (`struct rte_mbuf`); out: flow, bytes, TCP's number and flags, age. The words read
//! here lie at the same places in every version whose table is known (21.11 to 25.11). Frames in memory that is not
//! DPDK's, which may be a graphics card's, are told by their length alone.

use crate::dpdk;
use bypassprof_probe::Flow;
use bypassprof_wire::headers::headers;
use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// Most frames of one burst.
const MOST: usize = 128;
/// Most bytes of a frame in which its headers are looked for.
const MOST_HEADER: usize = 128;
/// An age that is not known.
pub const NO_AGE: u32 = u32::MAX;
/// A stamp that is older than this is not by the clock that it is compared with.
const OLDEST_NS: u64 = 4_000_000_000;

const BUFFER: usize = 0;
const OFFSET: usize = 16;
const FLAGS: usize = 24;
const PACKET_BYTES: usize = 36;
const SEGMENT_BYTES: usize = 40;
const HASH: usize = 44;
/// The device gave its hash (RTE_MBUF_F_RX_RSS_HASH).
const HAS_HASH: u64 = 1 << 1;
/// The bytes are not in one of DPDK's pools (RTE_MBUF_F_EXTERNAL).
const EXTERNAL: u64 = 1 << 61;

/// A frame that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub flow: Flow,
    pub bytes: u32,
    pub sequence: u32,
    pub flags: u8,
    pub age: u32,
}

impl Frame {
    pub fn flags_and_bytes(&self) -> u32 {
        u32::from(self.flags) << 24 | self.bytes.min(0xff_ffff)
    }
}

/// The frames of one burst, as far as there is room.
pub struct Looked {
    frames: [MaybeUninit<Frame>; MOST],
    count: usize,
}

impl Looked {
    pub fn frames(&self) -> &[Frame] {
        // SAFETY: `look` wrote the first `count`.
        unsafe { core::slice::from_raw_parts(self.frames.as_ptr().cast(), self.count) }
    }
}

/// Looks at frames.
///
/// # Safety
/// `count` frames must stand there, and be the caller's.
#[inline(never)]
pub unsafe fn look(frames: *const *mut c_void, count: u16) -> Looked {
    let count = usize::from(count).min(MOST);
    let mut looked = Looked {
        frames: [MaybeUninit::uninit(); MOST],
        count,
    };
    let clocks = Clocks::now();
    for at in 0..count {
        // SAFETY: the caller's promise.
        looked.frames[at].write(unsafe { frame((*frames.add(at)).cast(), &clocks) });
    }
    looked
}

unsafe fn frame(packet: *const u8, clocks: &Clocks) -> Frame {
    // SAFETY: a frame begins with 128 bytes that hold these words; its first segment's bytes lie from the buffer's start
    // plus the offset on, as long as the segment says.
    unsafe {
        let flags: u64 = word(packet, FLAGS);
        let head = if flags & EXTERNAL == 0 {
            let buffer: *const u8 = word(packet, BUFFER);
            let (offset, len): (u16, u16) = (word(packet, OFFSET), word(packet, SEGMENT_BYTES));
            let len = usize::from(len).min(MOST_HEADER);
            core::slice::from_raw_parts(buffer.add(usize::from(offset)), len)
        } else {
            &[]
        };
        let told = headers(head);
        let hash: u32 = word(packet, HASH);
        let by_device = (flags & HAS_HASH > 0).then(|| Flow::from_raw(hash));
        let flow = Some(told.flow).filter(|&flow| flow != Flow::NONE);
        Frame {
            flow: flow.or(by_device).unwrap_or(Flow::NONE),
            bytes: word(packet, PACKET_BYTES),
            sequence: told.sequence,
            flags: told.flags,
            age: clocks.age(stamp_of(packet, flags)),
        }
    }
}

/// # Safety
/// The frame must have such a word there.
unsafe fn word<T: Copy>(packet: *const u8, at: usize) -> T {
    // SAFETY: the caller's promise.
    unsafe { packet.add(at).cast::<T>().read_unaligned() }
}

/// Where stamps are in frames: an offset, and the flag that says there is one. Below zero: nobody has asked for any.
static STAMPS_AT: AtomicI32 = AtomicI32::new(-1);
static STAMPED: AtomicU64 = AtomicU64::new(0);
/// The counter and CLOCK_MONOTONIC when they were found: the counter's rate is told from there.
static SINCE: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Asks DPDK where stamps are. It takes a lock of DPDK's, so that no thread with packets does it.
pub fn find_stamps() {
    if STAMPS_AT.load(Ordering::Relaxed) < 0
        && let Some((offset, flag)) = dpdk::stamps()
    {
        STAMPED.store(flag, Ordering::Relaxed);
        SINCE[0].store(bypassprof_probe::now().raw(), Ordering::Relaxed);
        SINCE[1].store(ns(libc::CLOCK_MONOTONIC), Ordering::Relaxed);
        // Release: whoever sees the offset sees the flag.
        STAMPS_AT.store(offset, Ordering::Release);
    }
}

unsafe fn stamp_of(packet: *const u8, flags: u64) -> Option<u64> {
    let at = usize::try_from(STAMPS_AT.load(Ordering::Acquire)).ok()?;
    // SAFETY: DPDK gave this place of a frame's 128 bytes to stamps.
    (flags & STAMPED.load(Ordering::Relaxed) > 0).then(|| unsafe { word(packet, at) })
}

/// The clocks that drivers and programs stamp by. DPDK does not say which one a device uses: it is the one by which the
/// stamp lies shortly before now. A device's own clock is none of these, and ages by it are not known.
struct Clocks {
    /// Now, and how many of its units are a nanosecond, as a fraction.
    clocks: [(u64, u64, u64); 4],
}

impl Clocks {
    fn now() -> Clocks {
        if STAMPS_AT.load(Ordering::Relaxed) < 0 {
            return Clocks {
                clocks: [(0, 1, 1); 4],
            };
        }
        let (real, steady) = (ns(libc::CLOCK_REALTIME), ns(libc::CLOCK_MONOTONIC));
        let now = bypassprof_probe::now().raw();
        let since = SINCE.each_ref().map(|w| w.load(Ordering::Relaxed));
        let (ticks, of) = (
            now.saturating_sub(since[0]),
            steady.saturating_sub(since[1]),
        );
        Clocks {
            clocks: [
                (real, 1, 1),
                (real / 1000, 1, 1000),
                (steady, 1, 1),
                (now, ticks, of),
            ],
        }
    }

    fn age(&self, stamp: Option<u64>) -> u32 {
        let Some(stamp) = stamp.filter(|&s| s > 0) else {
            return NO_AGE;
        };
        let ages = self.clocks.iter().filter_map(|&(now, units, of)| {
            let units_ago = u128::from(now.checked_sub(stamp)?);
            let ns = units_ago * u128::from(of) / u128::from(units.max(1));
            (ns < u128::from(OLDEST_NS)).then_some(ns as u32)
        });
        ages.min().unwrap_or(NO_AGE)
    }
}

fn ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel, or its vdso, fills the structure.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as DPDK lays it out, its bytes in `buffer`.
    fn packet(buffer: &[u8], flags: u64, hash: u32) -> [u8; 128] {
        let mut packet = [0u8; 128];
        let mut put = |at: usize, bytes: &[u8]| packet[at..at + bytes.len()].copy_from_slice(bytes);
        put(BUFFER, &(buffer.as_ptr() as u64).to_ne_bytes());
        put(OFFSET, &4u16.to_ne_bytes());
        put(FLAGS, &flags.to_ne_bytes());
        put(PACKET_BYTES, &9000u32.to_ne_bytes());
        let len = buffer.len() as u16 - 4;
        put(SEGMENT_BYTES, &len.to_ne_bytes());
        put(HASH, &hash.to_ne_bytes());
        packet
    }

    fn seen(buffer: &[u8], flags: u64, hash: u32) -> Frame {
        let packet = packet(buffer, flags, hash);
        let all = [packet.as_ptr().cast_mut().cast::<c_void>()];
        // SAFETY: one frame, laid out as DPDK does.
        let looked = unsafe { look(all.as_ptr(), 1) };
        looked.frames()[0]
    }

    /// Headers come first, the device's hash next; bytes outside of the pools are not touched.
    #[test]
    fn flows_and_hashes() {
        let mut buffer = vec![0; 4 + 12];
        buffer.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
        buffer.extend([10, 123, 0, 1, 10, 123, 0, 2]);
        buffer.extend([0x9c, 0x40, 0x1f, 0x90, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, 2]);
        let flow = Flow::ipv4(0x0a7b_0002, 8080, 0x0a7b_0001, 40_000);
        let frame = seen(&buffer, HAS_HASH, 77);
        assert_eq!((frame.flow, frame.bytes), (flow, 9000));
        assert_eq!((frame.sequence, frame.flags, frame.age), (7, 2, NO_AGE));
        assert_eq!(frame.flags_and_bytes(), 2 << 24 | 9000);
        buffer[4 + 12] = 0x88;
        assert_eq!(seen(&buffer, HAS_HASH, 77).flow, Flow::from_raw(77));
        assert_eq!(seen(&buffer, 0, 77).flow, Flow::NONE);
        buffer[4 + 12] = 8;
        assert_eq!(seen(&buffer, EXTERNAL, 0).flow, Flow::NONE);
    }

    /// The clock is the one whose stamp lies a little before now.
    #[test]
    fn ages() {
        let clocks = Clocks {
            clocks: [
                (1_700_000_000_000_000_000, 1, 1),
                (1_700_000_000_000_000, 1, 1000),
                (90_000_000_000_000, 1, 1),
                (3_000_000_000_000, 2, 1),
            ],
        };
        for (stamp, age) in [
            (1_700_000_000_000_000_000 - 5000, 5000),
            (1_700_000_000_000_000 - 5, 5000),
            (90_000_000_000_000 - 5000, 5000),
            (3_000_000_000_000 - 10_000, 5000),
            (12_345, NO_AGE),
            (0, NO_AGE),
        ] {
            assert_eq!(clocks.age(Some(stamp)), age, "{stamp}");
        }
        assert_eq!(clocks.age(None), NO_AGE);
    }
}
