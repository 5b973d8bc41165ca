//! Files that lie: the reader answers with an error or a count, never with a panic, a signal or a lot of memory.

use crate::Scratch;
use bypassprof_ring::Ordering;
use bypassprof_ring::reader::{ControlHandle, Drained, ReadError, RingFile, SessionDir};
use bypassprof_wire::layout::{CONTROL_BYTES, Mode, ring_file_bytes};
use bypassprof_wire::{Flow, Point, Slot, Tsc};
use proptest::prelude::*;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

proptest! {
    /// Random words anywhere in the header and the slots of a ring that was good when it was opened.
    #[test]
    fn scribbled_ring(
        flight: bool,
        words in proptest::collection::vec((0u64..1536, prop_oneof![any::<u64>(), 0u64..4, Just(u64::MAX)]), 1..40),
    ) {
        let scratch = Scratch::new(512, if flight { Mode::Flight } else { Mode::Drain });
        let file = scratch.reopen();
        let mut reader = RingFile::open(&file, scratch.file.path()).unwrap();
        let mut drained = Drained::with_capacity(1024);
        for (at, word) in words {
            file.write_all_at(&word.to_ne_bytes(), at * 8).unwrap();
            let tsc = Tsc::from_raw(1 << 40);
            scratch.ring.push(tsc, [Slot::head(tsc, Point::from_id(300), Flow::NONE, 1)]);
            if let Ok(taken) = reader.drain(&mut drained) {
                prop_assert!(taken.slots <= 512);
            }
            drained.clear();
            reader.totals();
            reader.own_points();
            reader.base_tsc();
            reader.release();
        }
        let _ = RingFile::open(&file, scratch.file.path());
    }

    /// Random bytes with a ring's or a control file's length.
    #[test]
    fn random_files(seed in proptest::collection::vec(any::<u8>(), 1..200), magic: bool) {
        let mut file = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
        let mut bytes: Vec<u8> = seed.iter().copied().cycle().take(CONTROL_BYTES).collect();
        if magic {
            bytes[..8].copy_from_slice(b"bypCTRL\0");
            bytes[8..16].copy_from_slice(&((1u64 << 32) | 1).to_ne_bytes());
        }
        file.write_all(&bytes).unwrap();
        if let Ok(control) = ControlHandle::open(file.as_file(), file.path()) {
            prop_assert!(control.rings().len() <= 512);
            control.own_points();
            control.switch_on(Mode::Drain);
        }
        bytes.truncate(ring_file_bytes(512) as usize);
        file.as_file().set_len(ring_file_bytes(512)).unwrap();
        prop_assert!(RingFile::open(file.as_file(), file.path()).is_err());
    }
}

/// A file that is cut short while it is read is an error, wherever the cut is.
#[test]
fn cut_short() {
    for len in [0, 100, 300, 4096, 8192] {
        cut_to(len);
    }
}

fn cut_to(len: u64) {
    let scratch = Scratch::new(512, Mode::Drain);
    let mut reader = RingFile::open(&scratch.reopen(), scratch.file.path()).unwrap();
    let mut drained = Drained::with_capacity(1024);
    let tsc = Tsc::from_raw(1 << 40);
    for n in 0..10 {
        scratch
            .ring
            .push(tsc, [Slot::head(tsc, Point::from_id(300), Flow::NONE, n)]);
    }
    reader.drain(&mut drained).unwrap();
    drained.clear();
    scratch.file.as_file().set_len(len).unwrap();
    // The writer's own mapping is cut too; it goes on writing where no one reads.
    for n in 0..2000 {
        scratch
            .ring
            .push(tsc, [Slot::head(tsc, Point::from_id(300), Flow::NONE, n)]);
    }
    let mut drain = || {
        drained.clear();
        reader.drain(&mut drained)
    };
    let answer = drain().and_then(|_| drain()).and_then(|_| drain());
    assert!(
        matches!(answer, Err(ReadError::Spoilt { .. })),
        "{len}: {answer:?}"
    );
}

/// Head and tail that make no sense cost a bounded number of slots, and are counted or passed over.
#[test]
fn nonsense_positions() {
    let scratch = Scratch::new(512, Mode::Drain);
    let mut reader = RingFile::open(&scratch.reopen(), scratch.file.path()).unwrap();
    let mut drained = Drained::with_capacity(4096);
    let head = &scratch.ring.header().writer.head;
    head.store(1 << 40, Ordering::Relaxed);
    let taken = reader.drain(&mut drained).unwrap();
    assert_eq!((taken.slots as u64, taken.skipped), (512, (1 << 40) - 512));
    drained.clear();
    head.store(5, Ordering::Relaxed);
    assert!(matches!(
        reader.drain(&mut drained),
        Err(ReadError::Spoilt { .. })
    ));
    // A tail from nowhere makes the writer drop and count, not run over.
    scratch
        .ring
        .header()
        .reader
        .tail
        .store(99, Ordering::Relaxed);
    let tsc = Tsc::from_raw(1 << 40);
    let slot = Slot::head(tsc, Point::from_id(300), Flow::NONE, 1);
    assert!((0..600).filter(|_| scratch.ring.push(tsc, [slot])).count() <= 512);
}

/// Directories that others own or may write to, and links in place of directories, are refused.
#[test]
fn unsafe_directories() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let uid = dir.path().metadata().unwrap().uid();
    let mode =
        |bits| std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(bits)).unwrap();
    mode(0o700);
    assert!(SessionDir::open(dir.path(), uid).is_ok());
    let refused = |path: &Path, uid| SessionDir::open(path, uid).unwrap_err().to_string();
    assert!(refused(dir.path(), uid + 1).contains("belongs to another user"));
    mode(0o770);
    assert!(refused(dir.path(), uid).contains("other users may write"));
    mode(0o700);
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path(), &link).unwrap();
    assert!(refused(&link, uid).contains("cannot open"));
    assert!(refused(&dir.path().join("none"), uid).contains("cannot open"));
}
