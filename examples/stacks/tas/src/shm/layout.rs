//! What is where in a context's region, computed by both sides from the same few sizes.
//!
//! In: sizes, which may come from the other side; out: places, or nothing where a size is out of bounds. The queues are
//! as long as TAS's: 65,536 entries of 32 bytes from a fast-path core to the application, 32,768 of 16 bytes back, and
//! 16,384 of 64 bytes each way between application and slow path.

use super::{ByteRing, Place};

/// Entries from one core to the application.
pub const ARX_ENTRIES: u64 = 65_536;
/// Entries from the application to one core.
pub const ATX_ENTRIES: u64 = 32_768;
/// Entries each way between the application and the slow path.
pub const KERNEL_ENTRIES: u64 = 16_384;
/// Most fast-path cores.
pub const MAX_CORES: u32 = 16;
/// Largest receive ring: the window is told without a scale.
pub const MAX_RX: u32 = 65_536;
/// Largest transmit ring.
pub const MAX_TX: u32 = 64 << 20;
/// Smallest ring of either kind.
pub const MIN_RING: u32 = 2048;
/// Most flows of a context, and of a service.
pub const MAX_SLOTS: u32 = 131_072;
/// Most bytes of payload rings in one context; pages that nobody has touched take no memory.
pub const MAX_PAYLOAD: u64 = 64 << 30;

const LINE: usize = 64;
const PAGE: usize = 4096;

/// What the two sides agree on when a context is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Fast-path cores.
    pub cores: u32,
    /// Bytes of a flow's receive ring.
    pub rx: u32,
    /// Bytes of a flow's transmit ring.
    pub tx: u32,
    /// Flows that have rings.
    pub slots: u32,
}

impl Sizes {
    /// Whether every size is one that the service gives.
    pub fn are_sound(&self) -> bool {
        let ring = |len: u32, most| len.is_power_of_two() && (MIN_RING..=most).contains(&len);
        (1..=MAX_CORES).contains(&self.cores)
            && ring(self.rx, MAX_RX)
            && ring(self.tx, MAX_TX)
            && (1..=MAX_SLOTS).contains(&self.slots)
            && u64::from(self.slots) * (u64::from(self.rx) + u64::from(self.tx)) <= MAX_PAYLOAD
    }
}

/// Where everything is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    sizes: Sizes,
}

const ARX_BYTES: usize = ARX_ENTRIES as usize * 32;
const ATX_BYTES: usize = ATX_ENTRIES as usize * (16 + 8);
const KERNEL_BYTES: usize = KERNEL_ENTRIES as usize * 64;
const CORE_BYTES: usize = ARX_BYTES + ATX_BYTES;
/// A page of flags and counts and two of positions come first.
const QUEUES: usize = 3 * PAGE;

impl Layout {
    /// The layout for these sizes; `None` where they are not sound.
    pub fn new(sizes: Sizes) -> Option<Layout> {
        sizes.are_sound().then_some(Layout { sizes })
    }

    /// The sizes.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Bytes of the whole region.
    pub fn bytes(&self) -> usize {
        let rings = self.sizes.rx as usize + self.sizes.tx as usize;
        self.payload() + self.sizes.slots as usize * rings
    }

    /// Word that is 1 while the application sleeps.
    pub fn app_sleeps(&self) -> usize {
        0
    }

    /// Word that is 1 while the slow path sleeps.
    pub fn slow_sleeps(&self) -> usize {
        LINE
    }

    /// Word that is 1 while this core's fast path sleeps.
    pub fn fast_sleeps(&self, core: usize) -> usize {
        (2 + core) * LINE
    }

    /// First of this core's three counts: rounds, empty rounds, ns in rounds that did something.
    pub fn counts(&self, core: usize) -> usize {
        (2 + MAX_CORES as usize + core) * LINE
    }

    /// The queue from the application to the slow path.
    pub fn kernel_in(&self) -> Place {
        self.place(0, QUEUES, KERNEL_ENTRIES, None)
    }

    /// The queue from the slow path to the application.
    pub fn kernel_out(&self) -> Place {
        self.place(1, QUEUES + KERNEL_BYTES, KERNEL_ENTRIES, None)
    }

    /// The queue from a core to the application.
    pub fn arx(&self, core: usize) -> Place {
        self.place(2 + 2 * core, self.core(core), ARX_ENTRIES, None)
    }

    /// The queue from the application to a core, with stamps beside its entries.
    pub fn atx(&self, core: usize) -> Place {
        let entries = self.core(core) + ARX_BYTES;
        let stamps = entries + ATX_ENTRIES as usize * 16;
        self.place(3 + 2 * core, entries, ATX_ENTRIES, Some(stamps))
    }

    /// The rings of a flow: received bytes, bytes to send. `None` for a slot that is not there.
    pub fn rings(&self, slot: u32) -> Option<(ByteRing, ByteRing)> {
        if slot >= self.sizes.slots {
            return None;
        }
        let (rx, tx) = (self.sizes.rx as usize, self.sizes.tx as usize);
        let at = self.payload() + slot as usize * (rx + tx);
        Some((
            ByteRing::new(at, self.sizes.rx),
            ByteRing::new(at + rx, self.sizes.tx),
        ))
    }

    fn core(&self, core: usize) -> usize {
        QUEUES + 2 * KERNEL_BYTES + core * CORE_BYTES
    }

    fn payload(&self) -> usize {
        self.core(self.sizes.cores as usize).next_multiple_of(PAGE)
    }

    /// Positions are on lines of their own from the second page on.
    fn place(&self, queue: usize, entries: usize, capacity: u64, stamps: Option<usize>) -> Place {
        let head = PAGE + queue * 2 * LINE;
        Place {
            head,
            tail: head + LINE,
            entries,
            capacity,
            stamps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Sizes are refused or give a layout in which nothing overlaps and everything is inside.
        #[test]
        fn nothing_overlaps(cores in 0u32..20, rx in 9u32..20, tx in 9u32..30, slots in 0u32..200_000) {
            let sizes = Sizes { cores, rx: 1 << rx, tx: 1 << tx, slots };
            let Some(layout) = Layout::new(sizes) else { return Ok(()) };
            let mut ranges = vec![];
            for core in 0..cores as usize {
                let (arx, atx) = (layout.arx(core), layout.atx(core));
                ranges.push((layout.fast_sleeps(core), 8));
                ranges.push((layout.counts(core), 24));
                ranges.extend([arx, atx].iter().flat_map(|q| [(q.head, 8), (q.tail, 8)]));
                ranges.push((arx.entries, arx.capacity as usize * 32));
                ranges.push((atx.entries, atx.capacity as usize * 16));
                ranges.push((atx.stamps.unwrap(), atx.capacity as usize * 8));
            }
            for queue in [layout.kernel_in(), layout.kernel_out()] {
                ranges.extend([(queue.head, 8), (queue.tail, 8), (queue.entries, queue.capacity as usize * 64)]);
            }
            ranges.extend([(layout.app_sleeps(), 8), (layout.slow_sleeps(), 8)]);
            ranges.push((layout.payload(), slots as usize * (sizes.rx + sizes.tx) as usize));
            ranges.sort_unstable();
            for pair in ranges.windows(2) {
                prop_assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:?}");
            }
            let last = ranges[ranges.len() - 1];
            prop_assert_eq!(last.0 + last.1, layout.bytes());
            prop_assert!(layout.rings(slots).is_none());
        }
    }
}
