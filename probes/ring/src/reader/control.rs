//! A process's control file, from the recorder's side: who it is, the switch, and where its rings are.
//!
//! In: the mapped file; out: checked facts and ring places; a recorder's wishes go back into the switch words.
#![allow(unsafe_code)]

use super::ReadError;
use crate::atomics::{AtomicU64, Ordering};
use crate::mapping::{Mapping, Populate};
use crate::memory::Control;
use bypassprof_wire::layout::{
    CONTROL_BYTES, CONTROL_MAGIC, Entry, EntryState, Identity, MAX_OWN_POINTS, MAX_RINGS, Mode,
    NAME_WORDS, SWITCH_OFF, SWITCH_ON, is_readable, name_bytes,
};
use bypassprof_wire::names::ProcessKey;
use bypassprof_wire::points::FIRST_OWN;
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Who wrote a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The process as it sees itself.
    pub pid: u32,
    /// Inode of its PID namespace; 0 if not known.
    pub pid_namespace: u64,
    /// When it started, in ticks after boot; 0 if not known.
    pub start_time: u64,
    /// Its user when the file was made.
    pub uid: u32,
    /// The machine's boot id; 0 if not known.
    pub boot_id: u128,
    /// The counter when the file was made.
    pub base_tsc: u64,
    /// CLOCK_MONOTONIC_RAW in ns at the same time.
    pub base_time: u64,
}

impl Facts {
    pub(super) fn read(identity: &Identity<AtomicU64>) -> Facts {
        let word = |w: &AtomicU64| w.load(Ordering::Relaxed);
        let [high, low] = &identity.boot_id;
        Facts {
            pid: word(&identity.pid) as u32,
            pid_namespace: word(&identity.pid_namespace),
            start_time: word(&identity.start_time),
            uid: word(&identity.uid) as u32,
            boot_id: (u128::from(word(high)) << 64) | u128::from(word(low)),
            base_tsc: word(&identity.base_tsc),
            base_time: word(&identity.base_time),
        }
    }
}

/// Where a ring is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingPlace {
    /// Its number in the process.
    pub index: u32,
    /// The descriptor of the process that holds it, when it has no name in the directory.
    pub fd: Option<u32>,
    /// What it is doing.
    pub entry: Entry,
}

/// A mapped control file.
#[derive(Debug)]
pub struct ControlHandle {
    mapping: Mapping,
    /// Whether the words may be changed.
    writable: bool,
    path: PathBuf,
    facts: Facts,
    host_pid: u32,
    /// Held open for its lock: the program sees that a recorder is there, and sees it go however it ends.
    _held: Option<File>,
}

impl ControlHandle {
    /// Maps and checks a control file; `path` is for messages.
    pub fn open(file: &File, path: &Path) -> Result<ControlHandle, ReadError> {
        ControlHandle::map(file, path, true)
    }

    /// The same for reading alone: wishes of this side's are passed over.
    pub fn look(file: &File, path: &Path) -> Result<ControlHandle, ReadError> {
        ControlHandle::map(file, path, false)
    }

    fn map(file: &File, path: &Path, writable: bool) -> Result<ControlHandle, ReadError> {
        let wrong = |why| ReadError::Format {
            path: path.to_path_buf(),
            why,
        };
        let len = file.metadata().map_err(|source| ReadError::Open {
            path: path.to_path_buf(),
            source,
        })?;
        if !len.is_file() || len.len() < CONTROL_BYTES as u64 {
            return Err(wrong("it is shorter than a control file"));
        }
        let mapping = if writable {
            Mapping::new(file.as_raw_fd(), CONTROL_BYTES, Populate::No)
        } else {
            Mapping::read_only(file.as_raw_fd(), CONTROL_BYTES)
        };
        let mut handle = ControlHandle {
            mapping: mapping.ok_or_else(|| wrong("it cannot be mapped"))?,
            writable,
            path: path.to_path_buf(),
            facts: Facts::default(),
            host_pid: 0,
            _held: writable.then(|| hold(file)).flatten(),
        };
        let identity = &handle.words().identity;
        // Acquire `magic`: pairs with the program's Release `magic`: the description is whole.
        if identity.magic.load(Ordering::Acquire) != CONTROL_MAGIC {
            return Err(wrong("its first bytes are not those of a control file"));
        }
        if !is_readable(identity.version.load(Ordering::Relaxed)) {
            return Err(wrong(
                "it was written by an incompatible version of the probes",
            ));
        }
        handle.facts = Facts::read(identity);
        handle.host_pid = handle.facts.pid;
        Ok(handle)
    }

    fn words(&self) -> &Control {
        // SAFETY: `open` checked that the file holds a whole control file, the mapping is aligned to a page and lives as
        // long as `self`; all of it is atomic words, for which any value is valid.
        unsafe { &*self.mapping.as_ptr::<Control>() }
    }

    /// Who wrote it.
    pub fn facts(&self) -> Facts {
        self.facts
    }

    /// The process in the names of its files.
    pub fn key(&self) -> ProcessKey {
        ProcessKey {
            pid: self.facts.pid,
            start_time: self.facts.start_time,
        }
    }

    /// The process's number as this process sees it (by `NSpid`), needed to reach rings through /proc.
    pub fn set_host_pid(&mut self, pid: u32) {
        self.host_pid = pid;
    }

    pub(super) fn host_pid(&self) -> u32 {
        self.host_pid
    }

    /// Switches the process's points on. Counts as a new session: threads that got no ring before try again.
    pub fn switch_on(&self, mode: Mode) {
        if !self.writable {
            return;
        }
        let switch = &self.words().switch;
        switch.mode.store(mode as u64, Ordering::Relaxed);
        let session = switch.session.load(Ordering::Relaxed);
        switch
            .session
            .store(session.wrapping_add(1), Ordering::Relaxed);
        // Release `state`: mode and session are there before a thread makes its ring.
        switch.state.store(SWITCH_ON, Ordering::Release);
    }

    /// Switches the process's points off, or gives them back to its own flight recorder.
    pub fn switch_off(&self) {
        if !self.writable {
            return;
        }
        let switch = &self.words().switch;
        if self.flight_bytes() > 0 {
            self.switch_on(Mode::Flight);
        } else {
            switch.state.store(SWITCH_OFF, Ordering::Release);
        }
    }

    /// Bytes that the process's own flight recorder may take; 0 when it has none.
    pub fn flight_bytes(&self) -> u64 {
        self.words().census.flight.load(Ordering::Relaxed)
    }

    /// Which mode rings get when a thread takes them.
    pub fn mode(&self) -> Mode {
        Mode::from_word(self.words().switch.mode.load(Ordering::Relaxed))
    }

    /// Whether the process ended by itself: what it left tells of no crash.
    pub fn has_left(&self) -> bool {
        self.words().census.left.load(Ordering::Acquire) > 0
    }

    /// Whether someone has read what the process left.
    pub fn is_examined(&self) -> bool {
        self.words().switch.examined.load(Ordering::Relaxed) > 0
    }

    /// Times that the process asked for a snapshot.
    pub fn triggers(&self) -> u64 {
        self.words().census.triggers.load(Ordering::Relaxed)
    }

    /// Whether the points are switched on.
    pub fn is_on(&self) -> bool {
        self.words().switch.state.load(Ordering::Acquire) == SWITCH_ON
    }

    /// Wishes for rings made from now on: slots of each and bytes of all together; 0 leaves a choice to the program.
    pub fn set_limits(&self, ring_slots: u64, ring_bytes: u64) {
        if !self.writable {
            return;
        }
        let switch = &self.words().switch;
        switch.ring_slots.store(ring_slots, Ordering::Relaxed);
        switch.ring_bytes.store(ring_bytes, Ordering::Relaxed);
    }

    /// One in how many bursts has its frames looked at, where the program has bursts; 0 for none.
    pub fn look_at_frames(&self, one_burst_in: u64) {
        if self.writable {
            let word = &self.words().switch.frames;
            word.store(one_burst_in, Ordering::Relaxed);
        }
    }

    /// The rings there are, those of ended threads included.
    pub fn rings(&self) -> Vec<RingPlace> {
        let words = self.words();
        let count = words
            .census
            .rings
            .load(Ordering::Acquire)
            .min(MAX_RINGS as u64);
        (0..count as usize)
            .filter_map(|index| {
                let entry = Entry::from_word(words.rings[index].load(Ordering::Acquire));
                let fd = words.ring_fds[index].load(Ordering::Relaxed);
                let shown = matches!(entry.state, EntryState::Live | EntryState::Ended);
                shown.then_some(RingPlace {
                    index: index as u32,
                    fd: (fd as u32).checked_sub(1),
                    entry,
                })
            })
            .collect()
    }

    /// How often a thread of the process got no ring.
    pub fn unreached(&self) -> u64 {
        self.words().census.unreached.load(Ordering::Relaxed)
    }

    /// The program's own points: number and name.
    pub fn own_points(&self) -> Vec<(u16, String)> {
        own_points(&self.words().own_points)
    }

    /// The program's name when it made the file.
    pub fn name(&self) -> String {
        let [first, second] = &self.words().census.name;
        let word = |w: &AtomicU64| w.load(Ordering::Relaxed);
        text(&[word(first), word(second), 0, 0].map(AtomicU64::new))
    }

    /// Whether the file was cut short: nothing in it means anything then.
    pub fn is_cut_short(&self) -> bool {
        // A page that is gone is noticed when it is touched.
        self.words().identity.magic.load(Ordering::Relaxed);
        self.mapping.is_hit()
    }

    /// What it is called.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A shared lock on the file. A program tries the lock for a moment now and then; one that keeps it, or a file system
/// without locks, is recorded all the same.
fn hold(file: &File) -> Option<File> {
    let held = file.try_clone().ok()?;
    for _ in 0..10 {
        match flock(&held, FlockOperation::NonBlockingLockShared) {
            Ok(()) => return Some(held),
            Err(_) => std::thread::sleep(std::time::Duration::from_micros(100)),
        }
    }
    None
}

/// Names that are there, with the numbers of their points.
pub(super) fn own_points(table: &[[AtomicU64; NAME_WORDS]; MAX_OWN_POINTS]) -> Vec<(u16, String)> {
    let named = table.iter().enumerate().filter_map(|(at, name)| {
        // Acquire first word: pairs with the program's Release of it, which it writes last.
        let first = name[0].load(Ordering::Acquire);
        (first != 0).then(|| (FIRST_OWN + at as u16, text(name)))
    });
    named.collect()
}

/// A name as text; what is no UTF-8 is replaced.
pub(super) fn text(words: &[AtomicU64; NAME_WORDS]) -> String {
    let bytes = name_bytes([0, 1, 2, 3].map(|i: usize| words[i].load(Ordering::Relaxed)));
    let len = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(&bytes[..len]);
    text.chars().filter(|c| !c.is_control()).collect()
}
