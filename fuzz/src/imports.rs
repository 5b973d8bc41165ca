//! What other tools leave, on its way into a recording: perf.data, the text of perf script, folded stacks.
//!
//! In: bytes; out: nothing, and no panic. To begin a recording takes longer than to read most inputs, so that one takes
//! in what many become. One input in [`READ_AGAIN`] has a recording of its own, which is read again: by what it holds, so
//! that an input does the same each time.

use crate::memfile::MemFile;
use bypassprof::trace::folded::Folded;
use bypassprof::trace::perfscript::Script;
use bypassprof::trace::record::{End, Meta, Sample, Symbols};
use bypassprof::trace::{Reader, Record, Symbolizer, Writer, perfdata};
use flamegraphs::{DrawError, Picture, Tree};
use std::cell::RefCell;
use std::io::{self, Cursor};

/// One input in so many is read again.
const READ_AGAIN: u32 = 32;

/// Bytes of a recording that takes in what many inputs become.
const FULL: u64 = 16 << 20;

thread_local! {
    static MANY: RefCell<Option<(MemFile, Writer)>> = const { RefCell::new(None) };
}

/// A recording in memory.
pub fn sink() -> (MemFile, Writer) {
    let file = MemFile::new(&[]);
    let writer = Writer::create(file.path()).expect("memory can be written");
    (file, writer)
}

/// Samples of a recording, and what they weigh.
#[derive(Default)]
struct Held {
    samples: u64,
    weight: u128,
}

/// What `write` says, and of one input in so many its recording.
fn recorded<T>(data: &[u8], write: impl FnOnce(&mut Writer) -> T) -> (T, Option<MemFile>) {
    // Fowler, Noll and Vo's hash: of inputs that differ in a bit, too, one in so many.
    let hash = data.iter().fold(0x811c_9dc5_u32, |hash, &byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    if (hash >> 16) % READ_AGAIN == 0 {
        let (file, mut writer) = sink();
        let said = write(&mut writer);
        writer.finish().expect("memory can be written");
        return (said, Some(file));
    }
    let said = MANY.with_borrow_mut(|many| {
        let is_full = |file: &MemFile| file.file().metadata().is_ok_and(|m| m.len() > FULL);
        if many.as_ref().is_some_and(|(file, _)| is_full(file)) {
            *many = None;
        }
        write(&mut many.get_or_insert_with(sink).1)
    });
    (said, None)
}

/// What a reader finds in a recording.
fn held(file: &MemFile) -> Held {
    let reader = Reader::open(file.path()).expect("it was just written");
    let damage = &reader.meta().damage;
    assert!(damage.is_empty(), "{damage:?}");
    assert!(reader.metas().all(|meta| meta.is_ok()));
    let mut held = Held::default();
    for record in reader.records() {
        if let Record::Sample(sample) = record.expect("it was just written") {
            held.samples += 1;
            held.weight += u128::from(sample.period);
        }
    }
    held
}

struct NoNames;

impl Symbolizer for NoNames {
    fn meta(&mut self, _: &Meta) {}
    fn sample(&mut self, _: &Sample) {}
    fn finish(&mut self) -> Vec<Symbols> {
        Vec::new()
    }
}

/// A perf.data file: it becomes a recording with all samples of an event, or is refused. Without samples it is no recording.
pub fn perfdata(data: &[u8]) {
    let (samples, recording) = recorded(data, |sink| {
        let file = Cursor::new(data);
        let Ok(tally) = perfdata::write("input", file, None, sink, &mut NoNames) else {
            return 0;
        };
        let end = sink.meta(&Meta::End(End::default()));
        end.expect("memory can be written");
        tally.samples
    });
    if let (1.., Some(recording)) = (samples, recording) {
        assert_eq!(held(&recording).samples, samples);
    }
}

/// The text of perf script, likewise.
pub fn perfscript(data: &[u8]) {
    let (samples, recording) = recorded(data, |sink| {
        let mut script = Script::new(sink, None);
        if script.read("input", data).is_err() {
            return 0;
        }
        script.finish().expect("memory can be written").0
    });
    if let (1.., Some(recording)) = (samples, recording) {
        assert_eq!(held(&recording).samples, samples);
    }
}

/// Folded stacks: they become a recording that holds what they weigh, or the line that is wrong is named; and a picture.
pub fn folded(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(tree) = Tree::from_folded(&text) {
        match flamegraphs::draw(&tree, &Picture::default(), io::sink()) {
            Ok(()) => assert!(tree.total() > 0),
            Err(error) => assert!(!matches!(error, DrawError::Write(_)), "{error}"),
        }
    }
    let mut stacks = Folded::default();
    match stacks.read("input", data) {
        Err(error) => assert!(error.line <= text.lines().count() as u64),
        Ok(()) if !stacks.is_empty() => {
            let (written, recording) =
                recorded(data, |sink| stacks.write(sink, "folded", stacks.period()));
            let written = written.expect("memory can be written");
            if let Some(recording) = recording {
                let held = held(&recording);
                assert_eq!((held.samples, held.weight), (written, weight(&text)));
            }
        }
        Ok(()) => {}
    }
}

/// What all stacks of a text weigh.
fn weight(text: &str) -> u128 {
    let stacks = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let halves = stacks.filter_map(|line| line.trim_end_matches('\r').rsplit_once(' '));
    let whole = halves.filter(|(stack, _)| !stack.trim().is_empty());
    whole
        .filter_map(|(_, weight)| weight.parse::<u128>().ok())
        .sum()
}
