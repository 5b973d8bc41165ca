//! The ring over real files: against a naive model, and against files that lie.
#![allow(unsafe_code)]
#![cfg(not(loom))]

mod hostile;
mod look;
mod naive;
mod steps;

use bypassprof_ring::mapping::{Mapping, Populate};
use bypassprof_ring::{Header, Ordering, Ring};
use bypassprof_wire::layout::{Mode, RING_HEADER_BYTES, VERSION_WORD, ring_file_bytes};
use std::fs::File;
use std::os::fd::AsRawFd;

/// A ring in a file of its own.
struct Scratch {
    file: tempfile::NamedTempFile,
    _mapping: Mapping,
    ring: Ring,
}

impl Scratch {
    fn new(capacity: u64, mode: Mode) -> Scratch {
        let file = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
        let bytes = ring_file_bytes(capacity);
        file.as_file().set_len(bytes).unwrap();
        let mapping =
            Mapping::new(file.as_file().as_raw_fd(), bytes as usize, Populate::Yes).unwrap();
        // SAFETY: the file is as long as the ring, and the mapping lives beside it.
        let ring = unsafe { Ring::from_raw(mapping.as_ptr::<Header>(), capacity - 1) };
        let header = ring.header();
        header
            .identity
            .version
            .store(VERSION_WORD, Ordering::Relaxed);
        let words = (RING_HEADER_BYTES as u64, bytes);
        header
            .identity
            .header_bytes
            .store(words.0, Ordering::Relaxed);
        header.identity.file_bytes.store(words.1, Ordering::Relaxed);
        header.capacity.store(capacity, Ordering::Relaxed);
        ring.move_in(1, [0; 4], mode);
        ring.publish();
        Scratch {
            file,
            _mapping: mapping,
            ring,
        }
    }

    fn reopen(&self) -> File {
        File::options()
            .read(true)
            .write(true)
            .open(self.file.path())
            .unwrap()
    }
}
