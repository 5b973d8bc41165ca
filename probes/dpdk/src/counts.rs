//! The queue file: one entry for each thread, port, queue and direction.
//!
//! In: who polls what; out: an entry to count in. It refuses to know when bursts happen.

use crate::lane::Direction;
use crate::{dpdk, ports};
use bypassprof_ring::AtomicU64;
use bypassprof_wire::layout::NAME_WORDS;
use bypassprof_wire::queues::{
    MAX_ENTRIES, QUEUES_MAGIC, QueueEntry, QueuesHeader, RECEIVE, TRANSMIT, is_exact,
};
use core::sync::atomic::Ordering;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// An entry in shared memory.
pub type Entry = QueueEntry<AtomicU64>;

struct File {
    header: &'static QueuesHeader<AtomicU64>,
    entries: &'static [Entry],
}

static FILE: OnceLock<Option<File>> = OnceLock::new();

fn file() -> Option<&'static File> {
    FILE.get_or_init(|| {
        let words = bypassprof_probe::runtime::queue_file()?;
        let start = words.as_ptr();
        // SAFETY: the file has a header and MAX_ENTRIES entries of the same size (`queues::QUEUES_BYTES`), all of them
        // atomic words, and stays mapped.
        let file = unsafe {
            File {
                header: &*start.cast(),
                entries: core::slice::from_raw_parts(start.cast::<Entry>().add(1), MAX_ENTRIES),
            }
        };
        // Release `magic`: publishes the description.
        file.header
            .identity
            .magic
            .store(QUEUES_MAGIC, Ordering::Release);
        Some(file)
    })
    .as_ref()
}

/// Adds to a word that only this thread writes.
#[inline(always)]
pub fn add(word: &AtomicU64, n: u64) {
    word.store(
        word.load(Ordering::Relaxed).wrapping_add(n),
        Ordering::Relaxed,
    );
}

/// Says which ports are wrapped, and which cannot be.
pub fn tell_ports(wrapped: u64, refused: u64) {
    if let Some(file) = file() {
        file.header.wrapped.store(wrapped, Ordering::Relaxed);
        file.header.refused.store(refused, Ordering::Relaxed);
    }
}

/// Says how much of memory pools is in use: name, objects, free ones. Those of which nothing is said any more are gone.
pub fn tell_pools(pools: &[([u64; NAME_WORDS], u64, u64)]) {
    let Some(file) = file() else {
        return;
    };
    for (at, words) in file.header.pools.iter().enumerate() {
        let (name, size, free) = pools.get(at).copied().unwrap_or_default();
        words.size.store(size, Ordering::Relaxed);
        words.free.store(free, Ordering::Relaxed);
        for (word, value) in words.name.iter().zip(name) {
            word.store(value, Ordering::Relaxed);
        }
    }
}

/// Longest wait for an answer that a recorder waits for: longer than it waits itself.
const PATIENCE: Duration = Duration::from_millis(500);

/// DPDK is about to take its memory down: from here on no recorder asks it anything, and what one has asked is answered
/// first. Its telemetry thread goes on serving until the process ends, and would read what is gone.
pub fn leave() {
    // Without a file nobody has asked.
    let Some(Some(file)) = FILE.get() else {
        return;
    };
    // SeqCst `leaving`, then `asked`; a recorder stores `asked`, then loads `leaving`: one of both sees the other.
    file.header.leaving.store(1, Ordering::SeqCst);
    let since = Instant::now();
    while file.header.asked.load(Ordering::SeqCst) != 0 && since.elapsed() < PATIENCE {
        std::thread::sleep(PATIENCE / 500);
    }
}

/// What an entry has counted of calls that moved frames.
#[derive(Clone, Copy, Default)]
pub struct Moved {
    pub calls: u64,
    pub frames: u64,
}

/// Adds an entry up.
pub fn moved(entry: &Entry) -> Moved {
    let start = Moved {
        calls: 0,
        frames: entry.more_frames.load(Ordering::Relaxed),
    };
    let classes = entry.sizes.iter().enumerate().skip(1);
    classes.fold(start, |sum, (class, word)| {
        let calls = word.load(Ordering::Relaxed);
        let each = if is_exact(class) { class as u64 } else { 0 };
        Moved {
            calls: sum.calls.wrapping_add(calls),
            frames: sum.frames.wrapping_add(calls.wrapping_mul(each)),
        }
    })
}

/// The entry's frames are those offered: what the device took is not known.
pub fn accepted_is_not_known(entry: &Entry) {
    entry.unaccepted.store(1, Ordering::Relaxed);
}

/// A burst that has no entry.
pub fn uncounted() {
    if let Some(file) = file() {
        file.header.uncounted.fetch_add(1, Ordering::Relaxed);
    }
}

/// The calling thread's entry for a queue, and its number; a new one if it has none yet.
pub fn entry(port: usize, queue: u16, direction: Direction) -> Option<(&'static Entry, usize)> {
    let file = file()?;
    let tid = thread_id();
    let direction = match direction {
        Direction::Receive => RECEIVE,
        Direction::Transmit => TRANSMIT,
    };
    let what = [tid, port as u64, u64::from(queue), direction];
    let taken = file.header.taken.load(Ordering::Acquire) as usize;
    let same = |entry: &Entry| {
        let words = [&entry.tid, &entry.port, &entry.queue, &entry.direction];
        entry.whole.load(Ordering::Acquire) == 1 && words.map(|w| w.load(Ordering::Relaxed)) == what
    };
    if let Some(at) = file.entries.iter().take(taken).position(same) {
        return Some((&file.entries[at], at));
    }
    let at = file.header.taken.fetch_add(1, Ordering::AcqRel) as usize;
    let entry = file.entries.get(at)?;
    let words = [&entry.tid, &entry.port, &entry.queue, &entry.direction];
    words
        .iter()
        .zip(what)
        .for_each(|(word, value)| word.store(value, Ordering::Relaxed));
    let lcore = dpdk::lcore().map_or(0, |number| u64::from(number) + 1);
    entry.lcore.store(lcore, Ordering::Relaxed);
    let name = entry.name.iter().zip(ports::name(port));
    name.for_each(|(word, value)| word.store(value, Ordering::Relaxed));
    // Release `whole`: publishes whose the entry is.
    entry.whole.store(1, Ordering::Release);
    Some((entry, at))
}

fn thread_id() -> u64 {
    // SAFETY: no arguments.
    unsafe { libc::syscall(libc::SYS_gettid) as u64 }
}
