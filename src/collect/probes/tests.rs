//! Rings of a program that is only files: drained, given back, and not believed when they make no sense.

use super::*;
use crate::trace::record::Thread;
use crate::trace::{Reader, Record, Writer};
use bypassprof_ring::reader::{SessionDir, Writing};
use bypassprof_wire::layout::{
    self, CONTROL_BYTES, CONTROL_MAGIC, Entry, EntryState, RING_HEADER_BYTES, RING_MAGIC,
    SWITCH_OFF, SWITCH_ON, VERSION_WORD,
};
use bypassprof_wire::{Flow, Slot, Tsc, points};
use std::fs::File;
use std::mem::offset_of;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

type Control = layout::ControlFile<u64>;
type Header = layout::RingHeader<u64>;

const CAPACITY: u64 = 512;

/// This very process, as if it had probes.
struct Fake {
    dir: tempfile::TempDir,
    key: ProcessKey,
}

fn word(file: &File, offset: usize, word: u64) {
    file.write_all_at(&word.to_ne_bytes(), offset as u64)
        .unwrap();
}

fn word_of(path: &Path, offset: usize) -> u64 {
    let mut bytes = [0; 8];
    let file = File::open(path).unwrap();
    file.read_exact_at(&mut bytes, offset as u64).unwrap();
    u64::from_ne_bytes(bytes)
}

impl Fake {
    fn new(rings: &[EntryState]) -> Fake {
        let pid = std::process::id();
        let start_time = tasks::start_time(pid).unwrap();
        let fake = Fake {
            dir: tempfile::tempdir().unwrap(),
            key: ProcessKey { pid, start_time },
        };
        let file = File::create(fake.control()).unwrap();
        file.set_len(CONTROL_BYTES as u64).unwrap();
        fake.identity(&file, CONTROL_MAGIC);
        let census = offset_of!(Control, census);
        word(&file, census, rings.len() as u64);
        for (index, &state) in rings.iter().enumerate() {
            fake.entry(index, state);
        }
        fake
    }

    fn control(&self) -> PathBuf {
        let name = FileKind::Control(self.key).name();
        self.dir.path().join(name.as_str())
    }

    fn ring(&self, index: u32) -> PathBuf {
        let name = FileKind::Ring(self.key, index).name();
        self.dir.path().join(name.as_str())
    }

    fn identity(&self, file: &File, magic: u64) {
        word(file, 0, magic);
        word(file, 8, VERSION_WORD);
        word(file, 32, u64::from(self.key.pid));
        word(file, 48, self.key.start_time);
    }

    fn entry(&self, index: usize, state: EntryState) {
        let file = File::options().write(true).open(self.control()).unwrap();
        let entry = Entry {
            state,
            copies: 1,
            tid: self.key.pid,
        };
        word(&file, offset_of!(Control, rings) + 8 * index, entry.word());
    }

    fn make_ring(&self, index: u32) -> File {
        let options = File::options().read(true).write(true).create(true).clone();
        let file = options.open(self.ring(index)).unwrap();
        file.set_len(layout::ring_file_bytes(CAPACITY)).unwrap();
        self.identity(&file, RING_MAGIC);
        word(&file, offset_of!(Header, capacity), CAPACITY);
        word(&file, offset_of!(Header, owner), 2);
        word(
            &file,
            offset_of!(Header, owner) + 8,
            u64::from(self.key.pid),
        );
        file
    }

    /// The session directory, without the right to remove it.
    fn place(&self) -> Place {
        Place::at(self.dir.path()).unwrap()
    }
}

fn write(file: &File, range: std::ops::Range<u64>) {
    for at in range.clone() {
        let slot = Slot::head(Tsc::from_raw(at), points::APP_END, Flow::NONE, at as u32);
        let place = RING_HEADER_BYTES as u64 + at % CAPACITY * 16;
        let words = [slot.word0.to_ne_bytes(), slot.word1.to_ne_bytes()].concat();
        file.write_all_at(&words, place).unwrap();
    }
    word(file, offset_of!(Header, writer), range.end);
}

struct Recording {
    dir: tempfile::TempDir,
    writer: Writer,
}

impl Recording {
    fn new() -> Recording {
        let dir = tempfile::tempdir().unwrap();
        let writer = Writer::create(&dir.path().join("r.mcap")).unwrap();
        Recording { dir, writer }
    }

    /// Rings by number, and the arguments of the slots of each.
    fn read(mut self) -> (Vec<Ring>, Vec<Vec<u32>>) {
        self.writer.finish().unwrap();
        let reader = Reader::open(&self.dir.path().join("r.mcap")).unwrap();
        let rings: Vec<_> = reader.meta().rings.values().cloned().collect();
        let mut slots = vec![Vec::new(); rings.len()];
        for record in reader.records() {
            if let Record::Slots(ring, block) = record.unwrap() {
                let of_ring: &mut Vec<u32> = &mut slots[ring as usize];
                assert_eq!(block.first, of_ring.len() as u64);
                of_ring.extend(block.slots.iter().map(|s| s.word1 as u32));
            }
        }
        (rings, slots)
    }
}

/// Slots come through in order across the ring's end; a new thread's begin again at zero; the switch goes on and off.
#[test]
fn drained_and_given_back() {
    let fake = Fake::new(&[EntryState::Live]);
    let file = fake.make_ring(0);
    let mut recording = Recording::new();
    let mut probes = Probes::of_session(fake.place(), 1);
    write(&file, 0..400);
    probes.turn(&mut recording.writer).unwrap();
    let state = offset_of!(Control, switch);
    assert_eq!(word_of(&fake.control(), state), SWITCH_ON);
    write(&file, 400..900);
    probes.turn(&mut recording.writer).unwrap();
    fake.entry(0, EntryState::Ended);
    let owner = offset_of!(Header, owner);
    word(&file, owner + 64, 1);
    probes.turn(&mut recording.writer).unwrap();
    let reader = offset_of!(Header, reader);
    assert_eq!(word_of(&fake.ring(0), reader), 900);
    assert_eq!(word_of(&fake.ring(0), reader + 8), 2, "released");
    word(&file, owner, 3);
    word(&file, owner + 16, 900);
    word(&file, owner + 64, 0);
    word(&file, owner, 4);
    fake.entry(0, EntryState::Live);
    write(&file, 900..905);
    let (tally, unreached) = probes.finish(&mut recording.writer).unwrap();
    assert_eq!(word_of(&fake.control(), state), SWITCH_OFF);
    assert_eq!((tally.rings, tally.slots, unreached), (2, 905, 0));
    let (rings, slots) = recording.read();
    assert_eq!(rings[1].first_slot, 0);
    assert_eq!(slots[0], (0..900).collect::<Vec<_>>());
    assert_eq!(slots[1], (900..905).collect::<Vec<_>>());
}

/// What was in a running process's rings before is left out; its place in the ring is told.
#[test]
fn joined_late() {
    let fake = Fake::new(&[EntryState::Live]);
    let file = fake.make_ring(0);
    write(&file, 0..300);
    let mut recording = Recording::new();
    let mut probes = Probes::new(vec![fake.place()], false, &[std::process::id()]);
    probes.turn(&mut recording.writer).unwrap();
    let (tally, _) = probes.finish(&mut recording.writer).unwrap();
    assert_eq!(tally.slots, 0);
    let (rings, _) = recording.read();
    assert_eq!(rings[0].first_slot, 300);
    let mut other = Probes::new(vec![fake.place()], false, &[]);
    let mut recording = Recording::new();
    other.turn(&mut recording.writer).unwrap();
    assert_eq!(other.finish(&mut recording.writer).unwrap().0.rings, 0);
}

/// A program that is not followed is not opened again at each look; once its parent is known, it is.
#[test]
fn followed_later() {
    let fake = Fake::new(&[EntryState::Live]);
    fake.make_ring(0);
    let mut recording = Recording::new();
    let mut probes = Probes::new(vec![fake.place()], false, &[1]);
    let me = std::process::id();
    for _ in 0..2 {
        probes.turn(&mut recording.writer).unwrap();
        probes.scanned = None;
        assert_eq!((probes.programs.len(), probes.strangers.len()), (0, 1));
    }
    probes.meta(&Meta::Thread(Thread {
        time: Nanos::default(),
        pid: me,
        tid: me,
        parent: 1,
        parent_tid: 1,
        name: String::new(),
        exec: false,
    }));
    probes.turn(&mut recording.writer).unwrap();
    assert_eq!(probes.programs.len(), 1);
    probes.finish(&mut recording.writer).unwrap();
}

/// Rings that are none, too short, or move as none can, are counted and cost nothing else.
#[test]
fn hostile_rings() {
    let fake = Fake::new(&[EntryState::Live; 6]);
    std::fs::write(fake.ring(0), vec![0x5a; 20_000]).unwrap();
    let short = fake.make_ring(1);
    short.set_len(5000).unwrap();
    let huge = fake.make_ring(2);
    word(&huge, offset_of!(Header, capacity), 1 << 60);
    let far = fake.make_ring(3);
    word(&far, offset_of!(Header, writer), u64::MAX);
    let stranger = fake.make_ring(4);
    word(&stranger, 32, 1);
    // Number 5 is a link to somewhere else.
    let victim = fake.dir.path().join("victim");
    std::fs::write(&victim, b"untouched").unwrap();
    std::os::unix::fs::symlink(&victim, fake.ring(5)).unwrap();
    let mut recording = Recording::new();
    let mut probes = Probes::of_session(fake.place(), 1);
    for _ in 0..3 {
        probes.turn(&mut recording.writer).unwrap();
    }
    let (tally, unreached) = probes.finish(&mut recording.writer).unwrap();
    assert_eq!(unreached, 5);
    // The one whose head is out of this world gave what it holds, once.
    assert_eq!(tally.slots, CAPACITY);
    assert_eq!(std::fs::read(victim).unwrap(), b"untouched");
    recording.writer.finish().unwrap();
    let reader = Reader::open(&recording.dir.path().join("r.mcap")).unwrap();
    assert_eq!(reader.records().filter(Result::is_ok).count(), 1);
}

/// A ring that is truncated while it is drained is lost, not the recorder.
#[test]
fn truncated_under_us() {
    let fake = Fake::new(&[EntryState::Live]);
    let file = fake.make_ring(0);
    write(&file, 0..100);
    let mut recording = Recording::new();
    let mut probes = Probes::of_session(fake.place(), 1);
    probes.turn(&mut recording.writer).unwrap();
    write(&file, 100..200);
    file.set_len(4096).unwrap();
    probes.turn(&mut recording.writer).unwrap();
    file.set_len(0).unwrap();
    probes.turn(&mut recording.writer).unwrap();
    let (tally, unreached) = probes.finish(&mut recording.writer).unwrap();
    assert_eq!((tally.slots, unreached), (100, 1));
    recording.read();
}

/// A session directory full of other things is searched without harm.
#[test]
fn directory_of_strangers() {
    let fake = Fake::new(&[]);
    let dir = fake.dir.path();
    std::fs::create_dir(dir.join("7-7.control")).unwrap();
    std::fs::write(dir.join("8-8.control"), b"").unwrap();
    std::fs::write(dir.join("9-9.control"), vec![0xff; CONTROL_BYTES]).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.join("6-6.control"), 0o600.into()).unwrap();
    let mut recording = Recording::new();
    let mut probes = Probes::of_session(fake.place(), 1);
    probes.turn(&mut recording.writer).unwrap();
    assert_eq!(probes.programs.len(), 1);
    probes.finish(&mut recording.writer).unwrap();
}

/// A dead process's rings come out as they lie there, in flight mode without the oldest slots that may be torn, and
/// nothing in the directory changes. Rings that are none are told.
#[test]
fn looked_at_when_dead() {
    let fake = Fake::new(&[EntryState::Live, EntryState::Ended, EntryState::Live]);
    let flight = fake.make_ring(0);
    word(&flight, offset_of!(Header, owner) + 24, 1);
    write(&flight, 0..1000);
    let drain = fake.make_ring(1);
    write(&drain, 0..100);
    word(&drain, offset_of!(Header, reader), 60);
    std::fs::write(fake.ring(2), b"no ring").unwrap();
    let before: Vec<_> = [fake.control(), fake.ring(0), fake.ring(1)]
        .map(|p| std::fs::read(p).unwrap())
        .into();
    let mut recording = Recording::new();
    let dir = SessionDir::look(fake.dir.path()).unwrap();
    let subject = look::Subject {
        key: fake.key,
        pid: 77,
        writing: Writing::Over,
        thread: &|tid| tid + 1,
    };
    let mut next = 0;
    let looked = look::look(&dir, &subject, &mut next, &mut recording.writer).unwrap();
    assert_eq!(
        (next, looked.unread.len(), looked.unreached),
        (2, 1, Some(0))
    );
    let told = |r: &look::LookedAt| (r.slots, r.gone_before, r.overwritten);
    assert_eq!(told(&looked.rings[0]), (504, 488, 8));
    assert_eq!(told(&looked.rings[1]), (100, 0, 0));
    let after: Vec<_> = [fake.control(), fake.ring(0), fake.ring(1)]
        .map(|p| std::fs::read(p).unwrap())
        .into();
    assert!(before == after, "looking left a trace");
    recording.writer.finish().unwrap();
    let reader = Reader::open(&recording.dir.path().join("r.mcap")).unwrap();
    let ring = &reader.meta().rings[&0];
    assert_eq!(
        (ring.pid, ring.tid, ring.flight),
        (77, fake.key.pid + 1, true)
    );
    assert_eq!(reader.meta().totals[&0].dropped_slots, 496);
    let mut first = None;
    for record in reader.records() {
        if let Record::Slots(0, block) = record.unwrap() {
            first.get_or_insert(block.first);
            let numbers = block.slots.iter().map(|s| u64::from(s.word1 as u32));
            assert!(numbers.eq(block.first..block.first + block.slots.len() as u64));
        }
    }
    assert_eq!(first, Some(496));
}
