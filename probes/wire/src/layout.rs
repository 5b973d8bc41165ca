//! Layout of ring files and of a process's control file: magic numbers, versions, offsets, sizes.
//!
//! In: nothing; out: `repr(C)` structures that writer and reader lay over the same memory, made of 64-bit words only so
//! that each word is read and written whole. The word's type is left open: `u64` here and in tests, an atomic in the
//! ring crate, loom's atomic in its models. All words are in the machine's byte order; a foreign order shows as a wrong
//! magic number. Layout and meaning are described in `docs/reference/shared-memory.md`. This module refuses to know
//! how memory is mapped and who may write it.

use crate::event::{MAX_SLOTS, SLOT_BYTES};

/// First word of a ring file.
pub const RING_MAGIC: u64 = u64::from_le_bytes(*b"bypRING\0");
/// First word of a control file.
pub const CONTROL_MAGIC: u64 = u64::from_le_bytes(*b"bypCTRL\0");
/// The version of both layouts that this crate describes.
pub const VERSION: u32 = 2;
/// The oldest version whose readers understand what this crate writes. Raised when the meaning of a word changes;
/// words that were reserved (zero) may get a meaning without it.
pub const OLDEST_COMPATIBLE: u32 = 1;
/// Both numbers as the word that stands in a header.
pub const VERSION_WORD: u64 = ((VERSION as u64) << 32) | OLDEST_COMPATIBLE as u64;

/// Bytes in front of a ring's slots.
pub const RING_HEADER_BYTES: usize = 4096;
/// Fewest slots of a ring.
pub const MIN_CAPACITY: u64 = 512;
/// Most slots of a ring (1 GiB): what a reader refuses to map beyond.
pub const MAX_CAPACITY: u64 = 1 << 26;
/// Slots that can be written but not yet published: one event with an `EPOCH` and a `LOST` slot in front, rounded up.
pub const MAX_UNPUBLISHED: u64 = 8;
const _: () = assert!(MAX_SLOTS as u64 + 2 <= MAX_UNPUBLISHED);

/// Points of its own that a program can register.
pub const MAX_OWN_POINTS: usize = 96;
/// Words of a name.
pub const NAME_WORDS: usize = 4;
/// Bytes of a name; shorter ones are padded with zeros, longer ones cut.
pub const NAME_BYTES: usize = NAME_WORDS * 8;
/// Rings that one process can have at a time.
pub const MAX_RINGS: usize = 512;
/// Bytes of a control file.
pub const CONTROL_BYTES: usize = 16384;

/// A name as words, the first byte in the lowest byte of the first word on any machine.
pub const fn name_words(name: &[u8]) -> [u64; NAME_WORDS] {
    let mut words = [0; NAME_WORDS];
    let mut at = 0;
    while at < name.len() && at < NAME_BYTES {
        words[at / 8] |= (name[at] as u64) << (8 * (at % 8));
        at += 1;
    }
    words
}

/// The bytes of a name; those after the first zero mean nothing.
pub const fn name_bytes(words: [u64; NAME_WORDS]) -> [u8; NAME_BYTES] {
    let mut bytes = [0; NAME_BYTES];
    let mut at = 0;
    while at < NAME_BYTES {
        bytes[at] = (words[at / 8] >> (8 * (at % 8))) as u8;
        at += 1;
    }
    bytes
}

/// What is in a ring's `mode` and a control file's `mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u64)]
pub enum Mode {
    /// A full ring drops and counts what does not fit.
    #[default]
    Drain = 0,
    /// A full ring overwrites its oldest slots.
    Flight = 1,
}

impl Mode {
    /// The mode in a word; a number that is none counts as [`Mode::Drain`], which loses nothing unseen.
    #[inline]
    pub const fn from_word(word: u64) -> Mode {
        if word == Mode::Flight as u64 {
            Mode::Flight
        } else {
            Mode::Drain
        }
    }
}

/// Which program wrote a file, on which boot of which machine.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Identity<W> {
    /// [`RING_MAGIC`] or [`CONTROL_MAGIC`].
    pub magic: W,
    /// Version in the upper half, oldest compatible version in the lower.
    pub version: W,
    /// Bytes in front of the slots, or of the whole control file.
    pub header_bytes: W,
    /// Bytes of the file.
    pub file_bytes: W,
    /// The process, as it sees itself in its PID namespace (the last number of `NSpid`).
    pub pid: W,
    /// Inode of that PID namespace; 0 if not known.
    pub pid_namespace: W,
    /// When the process started, in ticks after boot (field 22 of /proc/PID/stat); 0 if not known.
    pub start_time: W,
    /// Its effective user when the file was made.
    pub uid: W,
    /// /proc/sys/kernel/random/boot_id, its 32 digits as two numbers; 0 if not known.
    pub boot_id: [W; 2],
    /// The counter when the file was made.
    pub base_tsc: W,
    /// CLOCK_MONOTONIC_RAW in ns, read right after the counter.
    pub base_time: W,
    /// Zero.
    pub reserved: [W; 4],
}

/// Whose a ring is. Changes only while `generation` is odd.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Owner<W> {
    /// Even and growing; odd while a new owner moves in.
    pub generation: W,
    /// The thread, as it sees itself in its PID namespace.
    pub tid: W,
    /// Position of its first slot.
    pub first_slot: W,
    /// The [`Mode`] the writer is in; it follows the reader's wish within one turn of the ring.
    pub mode: W,
    /// The thread's name.
    pub name: [W; NAME_WORDS],
    /// 1 when the thread is gone and will write no more.
    pub ended: W,
    /// The counter when it ended.
    pub ended_at: W,
    /// Zero.
    pub reserved: [W; 6],
}

/// What the writer alone changes, event by event, and its totals since it moved in.
#[derive(Debug, Default)]
#[repr(C)]
pub struct WriterWords<W> {
    /// Position after the last published slot. Positions only grow; slot `p` lies at `p` modulo the capacity.
    pub head: W,
    /// Up to where the writer may write without looking at the reader's words.
    pub limit: W,
    /// Slots dropped since the last `LOST` slot.
    pub lost: W,
    /// Counter bits 47 and up as last told by an `EPOCH` slot, plus 1; 0 before the first.
    pub epoch: W,
    /// All slots dropped.
    pub dropped_slots: W,
    /// Slots written that are not the first of an event: continuations, `EPOCH`, `LOST`.
    pub extra_slots: W,
    /// Slots written by points that say nothing about a round: `side_poll`, `sleep`, `wake`, `loop`, idle ones.
    pub quiet_slots: W,
    /// Requests finished (`app_end`).
    pub requests: W,
    /// Rounds that found nothing to do.
    pub empty_rounds: W,
    /// Rounds that did something.
    pub worked_rounds: W,
    /// Non-empty receive bursts.
    pub rx_bursts: W,
    /// Frames received.
    pub rx_packets: W,
    /// Bytes received.
    pub rx_bytes: W,
    /// Transmit bursts.
    pub tx_bursts: W,
    /// Frames sent.
    pub tx_packets: W,
    /// Bytes sent.
    pub tx_bytes: W,
}

/// What the reader alone changes.
#[derive(Debug, Default)]
#[repr(C)]
pub struct ReaderWords<W> {
    /// Position of the first slot not yet read: those before it may be overwritten.
    pub tail: W,
    /// The `generation` whose slots and totals have all been read after it ended: the ring may be given away.
    pub released: W,
    /// The [`Mode`] that the reader wants.
    pub mode: W,
    /// Counter value up to which a reader that wants a mode of [`Mode::Drain`] is there for sure: once it has passed, a
    /// full ring goes on in [`Mode::Flight`]. 0: for ever.
    pub lease: W,
    /// Zero.
    pub reserved: [W; 4],
}

/// The first [`RING_HEADER_BYTES`] of a ring file; the slots follow. The parts that different sides write lie 128
/// bytes apart, because processors fetch cache lines in pairs.
#[derive(Debug)]
#[repr(C)]
pub struct RingHeader<W> {
    /// Which program.
    pub identity: Identity<W>,
    /// Which thread of it.
    pub owner: Owner<W>,
    /// Slots of the ring, a power of two.
    pub capacity: W,
    /// Zero.
    pub reserved_a: [W; 15],
    /// The writer's words.
    pub writer: WriterWords<W>,
    /// The reader's words.
    pub reader: ReaderWords<W>,
    /// Zero.
    pub reserved_b: [W; 56],
    /// Names of the program's own points, a copy of the control file's.
    pub own_points: [[W; NAME_WORDS]; MAX_OWN_POINTS],
}

impl<W: Default> Default for RingHeader<W> {
    fn default() -> Self {
        RingHeader {
            identity: Identity::default(),
            owner: Owner::default(),
            capacity: W::default(),
            reserved_a: core::array::from_fn(|_| W::default()),
            writer: WriterWords::default(),
            reader: ReaderWords::default(),
            reserved_b: core::array::from_fn(|_| W::default()),
            own_points: core::array::from_fn(|_| core::array::from_fn(|_| W::default())),
        }
    }
}

/// Value of [`Switch::state`] before a process has looked for its control file; never in a file.
pub const SWITCH_UNSET: u64 = 0;
/// Value of [`Switch::state`]: points cost a load and a branch.
pub const SWITCH_OFF: u64 = 1;
/// Value of [`Switch::state`]: points write events.
pub const SWITCH_ON: u64 = 2;

/// What the recorder changes in a control file.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Switch<W> {
    /// [`SWITCH_OFF`] or [`SWITCH_ON`]; the program reads it at every point.
    pub state: W,
    /// The [`Mode`] that rings get when a thread takes them.
    pub mode: W,
    /// Counts recordings: raised by each recorder that switches the program on.
    pub session: W,
    /// Slots wanted for each new ring; 0 leaves it to the program.
    pub ring_slots: W,
    /// Most bytes that all rings together may take; 0 leaves it to the program.
    pub ring_bytes: W,
    /// 1 when what the process left behind has been read by someone: from then on it may be removed.
    pub examined: W,
    /// One in how many bursts of a DPDK program has its frames looked at; 0 for none.
    pub frames: W,
    /// Zero.
    pub reserved: [W; 9],
}

/// What the program counts in its control file.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Census<W> {
    /// Rings made so far: entries of the table from here on are free.
    pub rings: W,
    /// Bytes that they take together.
    pub ring_bytes: W,
    /// Times that a thread got no ring: memory bound reached, file system full, directory gone.
    pub unreached: W,
    /// 1 while someone adds a point.
    pub points_lock: W,
    /// Name of the program (comm).
    pub name: [W; 2],
    /// Bytes that the program's own flight recorder may take; 0 when it has none.
    pub flight: W,
    /// 1 when the program ended by itself: what it leaves tells of no crash.
    pub left: W,
    /// Times that the program asked for a snapshot.
    pub triggers: W,
    /// Zero.
    pub reserved: [W; 7],
}

/// A process's control file.
#[derive(Debug)]
#[repr(C)]
pub struct ControlFile<W> {
    /// Which program.
    pub identity: Identity<W>,
    /// The recorder's words.
    pub switch: Switch<W>,
    /// The program's words.
    pub census: Census<W>,
    /// Zero.
    pub reserved: [W; 80],
    /// Names of the program's own points; entry `i` is point `FIRST_OWN + i`. The first word is written last.
    pub own_points: [[W; NAME_WORDS]; MAX_OWN_POINTS],
    /// State of each ring, see [`Entry`].
    pub rings: [W; MAX_RINGS],
    /// 1 + the program's file descriptor of a ring that has no name in the directory; 0 for one that has.
    pub ring_fds: [W; MAX_RINGS],
    /// Zero.
    pub reserved_end: [W; 512],
}

/// A ring's entry in the control file: `[copies:16 | state:16 | tid:32]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// What the ring is doing.
    pub state: EntryState,
    /// How many copies of the probe runtime write it, one at a time, from the same thread.
    pub copies: u16,
    /// Its thread.
    pub tid: u32,
}

/// What a ring is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u16)]
pub enum EntryState {
    /// There is no ring.
    #[default]
    Free = 0,
    /// A thread is making its file or moving in.
    Opening = 1,
    /// A thread writes it.
    Live = 2,
    /// Its thread is gone.
    Ended = 3,
}

impl Entry {
    /// The entry in a word; a state that is none counts as [`EntryState::Free`].
    pub const fn from_word(word: u64) -> Entry {
        let state = match (word >> 32) as u16 {
            1 => EntryState::Opening,
            2 => EntryState::Live,
            3 => EntryState::Ended,
            _ => EntryState::Free,
        };
        Entry {
            state,
            copies: (word >> 48) as u16,
            tid: word as u32,
        }
    }

    /// The word.
    pub const fn word(self) -> u64 {
        ((self.copies as u64) << 48) | ((self.state as u64) << 32) | self.tid as u64
    }
}

/// Bytes of a ring file with `capacity` slots.
pub const fn ring_file_bytes(capacity: u64) -> u64 {
    RING_HEADER_BYTES as u64 + capacity * SLOT_BYTES as u64
}

/// Whether a ring may have this many slots.
pub const fn is_capacity(capacity: u64) -> bool {
    capacity.is_power_of_two() && capacity >= MIN_CAPACITY && capacity <= MAX_CAPACITY
}

/// Whether a reader of this crate's version may read what has this version word.
pub const fn is_readable(version_word: u64) -> bool {
    let (version, oldest) = ((version_word >> 32) as u32, version_word as u32);
    version >= OLDEST_COMPATIBLE && oldest <= VERSION && oldest <= version && oldest > 0
}

macro_rules! offsets {
    ($($type:ident { $($field:ident: $at:literal),* } size $size:literal;)*) => {
        $($(const _: () = assert!(core::mem::offset_of!($type<u64>, $field) == $at);)*
        const _: () = assert!(size_of::<$type<u64>>() == $size);)*
    };
}

offsets! {
    Identity { magic: 0, version: 8, header_bytes: 16, file_bytes: 24, pid: 32, pid_namespace: 40, start_time: 48, uid: 56,
        boot_id: 64, base_tsc: 80, base_time: 88, reserved: 96 } size 128;
    Owner { generation: 0, tid: 8, first_slot: 16, mode: 24, name: 32, ended: 64, ended_at: 72, reserved: 80 } size 128;
    WriterWords { head: 0, limit: 8, lost: 16, epoch: 24, dropped_slots: 32, extra_slots: 40, quiet_slots: 48, requests: 56,
        empty_rounds: 64, worked_rounds: 72, rx_bursts: 80, rx_packets: 88, rx_bytes: 96, tx_bursts: 104, tx_packets: 112, tx_bytes: 120 } size 128;
    ReaderWords { tail: 0, released: 8, mode: 16, lease: 24, reserved: 32 } size 64;
    RingHeader { identity: 0, owner: 128, capacity: 256, reserved_a: 264, writer: 384, reader: 512, reserved_b: 576, own_points: 1024 } size 4096;
    Switch { state: 0, mode: 8, session: 16, ring_slots: 24, ring_bytes: 32, examined: 40, frames: 48, reserved: 56 } size 128;
    Census { rings: 0, ring_bytes: 8, unreached: 16, points_lock: 24, name: 32, flight: 48, left: 56, triggers: 64, reserved: 72 } size 128;
    ControlFile { identity: 0, switch: 128, census: 256, reserved: 384, own_points: 1024, rings: 4096, ring_fds: 8192, reserved_end: 12288 } size 16384;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names survive the way through words, cut at their end.
    #[test]
    fn names_round_trip() {
        for name in [
            "",
            "rx",
            "exactly-eight-and-more",
            "a name that is longer than thirty-two bytes",
        ] {
            let bytes = name_bytes(name_words(name.as_bytes()));
            let len = name.len().min(NAME_BYTES);
            assert_eq!(&bytes[..len], &name.as_bytes()[..len]);
            assert!(bytes[len..].iter().all(|&b| b == 0));
        }
    }

    /// An entry survives the way through its word, and no word is refused.
    #[test]
    fn entries_round_trip() {
        for state in [
            EntryState::Free,
            EntryState::Opening,
            EntryState::Live,
            EntryState::Ended,
        ] {
            let entry = Entry {
                state,
                copies: 3,
                tid: u32::MAX,
            };
            assert_eq!(Entry::from_word(entry.word()), entry);
        }
        assert_eq!(Entry::from_word(u64::MAX).state, EntryState::Free);
    }

    /// Newer writers that say they are compatible are read, older and broken ones are not.
    #[test]
    fn versions() {
        assert!(is_readable(VERSION_WORD));
        assert!(is_readable((9 << 32) | 1));
        assert!(!is_readable((9 << 32) | 9));
        assert!(!is_readable(0));
        assert!(!is_readable(1));
    }
}
