//! A program's control file and rings, as bytes that may be anyone's and may change at any time.
//!
//! In: an open directory and a name; out: numbers that make sense, or nothing. Files are read and written with system
//! calls and never mapped: a program that truncates its ring under its reader costs a short read, not a signal. Every
//! length and position is checked against the file. A position is taken from two readings, the smaller one of them: it
//! only grows, so what lies before it is written.

use super::tasks::Inside;
use crate::trace::record::Pid;
use bypassprof_wire::event::SLOT_BYTES;
use bypassprof_wire::layout::{
    self, CONTROL_MAGIC, Entry, EntryState, MAX_OWN_POINTS, MAX_RINGS, NAME_WORDS,
    RING_HEADER_BYTES, RING_MAGIC, SWITCH_OFF, SWITCH_ON,
};
use bypassprof_wire::{Slot, points};
use rustix::fs::{FileType, Mode, OFlags};
use std::fs::File;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

type Control = layout::ControlFile<u64>;
type Header = layout::RingHeader<u64>;
type Identity = layout::Identity<u64>;
type Owner = layout::Owner<u64>;
type Written = layout::WriterWords<u64>;

/// Bytes of slots taken with one system call.
const READ_BYTES: usize = 1 << 20;

/// Opens a regular file that belongs to `uid` or root; whatever else lies there is not touched.
fn open(dir: BorrowedFd<'_>, name: &str, uid: Option<u32>) -> io::Result<(File, u64)> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    reopen(rustix::fs::openat(dir, name, flags, Mode::empty())?, uid)
}

fn reopen(place: OwnedFd, uid: Option<u32>) -> io::Result<(File, u64)> {
    let stat = rustix::fs::fstat(&place)?;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !regular || uid.is_some_and(|u| u != stat.st_uid && stat.st_uid != 0) {
        return Err(invalid());
    }
    let path = format!("/proc/self/fd/{}", place.as_raw_fd());
    let file = File::options().read(true).write(true).open(path)?;
    Ok((file, stat.st_size.cast_unsigned()))
}

fn invalid() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

fn word(bytes: &[u8], offset: usize) -> u64 {
    let word = bytes.get(offset..).and_then(|b| b.first_chunk());
    word.map_or(0, |w| u64::from_ne_bytes(*w))
}

fn read_word(file: &File, offset: usize) -> io::Result<u64> {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, offset as u64)?;
    Ok(u64::from_ne_bytes(bytes))
}

fn write_word(file: &File, offset: usize, word: u64) -> io::Result<()> {
    file.write_all_at(&word.to_ne_bytes(), offset as u64)
}

/// A name of `N` words, without what must not reach a terminal.
fn name<const N: usize>(bytes: &[u8], offset: usize) -> String {
    let words: Vec<u8> = (0..N)
        .flat_map(|i| word(bytes, offset + 8 * i).to_le_bytes())
        .collect();
    let text = words.split(|&b| b == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    text.chars().filter(|c| !c.is_control()).collect()
}

fn identity(bytes: &[u8], magic: u64) -> io::Result<Inside> {
    let at = |offset| word(bytes, offset);
    if at(offset_of!(Identity, magic)) != magic
        || !layout::is_readable(at(offset_of!(Identity, version)))
    {
        return Err(invalid());
    }
    Ok(Inside {
        pid: u32::try_from(at(offset_of!(Identity, pid))).map_err(|_| invalid())?,
        namespace: at(offset_of!(Identity, pid_namespace)),
        start_time: at(offset_of!(Identity, start_time)),
    })
}

/// A program's control file.
#[derive(Debug)]
pub struct ControlSource {
    file: File,
    /// The program as it sees itself.
    pub inside: Inside,
}

impl ControlSource {
    /// Opens a control file that belongs to `uid` or root.
    pub fn open(dir: BorrowedFd<'_>, name: &str, uid: Option<u32>) -> io::Result<ControlSource> {
        let (file, size) = open(dir, name, uid)?;
        let mut bytes = [0; size_of::<Identity>()];
        if size < size_of::<Control>() as u64 {
            return Err(invalid());
        }
        file.read_exact_at(&mut bytes, 0)?;
        let inside = identity(&bytes, CONTROL_MAGIC)?;
        Ok(ControlSource { file, inside })
    }

    /// Lets the program's points write events, in drain mode.
    pub fn switch_on(&self) -> io::Result<()> {
        let switch = offset_of!(Control, switch);
        let session = switch + offset_of!(layout::Switch<u64>, session);
        let mode = switch + offset_of!(layout::Switch<u64>, mode);
        write_word(&self.file, mode, layout::Mode::Drain as u64)?;
        let next = read_word(&self.file, session)?.wrapping_add(1);
        write_word(&self.file, session, next)?;
        let state = switch + offset_of!(layout::Switch<u64>, state);
        write_word(&self.file, state, SWITCH_ON)
    }

    /// Makes the program's points cost next to nothing again.
    pub fn switch_off(&self) -> io::Result<()> {
        let switch = offset_of!(Control, switch);
        let state = switch + offset_of!(layout::Switch<u64>, state);
        write_word(&self.file, state, SWITCH_OFF)
    }

    /// The state of each ring.
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut bytes = [0; 8 * MAX_RINGS];
        let at = offset_of!(Control, rings);
        self.file.read_exact_at(&mut bytes, at as u64)?;
        let count = offset_of!(Control, census) + offset_of!(layout::Census<u64>, rings);
        let count = read_word(&self.file, count)?.min(MAX_RINGS as u64);
        let entry = |i| Entry::from_word(word(&bytes, 8 * i));
        Ok((0..count as usize).map(entry).collect())
    }

    /// The program's descriptor of a ring without a name; `None` if it has one.
    pub fn descriptor(&self, ring: usize) -> Option<u64> {
        let at = offset_of!(Control, ring_fds) + 8 * ring.min(MAX_RINGS - 1);
        read_word(&self.file, at).ok()?.checked_sub(1)
    }

    /// Says of a thread that is gone that it will write no more; it had no chance to say so itself.
    pub fn end(&self, ring: usize, entry: Entry) -> io::Result<()> {
        let state = EntryState::Ended;
        let at = offset_of!(Control, rings) + 8 * ring.min(MAX_RINGS - 1);
        write_word(&self.file, at, Entry { state, ..entry }.word())
    }

    /// Times that a thread got no ring.
    pub fn unreached(&self) -> u64 {
        let at = offset_of!(Control, census) + offset_of!(layout::Census<u64>, unreached);
        read_word(&self.file, at).unwrap_or(0)
    }

    /// The program's own points by number.
    pub fn own_points(&self) -> Vec<(u16, String)> {
        const POINT: usize = 8 * NAME_WORDS;
        let mut bytes = [0; POINT * MAX_OWN_POINTS];
        let at = offset_of!(Control, own_points) as u64;
        if self.file.read_exact_at(&mut bytes, at).is_err() {
            return Vec::new();
        }
        let named = |i| {
            (
                points::FIRST_OWN + i as u16,
                name::<NAME_WORDS>(&bytes, POINT * i),
            )
        };
        let named = (0..MAX_OWN_POINTS).map(named);
        named.filter(|(_, name)| !name.is_empty()).collect()
    }
}

/// Whose a ring is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingOwner {
    /// Even; another one means another owner.
    pub generation: u64,
    /// The thread as it sees itself.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// Position of its first slot.
    pub first_slot: u64,
    /// Whether it overwrites.
    pub flight: bool,
    /// Whether it will write no more.
    pub ended: bool,
}

/// A ring's totals since its owner moved in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingCounts {
    /// Position behind the last slot.
    pub head: u64,
    /// Slots dropped.
    pub dropped_slots: u64,
    /// Slots that are not the first of an event.
    pub extra_slots: u64,
    /// Requests finished.
    pub requests: u64,
    /// Rounds that found nothing.
    pub empty_rounds: u64,
    /// Rounds that did something.
    pub worked_rounds: u64,
    /// Receive bursts, frames, bytes.
    pub rx: [u64; 3],
    /// Transmit bursts, frames, bytes.
    pub tx: [u64; 3],
}

/// What one reading of a ring found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Position of the first slot taken.
    pub first: u64,
    /// Slots in the ring when it was read, taken or not.
    pub waiting: u64,
}

/// A ring.
#[derive(Debug)]
pub struct RingSource {
    file: File,
    /// Slots it holds.
    pub capacity: u64,
    tail: u64,
}

impl RingSource {
    /// Opens a ring by its name in the directory.
    pub fn open(dir: BorrowedFd<'_>, name: &str, program: &Inside) -> io::Result<RingSource> {
        RingSource::of_file(open(dir, name, None)?, program)
    }

    /// Opens a ring that has no name through its program's descriptor.
    pub fn of_descriptor(pid: Pid, descriptor: u64, program: &Inside) -> io::Result<RingSource> {
        let path = format!("/proc/{pid}/fd/{descriptor}");
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let place = rustix::fs::open(path, flags, Mode::empty())?;
        RingSource::of_file(reopen(place, None)?, program)
    }

    fn of_file((file, size): (File, u64), program: &Inside) -> io::Result<RingSource> {
        let mut bytes = [0; RING_HEADER_BYTES];
        file.read_exact_at(&mut bytes, 0)?;
        let capacity = word(&bytes, offset_of!(Header, capacity));
        let whole = layout::is_capacity(capacity) && size >= layout::ring_file_bytes(capacity);
        if identity(&bytes, RING_MAGIC)? != *program || !whole {
            return Err(invalid());
        }
        let tail = offset_of!(Header, reader) + offset_of!(layout::ReaderWords<u64>, tail);
        Ok(RingSource {
            capacity,
            tail: word(&bytes, tail),
            file,
        })
    }

    /// Owner and counts; no owner while a new one moves in.
    pub fn header(&self) -> io::Result<(Option<RingOwner>, RingCounts)> {
        let mut bytes = [0; RING_HEADER_BYTES];
        self.file.read_exact_at(&mut bytes, 0)?;
        let owner = offset_of!(Header, owner);
        let at = |offset: usize| word(&bytes, owner + offset);
        let generation = at(offset_of!(Owner, generation));
        let told = RingOwner {
            generation,
            tid: at(offset_of!(Owner, tid)) as u32,
            name: name::<NAME_WORDS>(&bytes, owner + offset_of!(Owner, name)),
            first_slot: at(offset_of!(Owner, first_slot)),
            flight: at(offset_of!(Owner, mode)) == layout::Mode::Flight as u64,
            ended: at(offset_of!(Owner, ended)) == 1,
        };
        let again = read_word(&self.file, owner + offset_of!(Owner, generation))?;
        let settled = generation % 2 == 0 && again == generation;
        let writer = offset_of!(Header, writer);
        let at = |offset: usize| word(&bytes, writer + offset);
        let counts = RingCounts {
            head: at(offset_of!(Written, head)),
            dropped_slots: at(offset_of!(Written, dropped_slots)),
            extra_slots: at(offset_of!(Written, extra_slots)),
            requests: at(offset_of!(Written, requests)),
            empty_rounds: at(offset_of!(Written, empty_rounds)),
            worked_rounds: at(offset_of!(Written, worked_rounds)),
            rx: [
                at(offset_of!(Written, rx_bursts)),
                at(offset_of!(Written, rx_packets)),
                at(offset_of!(Written, rx_bytes)),
            ],
            tx: [
                at(offset_of!(Written, tx_bursts)),
                at(offset_of!(Written, tx_packets)),
                at(offset_of!(Written, tx_bytes)),
            ],
        };
        Ok((settled.then_some(told), counts))
    }

    /// Takes the slots that wait, at most a megabyte of them and none that lie across the ring's end, and gives their
    /// room back. `head` is a position read before.
    pub fn take(
        &mut self,
        head: u64,
        bytes: &mut Vec<u8>,
        out: &mut Vec<Slot>,
    ) -> io::Result<Taken> {
        let at = offset_of!(Header, writer) + offset_of!(Written, head);
        let head = head.min(read_word(&self.file, at)?);
        let waiting = head.wrapping_sub(self.tail);
        if waiting > self.capacity {
            // No writer of ours moves so: the file is someone else's play.
            return Err(invalid());
        }
        let place = self.tail & (self.capacity - 1);
        let count = waiting
            .min(self.capacity - place)
            .min((READ_BYTES / SLOT_BYTES) as u64);
        let first = self.tail;
        out.clear();
        if count > 0 {
            bytes.resize(count as usize * SLOT_BYTES, 0);
            let offset = RING_HEADER_BYTES as u64 + place * SLOT_BYTES as u64;
            self.file.read_exact_at(bytes, offset)?;
            out.extend(bytes.chunks_exact(SLOT_BYTES).map(|slot| Slot {
                word0: word(slot, 0),
                word1: word(slot, 8),
            }));
            self.tail += count;
            let tail = offset_of!(Header, reader) + offset_of!(layout::ReaderWords<u64>, tail);
            write_word(&self.file, tail, self.tail)?;
        }
        Ok(Taken { first, waiting })
    }

    /// Where the next slot will be taken.
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// Passes over what was written for a recording before this one.
    pub fn skip_to(&mut self, head: u64) -> io::Result<()> {
        self.tail = head;
        let tail = offset_of!(Header, reader) + offset_of!(layout::ReaderWords<u64>, tail);
        write_word(&self.file, tail, head)
    }

    /// Everything of this owner was taken: the ring may have another.
    pub fn release(&self, generation: u64) -> io::Result<()> {
        let at = offset_of!(Header, reader) + offset_of!(layout::ReaderWords<u64>, released);
        write_word(&self.file, at, generation)
    }
}
