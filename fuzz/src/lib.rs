//! Entry functions of the fuzz targets: any bytes in, nothing out, and no panic, hang or allocation without bound.
//!
//! Each function is one target under `fuzz_targets/` for coverage-guided runs (`cargo fuzz run NAME fuzz/corpus/NAME
//! fuzz/seeds/NAME`), and is called by `tests/seeds.rs` on every seed and on mutations of it, on a stable compiler.
//! What must hold besides is asserted here. The functions refuse to know where bytes come from.

mod answers;
mod dpdk;
mod memfile;
mod packs;
pub mod seeds;
mod symbols;
mod tcp;

pub use answers::answers;
pub use dpdk::{headers, telemetry};
pub use packs::packs;
pub use symbols::symbols;
pub use tcp::tcp;

use bypassprof::analyse::packs::Packs;
use bypassprof::collect::core::{Core, rings};
use bypassprof::collect::events::{grammar, pmu};
use bypassprof::resolve::{KernelSymbols, PerfMap, StackWalker};
use bypassprof::trace::folded::Folded;
use bypassprof::trace::perfscript::Script;
use bypassprof::trace::record::{Meta, Sample, Symbols};
use bypassprof::trace::{Reader, Symbolizer, Writer, block, perfdata, tracepoint};
use bypassprof_ring::reader::{ControlHandle, Drained, RingFile, RingLook, SessionDir, Writing};
use bypassprof_wire::layout::Mode;
use bypassprof_wire::{Decoder, Slot, Tsc, points};
use flamegraphs::{DrawError, Picture, Tree};
use memfile::MemFile;
use std::io::{self, Cursor};
use std::sync::LazyLock;

/// Reading them takes longer than most inputs.
static PACKS: LazyLock<Packs> = LazyLock::new(Packs::built_in);

/// A target's entry function.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("answers", answers),
    ("blocks", blocks),
    ("core", core),
    ("device", device),
    ("events", events),
    ("folded", folded),
    ("headers", headers),
    ("http", http),
    ("kallsyms", kallsyms),
    ("packs", packs),
    ("perfdata", perfdata),
    ("perfmap", perfmap),
    ("perfscript", perfscript),
    ("recording", recording),
    ("ring", ring),
    ("slots", slots),
    ("symbols", symbols),
    ("tcp", tcp),
    ("telemetry", telemetry),
];

/// Bytes as slots, a rest that is no whole slot left out.
fn as_slots(data: &[u8]) -> Vec<Slot> {
    let word = |b: &[u8]| b.iter().rev().fold(0, |w, &b| (w << 8) | u64::from(b));
    let slot = |b: &[u8]| Slot {
        word0: word(&b[..8]),
        word1: word(&b[8..]),
    };
    data.chunks_exact(16).map(slot).collect()
}

/// A device's words: refused with a sentence that quotes them, or understood and said again with the same meaning.
pub fn device(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match text.parse::<stack_netio::DeviceSpec>() {
        Ok(spec) => assert_eq!(spec.to_string().parse(), Ok(spec)),
        Err(error) => assert!(error.to_string().contains(text)),
    }
}

/// Text up to a zero byte as events, as options of a PMU, as where their bits go, and as the fields of a tracepoint whose
/// record is the rest: read or refused, and events that were read print as text with the same meaning.
pub fn events(data: &[u8]) {
    let end = data.iter().position(|&b| b == 0).unwrap_or(data.len());
    let Ok(text) = std::str::from_utf8(&data[..end]) else {
        return;
    };
    match grammar::parse(text) {
        Ok(groups) => {
            let shown: Vec<_> = groups.iter().map(|g| g.to_string()).collect();
            assert_eq!(grammar::parse(&shown.join(",")), Ok(groups));
        }
        Err(error) => assert!(error.at <= text.chars().count() + 1),
    }
    if let Ok(terms) = grammar::parse_terms(text) {
        // What generic events take; a PMU's own options are looked up by name.
        let _ = pmu::Options::of_generic(0, &terms);
    }
    if let Some(format) = pmu::Format::parse(text) {
        let mut words = pmu::Words::default();
        assert!(format.set(format.most(), &mut words));
    }
    if let Some(format) = tracepoint::Format::parse(text) {
        let rest = data.get(end + 1..).unwrap_or_default();
        let most = format.fields.len() * (24 * rest.len() + 64) + text.len();
        assert!(format.show(rest).len() <= most);
    }
}

/// Slots to events: every slot ends as an event, part of one, or in a count. The first byte says whether the decoder
/// knows the time from elsewhere.
pub fn slots(data: &[u8]) {
    let Some((&dated, data)) = data.split_first() else {
        return;
    };
    let slots = as_slots(data);
    let mut decoder = Decoder::new((dated & 1 == 1).then(|| Tsc::from_raw(1 << 60)));
    let (mut events, mut used, mut losses) = (0, 0, 0);
    let mut take = |event: bypassprof_wire::Event| {
        let loss = event.point == points::LOST;
        losses += u64::from(loss);
        events += u64::from(!loss);
        used += 1 + (u64::from(event.arg_count) - 1) / 3;
    };
    for &slot in &slots {
        decoder.push(slot, &mut take);
    }
    decoder.flush(&mut take);
    let counts = decoder.counts();
    let epochs = slots.iter().filter(|s| s.point() == points::EPOCH).count() as u64;
    assert_eq!(counts.events, events);
    let counted = counts.orphan_slots + counts.undated_slots + counts.invalid_slots;
    assert_eq!(used + epochs + counted, slots.len() as u64);
    assert!(losses > 0 || counts.lost_slots == 0);
}

/// Blocks of a recording: what decodes is no more than what the block says it holds, and slots survive being written
/// and read again.
pub fn blocks(data: &[u8]) {
    let mut found = Vec::new();
    if let Ok(header) = block::decode_slots(data, &mut found) {
        assert_eq!(header.count, found.len());
        assert_eq!(block::peek_slots(data).ok(), Some(header));
        let (mut again, mut copy) = (Vec::new(), Vec::new());
        let mut encoder = block::SlotEncoder::default();
        encoder.encode(header.ring, header.first, &found, &mut again);
        let read = block::decode_slots(&again, &mut copy).expect("what we wrote can be read");
        assert_eq!((read, copy), (header, found));
    }
    let said = block::peek_count(data).unwrap_or(0);
    let mut samples = Vec::new();
    if block::decode_samples(data, &mut Vec::new(), &mut samples).is_ok() {
        assert_eq!(samples.len(), said);
    }
    let mut switches = Vec::new();
    if block::decode_switches(data, &mut switches).is_ok() {
        assert_eq!(switches.len(), said);
    }
}

/// A core dump: it is refused, or its threads' stacks are walked and its rings put aside, within its own size.
pub fn core(data: &[u8]) {
    let file = MemFile::new(data);
    let Ok(core) = Core::open(file.path()) else {
        return;
    };
    let mut mappings = core.mappings();
    // Files of this machine that a core names are another target's.
    mappings.iter_mut().for_each(|m| m.path.clear());
    let mut walker = StackWalker::new(core.arch, &mappings);
    for thread in core.threads.iter().take(16) {
        let (frames, _) = walker.walk(thread.registers, &core);
        assert!(frames.len() <= 512);
    }
    let aside = tempfile::tempdir().expect("a directory can be made");
    let found = rings::extract(&core, aside.path()).expect("it can be written to");
    let there = std::fs::read_dir(aside.path())
        .expect("it is there")
        .count();
    assert_eq!(there as u64, found.rings);
    if let Ok(dir) = SessionDir::look(aside.path()) {
        for (key, index) in dir.ring_files().unwrap_or_default() {
            let Ok(mut ring) = dir.look_at_file(key, index, Writing::Over) else {
                continue;
            };
            let mut drained = Drained::with_capacity(ring.capacity() as usize);
            let taken = ring.take(&mut drained);
            assert!(taken.is_err() || drained.slots().len() as u64 <= ring.capacity());
        }
    }
}

/// A recording that no one reads, in memory.
fn sink() -> (MemFile, Writer) {
    let file = MemFile::new(&[]);
    let writer = Writer::create(file.path()).expect("memory can be written");
    (file, writer)
}

struct NoNames;

impl Symbolizer for NoNames {
    fn meta(&mut self, _: &Meta) {}
    fn sample(&mut self, _: &Sample) {}
    fn finish(&mut self) -> Vec<Symbols> {
        Vec::new()
    }
}

/// A perf.data file: it becomes a recording or is refused.
pub fn perfdata(data: &[u8]) {
    let (_file, mut sink) = sink();
    let _ = perfdata::write("input", Cursor::new(data), None, &mut sink, &mut NoNames);
}

/// The text of perf script, likewise.
pub fn perfscript(data: &[u8]) {
    let (_file, mut sink) = sink();
    let mut script = Script::new(&mut sink, None);
    if script.read("input", data).is_ok() {
        let _ = script.finish();
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
            let (_file, mut sink) = sink();
            let written = stacks.write(&mut sink, "folded", stacks.period());
            assert!(written.is_ok());
        }
        Ok(()) => {}
    }
}

/// A recording file: it opens or says why not, and everything in it can be walked to its end.
pub fn recording(data: &[u8]) {
    let file = MemFile::new(data);
    let Ok(reader) = Reader::open(file.path()) else {
        return;
    };
    let _ = reader.metas().count();
    let _ = reader.records().count();
    for ring in 0..4 {
        let mut decoder = Decoder::new(None);
        for slots in reader.slots(ring).flatten() {
            for slot in slots.slots {
                decoder.push(slot, &mut |_| {});
            }
        }
        decoder.flush(&mut |_| {});
    }
}

/// A ring file, and the same bytes as a control file: they are refused, or are read to an end within their bounds.
pub fn ring(data: &[u8]) {
    let file = MemFile::new(data);
    if let Ok(mut ring) = RingFile::open(file.file(), file.path()) {
        let mut drained = Drained::with_capacity(ring.capacity() as usize);
        let mut all = 0;
        for _ in 0..8 {
            let Ok(taken) = ring.drain(&mut drained) else {
                break;
            };
            assert_eq!(taken.slots, drained.slots().len());
            all += taken.slots;
            drained.clear();
            if taken.slots == 0 && !taken.new_owner {
                break;
            }
        }
        assert!(all as u64 <= 2 * ring.capacity());
        let _ = (ring.totals(), ring.own_points(), ring.base_tsc());
        ring.release();
    }
    for writing in [Writing::Goes, Writing::Over] {
        look(&file, writing);
    }
    if let Ok(control) = ControlHandle::open(file.file(), file.path()) {
        let _ = (control.rings(), control.own_points(), control.unreached());
    }
    if let Ok(control) = ControlHandle::look(file.file(), file.path()) {
        // Wishes go nowhere: a store would end the process.
        control.switch_on(Mode::Flight);
        control.switch_off();
        let _ = (control.name(), control.flight_bytes(), control.has_left());
    }
}

/// A ring file that is only looked at: what is there, what is gone and what may be torn add up, and nothing is changed.
fn look(file: &MemFile, writing: Writing) {
    let Ok(mut look) = RingLook::open(file.file(), file.path(), writing) else {
        return;
    };
    let mut drained = Drained::with_capacity(200);
    for _ in 0..2 {
        let range = look.positions();
        let mut slots = 0;
        while let Ok(taken) = look.take(&mut drained) {
            slots += taken.slots as u64;
            drained.clear();
            if !taken.more {
                break;
            }
        }
        assert!(slots <= look.capacity());
        let there = range.end.wrapping_sub(range.start);
        assert_eq!(slots + look.overwritten(), there);
        let _ = (
            look.totals(),
            look.own_points(),
            look.base_tsc(),
            look.earlier_owners(),
        );
        if look.look_again().is_err() {
            return;
        }
    }
}

/// The names that a program gives to code it made: any text is read, any address is answered.
pub fn perfmap(data: &[u8]) {
    let names = PerfMap::parse(&String::from_utf8_lossy(data));
    for at in [0, 0x7f00_0010, u64::MAX] {
        let named = names.names(at);
        assert_eq!(named.frames.is_empty(), named.why.is_some());
    }
}

/// The kernel's symbol list: any text is read, any address is answered.
pub fn kallsyms(data: &[u8]) {
    let symbols = KernelSymbols::parse(&String::from_utf8_lossy(data));
    for at in [0, 0xffff_ffff_8100_0010, u64::MAX] {
        for mapped in ["[kernel]", "[nf_tables]"] {
            assert_eq!(symbols.name(mapped, at).at, at);
        }
    }
}

/// HTTP bytes: where they are cut makes no difference to what is answered. The first byte says where.
pub fn http(data: &[u8]) {
    let Some((&cut, data)) = data.split_first() else {
        return;
    };
    let whole = replies(data, usize::MAX);
    assert_eq!(whole, replies(data, usize::from(cut).max(1)));
}

/// What a session replies to `data` that arrives in pieces of `piece` bytes.
fn replies(data: &[u8], piece: usize) -> (Vec<usize>, bool) {
    let mut replies = httpjob::Replies::new(8);
    let mut session = httpjob::Session::new();
    let mut sizes = Vec::new();
    for mut bytes in data.chunks(piece.min(data.len().max(1))) {
        while !bytes.is_empty() {
            let (used, _) = session.receive(bytes);
            assert!(used > 0 && used <= bytes.len());
            bytes = &bytes[used..];
            while session.owes() {
                let unsent = session.unsent(&mut replies).len();
                assert!(unsent > 0);
                sizes.push(unsent);
                assert!(session.sent(unsent, &mut replies));
            }
        }
    }
    (sizes, session.finished())
}
