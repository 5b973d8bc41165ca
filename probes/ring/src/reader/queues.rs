//! A process's queue file, from the recorder's side.
//!
//! In: an open file that its owner may be writing; out: whose each entry is, and its counts. What is no whole entry is
//! left out; no count is believed to fit another.
#![allow(unsafe_code)]

use super::ReadError;
use super::control::text;
use crate::atomics::{AtomicU64, Ordering};
use crate::mapping::{Mapping, Populate};
use bypassprof_wire::layout::is_readable;
use bypassprof_wire::queues::{
    MAX_ENTRIES, QUEUES_BYTES, QUEUES_MAGIC, QueueEntry, QueuesHeader, RECEIVE, SIZES, TRANSMIT,
    is_exact, smallest_of,
};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// What one thread did on one queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Number of the entry; bursts in the thread's ring name it, 255 for all from there on.
    pub entry: u32,
    /// The thread as it sees itself.
    pub tid: u32,
    /// Its lcore, if it is one.
    pub lcore: Option<u32>,
    /// The port.
    pub port: u16,
    /// The port's name; empty if not known.
    pub port_name: String,
    /// The queue; `None` if it could not be told.
    pub queue: Option<u16>,
    /// Whether frames are received.
    pub receives: bool,
    /// Whether frames are those the device took; otherwise those offered to it.
    pub accepted_known: bool,
    /// One in how many bursts was last chosen to be an event; 0 before the first.
    pub sampled: u64,
    /// Frames received or sent.
    pub frames: u64,
    /// Frames offered for sending that the device did not take.
    pub refused: u64,
    /// Bytes of the frames that were looked at.
    pub bytes: u64,
    /// How many those are.
    pub bytes_of: u64,
    /// Frames that were to be looked at and were not.
    pub unlooked: u64,
    /// Calls by the smallest size of their class; classes without any are left out.
    pub sizes: Vec<(u32, u64)>,
}

/// What a queue file says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueuesState {
    /// Bursts without an entry.
    pub uncounted: u64,
    /// Ports that are counted now, one bit each.
    pub wrapped: u64,
    /// Ports that cannot be, one bit each.
    pub refused: u64,
}

/// How much of a memory pool is in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolUse {
    /// Its name.
    pub name: String,
    /// Objects in all.
    pub size: u64,
    /// Those that are free.
    pub free: u64,
}

/// A mapped queue file.
#[derive(Debug)]
pub struct QueueFile {
    mapping: Mapping,
}

impl QueueFile {
    /// Maps and checks a queue file; `path` is for messages.
    pub fn open(file: &File, path: &Path) -> Result<QueueFile, ReadError> {
        let wrong = |why| ReadError::Format {
            path: PathBuf::from(path),
            why,
        };
        let metadata = file.metadata().map_err(|source| ReadError::Open {
            path: PathBuf::from(path),
            source,
        })?;
        if !metadata.is_file() || metadata.len() < QUEUES_BYTES as u64 {
            return Err(wrong("it is shorter than a queue file"));
        }
        let mapping = Mapping::new(file.as_raw_fd(), QUEUES_BYTES, Populate::No)
            .ok_or_else(|| wrong("it cannot be mapped"))?;
        let queues = QueueFile { mapping };
        let identity = &queues.header().identity;
        // Acquire `magic`: pairs with the program's Release of it: the description is whole.
        if identity.magic.load(Ordering::Acquire) != QUEUES_MAGIC {
            return Err(wrong("its first bytes are not those of a queue file"));
        }
        if !is_readable(identity.version.load(Ordering::Relaxed)) {
            return Err(wrong(
                "it was written by an incompatible version of the probes",
            ));
        }
        Ok(queues)
    }

    fn header(&self) -> &QueuesHeader<AtomicU64> {
        // SAFETY: `open` checked that the file is long enough, the mapping is aligned to a page and lives as long as
        // `self`; all of it is atomic words, for which any value is valid.
        unsafe { &*self.mapping.as_ptr::<QueuesHeader<AtomicU64>>() }
    }

    fn words(&self) -> &[QueueEntry<AtomicU64>] {
        // SAFETY: as above; the header is as long as an entry, and MAX_ENTRIES follow it.
        unsafe {
            let first = self.mapping.as_ptr::<QueueEntry<AtomicU64>>().add(1);
            std::slice::from_raw_parts(first, MAX_ENTRIES)
        }
    }

    /// What it says of itself.
    pub fn state(&self) -> QueuesState {
        let header = self.header();
        QueuesState {
            uncounted: header.uncounted.load(Ordering::Relaxed),
            wrapped: header.wrapped.load(Ordering::Relaxed),
            refused: header.refused.load(Ordering::Relaxed),
        }
    }

    /// Memory pools as they were read last.
    pub fn pools(&self) -> Vec<PoolUse> {
        let pools = self.header().pools.iter().map(|words| PoolUse {
            name: text(&words.name),
            size: words.size.load(Ordering::Relaxed),
            free: words.free.load(Ordering::Relaxed),
        });
        pools.filter(|pool| !pool.name.is_empty()).collect()
    }

    /// Says that DPDK is asked something, unless it is on its way out and must not be. Once it has answered,
    /// [`QueueFile::answered`] lets it go.
    pub fn ask(&self) -> bool {
        let header = self.header();
        // SeqCst `asked`, then `leaving`; the program stores `leaving`, then loads `asked`: one of both sees the other.
        header.asked.store(1, Ordering::SeqCst);
        let may = header.leaving.load(Ordering::SeqCst) == 0;
        if !may {
            self.answered();
        }
        may
    }

    /// No question is under way.
    pub fn answered(&self) {
        self.header().asked.store(0, Ordering::SeqCst);
    }

    /// All entries as they are now.
    pub fn entries(&self) -> Vec<QueueCounts> {
        let taken = self.header().taken.load(Ordering::Acquire);
        let all = self
            .words()
            .iter()
            .take(taken.min(MAX_ENTRIES as u64) as usize);
        all.enumerate()
            // Acquire `whole`: pairs with the thread's Release of it: whose the entry is stands there.
            .filter(|(_, entry)| entry.whole.load(Ordering::Acquire) == 1)
            .filter_map(|(at, entry)| counts(at, entry))
            .collect()
    }
}

fn counts(at: usize, entry: &QueueEntry<AtomicU64>) -> Option<QueueCounts> {
    let word = |w: &AtomicU64| w.load(Ordering::Relaxed);
    let receives = match word(&entry.direction) {
        RECEIVE => true,
        TRANSMIT => false,
        _ => return None,
    };
    let classes = || (0..SIZES).map(|class| (class, word(&entry.sizes[class])));
    let exact = classes().filter(|&(class, _)| is_exact(class));
    let frames = exact.fold(word(&entry.more_frames), |sum, (class, calls)| {
        sum.wrapping_add(calls.wrapping_mul(u64::from(smallest_of(class))))
    });
    Some(QueueCounts {
        entry: at as u32,
        tid: word(&entry.tid) as u32,
        lcore: (word(&entry.lcore) as u32).checked_sub(1),
        port: word(&entry.port) as u16,
        port_name: text(&entry.name),
        queue: Some(word(&entry.queue) as u16).filter(|&q| q != u16::MAX),
        receives,
        accepted_known: word(&entry.unaccepted) == 0,
        sampled: word(&entry.sampled),
        frames,
        refused: word(&entry.refused),
        bytes: word(&entry.bytes),
        bytes_of: word(&entry.bytes_of),
        unlooked: word(&entry.unlooked),
        sizes: classes()
            .filter(|&(_, calls)| calls > 0)
            .map(|(class, calls)| (smallest_of(class), calls))
            .collect(),
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use bypassprof_wire::layout::{VERSION_WORD, name_words};
    use proptest::prelude::*;
    use std::io::{Seek, SeekFrom, Write};
    use std::mem::offset_of;

    /// A queue file with these words from an offset on.
    fn queues(words: &[(usize, Vec<u64>)]) -> QueueFile {
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(QUEUES_BYTES as u64).unwrap();
        let described = vec![QUEUES_MAGIC, VERSION_WORD];
        for (at, words) in words.iter().chain([&(0, described)]) {
            let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
            file.seek(SeekFrom::Start(*at as u64)).unwrap();
            file.write_all(&bytes).unwrap();
        }
        QueueFile::open(&file, Path::new("queues")).unwrap()
    }

    /// A question that is under way is seen by the program until it is answered; one of a program that leaves is not begun.
    #[test]
    fn nothing_is_asked_of_who_leaves() {
        let file = queues(&[]);
        assert!(file.ask());
        assert_eq!(file.header().asked.load(Ordering::SeqCst), 1);
        file.answered();
        assert_eq!(file.header().asked.load(Ordering::SeqCst), 0);
        file.header().leaving.store(1, Ordering::SeqCst);
        assert!(!file.ask());
        assert_eq!(file.header().asked.load(Ordering::SeqCst), 0);
    }

    /// Pools are those with a name.
    #[test]
    fn pools_with_names() {
        let pool = |name: &[u8], size, free| [&name_words(name)[..], &[size, free]].concat();
        let words = [
            pool(b"frames", 8191, 7000),
            pool(b"", 1, 2),
            pool(b"notes", 3, 3),
        ]
        .concat();
        let found = queues(&[(offset_of!(QueuesHeader<u64>, pools), words)]).pools();
        let told = found.iter().map(|p| (&*p.name, p.size, p.free));
        assert_eq!(
            told.collect::<Vec<_>>(),
            [("frames", 8191, 7000), ("notes", 3, 3)]
        );
    }

    proptest! {
        /// Whatever the words are: only whole entries of a known direction come out, as many as there can be at most.
        #[test]
        fn any_words(
            taken in any::<u64>(),
            entries in prop::collection::vec((0..3u64, any::<u32>(), 0..4u64, prop::collection::vec(any::<u64>(), 120)), 1..4),
        ) {
            let mut words = vec![(offset_of!(QueuesHeader<u64>, taken), vec![taken])];
            for (at, (whole, tid, direction, rest)) in entries.iter().enumerate() {
                let mut entry = rest.clone();
                (entry[0], entry[1], entry[5]) = (*whole, u64::from(*tid), *direction);
                words.push(((at + 1) * size_of::<QueueEntry<u64>>(), entry));
            }
            let found = queues(&words).entries();
            let taken = taken.min(entries.len() as u64) as usize;
            let whole = entries[..taken].iter().filter(|e| e.0 == 1 && [RECEIVE, TRANSMIT].contains(&e.2));
            prop_assert_eq!(found.iter().map(|e| e.tid).collect::<Vec<_>>(), whole.map(|e| e.1).collect::<Vec<_>>());
            prop_assert!(found.iter().all(|e| e.sizes.len() <= SIZES));
        }
    }
}
