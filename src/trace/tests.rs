//! A recording survives the round trip, being cut at any byte, and any flipped bit.

use super::record::*;
use super::*;
use crate::units::{ClockPair, Nanos};
use bypassprof_wire::{Flow, Point, Slot, Tsc};
use std::path::PathBuf;

fn samples(count: u64) -> Vec<Sample> {
    let sample = |i: u64| Sample {
        time: Nanos::from_ns(1_000_000 + i * 1_003_009),
        pid: 100,
        tid: 100 + (i % 3) as u32,
        cpu: (i % 2) as u32,
        event: 0,
        period: 1_003_009,
        frames: vec![0xffff_ffff_8100_0000 + i * 16, 0x5555_0000 + i, 0x5555_4000],
        stack_number: 0,
        kernel_frames: 1,
        stack: StackEnd::Truncated,
        group: vec![i * 1000, i],
        raw: if i % 5 == 4 {
            vec![i as u8; 16]
        } else {
            Vec::new()
        },
    };
    (0..count).map(sample).collect()
}

fn switches(count: u64) -> Vec<Switch> {
    let kinds = [
        SwitchKind::In,
        SwitchKind::OutWaiting,
        SwitchKind::OutPreempted,
    ];
    let switch = |i: u64| Switch {
        time: Nanos::from_ns(1_000_000 + i * 777),
        pid: 100,
        tid: 101,
        cpu: 1,
        kind: kinds[(i % 3) as usize],
    };
    (0..count).map(switch).collect()
}

fn slots(count: u64) -> Vec<Slot> {
    let slot = |i: u64| match i % 4 {
        3 => Slot::cont(i as u32, 7, 9),
        _ => Slot::head(
            Tsc::from_raw(10_000 + i * 90),
            Point::from_id(1 + (i % 4) as u16),
            Flow::from_raw(0x1234_0000 + (i % 16) as u32),
            i as u32,
        ),
    };
    (0..count).map(slot).collect()
}

fn write(path: &std::path::Path) {
    let mut writer = begin(path);
    writer.meta(&Meta::End(End::default())).unwrap();
    writer.finish().unwrap();
}

/// All but its end.
fn begin(path: &std::path::Path) -> Writer {
    let mut writer = Writer::create(path).unwrap();
    let session = Session {
        command: vec!["httpd".to_string()],
        ..Session::default()
    };
    writer.meta(&Meta::Session(session)).unwrap();
    writer.samples(&samples(40)).unwrap();
    writer.flush().unwrap();
    let ring = Ring {
        ring: 5,
        ..Ring::default()
    };
    writer.meta(&Meta::Ring(ring)).unwrap();
    writer.slots(5, 1000, &slots(64)).unwrap();
    writer.slots(5, 2000, &slots(8)).unwrap();
    writer.slots(70_000, 0, &slots(8)).unwrap();
    writer.switches(&switches(30)).unwrap();
    writer.flush().unwrap();
    let pair = ClockPair {
        tsc_before: 1,
        time: Nanos::from_ns(2),
        tsc_after: 3,
    };
    writer.meta(&Meta::Clock(pair)).unwrap();
    writer
}

/// Reads everything there is; what matters is that it ends and what it says.
fn drain(reader: &Reader) -> Result<(u64, u64, u64), ReadError> {
    let mut counts = (0, 0, 0);
    for record in reader.records() {
        match record? {
            Record::Sample(_) => counts.0 += 1,
            Record::Switch(_) => counts.1 += 1,
            Record::Slots(_, block) => counts.2 += block.slots.len() as u64,
        }
    }
    let rings: Vec<u32> = reader.meta().slot_counts.keys().copied().collect();
    let mut by_ring = 0;
    for ring in rings {
        for block in reader.slots(ring) {
            by_ring += block?.slots.len() as u64;
        }
    }
    assert_eq!(by_ring, counts.2);
    Ok(counts)
}

fn samples_of(reader: &Reader) -> Result<Vec<Sample>, ReadError> {
    let sample = |r| match r {
        Ok(Record::Sample(sample)) => Some(Ok(sample)),
        Ok(_) => None,
        Err(e) => Some(Err(e)),
    };
    reader.records().filter_map(sample).collect()
}

struct Fixture {
    dir: tempfile::TempDir,
    bytes: Vec<u8>,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("whole.mcap");
        write(&path);
        let bytes = std::fs::read(&path).unwrap();
        Fixture { dir, bytes }
    }

    fn with(&self, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join("changed.mcap");
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

/// Everything comes back as it was written.
#[test]
fn round_trip() {
    let fixture = Fixture::new();
    let reader = Reader::open(&fixture.with(&fixture.bytes)).unwrap();
    let summary = reader.meta();
    assert_eq!(summary.damage, []);
    assert_eq!(summary.session.command, ["httpd"]);
    assert_eq!(summary.end, Some(End::default()));
    assert_eq!(summary.clocks.len(), 1);
    assert_eq!(summary.sample_count, 40);
    assert_eq!(summary.slot_count(), 80);
    assert_eq!(samples_of(&reader).unwrap(), samples(40));
    let switch = |r| match r {
        Ok(Record::Switch(switch)) => Some(switch),
        _ => None,
    };
    let back: Vec<_> = reader.records().filter_map(switch).collect();
    assert_eq!(back, switches(30));
    let back: Vec<_> = reader.slots(5).map(Result::unwrap).collect();
    let block = |first, count| SlotBlock {
        first,
        slots: slots(count),
    };
    assert_eq!(back, [block(1000, 64), block(2000, 8)]);
    assert_eq!(reader.slots(70_000).count(), 1);
    assert_eq!(reader.slots(6).count(), 0);
    assert_eq!(reader.metas().count(), 4);
}

/// Cut at any byte, it opens with what was whole or says that it is no recording; it never claims to be complete.
#[test]
fn every_length() {
    let fixture = Fixture::new();
    let mut most = 0;
    for len in 0..fixture.bytes.len() {
        let path = fixture.with(&fixture.bytes[..len]);
        match Reader::open(&path) {
            Ok(reader) => {
                let read = drain(&reader).unwrap();
                let kept = read.0 + read.1 + read.2;
                assert!(
                    kept >= most,
                    "at {len}: fewer records than a shorter file gave"
                );
                most = kept;
                // The last records that matter end before the index at the end of the file.
                let complete = reader.meta().end.is_some();
                assert!(complete || !reader.meta().damage.is_empty(), "at {len}");
            }
            Err(e) => assert!(most == 0, "at {len}: {e}"),
        }
    }
    assert_eq!(most, 40 + 30 + 80);
}

/// Writing stops at any byte, and goes on behind what is whole: nothing is damaged then, and all of it is read.
#[test]
fn cut_at_every_length() {
    let fixture = Fixture::new();
    let whole = messages(&Reader::open(&fixture.with(&fixture.bytes)).unwrap());
    let path = fixture.dir.path().join("cut.mcap");
    let mut kept = std::collections::BTreeSet::new();
    // Its head is safe since it was made.
    for len in 80..fixture.bytes.len() as u64 {
        let writer = begin(&path);
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_len(len).unwrap();
        let (mut writer, summary) = match writer.cut() {
            Ok(cut) => cut,
            Err(e) => {
                assert!(kept.is_empty(), "{len}: {e}");
                continue;
            }
        };
        writer.slots(9, 0, &slots(3)).unwrap();
        writer.slots(5, 3000, &slots(3)).unwrap();
        writer.meta(&Meta::End(End::default())).unwrap();
        writer.finish().unwrap();
        let reader = Reader::open(&path).unwrap();
        assert_eq!(reader.meta().damage, [], "{len}");
        assert_eq!(reader.meta().sample_count, summary.sample_count);
        assert_eq!(reader.meta().slot_count(), summary.slot_count() + 6);
        let read = messages(&reader);
        let (before, after) = read.split_at(read.len() - 3);
        assert_eq!(before, &whole[..before.len()], "{len}");
        assert!(matches!(&after[0], Message::Slots(9, _)));
        assert!(matches!(&after[1], Message::Slots(5, _)));
        kept.insert(before.len());
        drain(&reader).unwrap();
    }
    // One, both, and with the one that was open.
    assert_eq!(Vec::from_iter(kept), [2, 7, 8]);
}

/// All messages that can be read, in order.
fn messages(reader: &Reader) -> Vec<Message> {
    reader.messages().map(Result::unwrap).collect()
}

/// A flipped bit is told of wherever it may have changed a record; it costs the chunk that it is in and nothing else, and
/// never makes up a record.
#[test]
fn bit_flips() {
    let fixture = Fixture::new();
    let whole = messages(&Reader::open(&fixture.with(&fixture.bytes)).unwrap());
    // Behind the records lies an index that is not looked at.
    let end = [&[0x0f, 4, 0, 0, 0, 0, 0, 0, 0][..]].concat();
    let end = fixture.bytes.windows(9).position(|w| w == end).unwrap() + 13;
    let mut refused = 0;
    for at in 0..fixture.bytes.len() {
        // Where lengths and opcodes are, each bit; elsewhere one of each byte.
        let bits = if at < 200 { 0..8 } else { at % 8..at % 8 + 1 };
        for bit in bits {
            let mut bytes = fixture.bytes.clone();
            bytes[at] ^= 1 << bit;
            let path = fixture.with(&bytes);
            let reader = match Reader::open(&path) {
                Ok(reader) => reader,
                Err(e) => {
                    assert!(at < 100, "byte {at} bit {bit}: {e}");
                    assert!(
                        e.to_string()
                            .contains("changed.mcap is a recording of format")
                            || e.to_string().contains("is not a recording"),
                        "{e}"
                    );
                    refused += 1;
                    continue;
                }
            };
            let told = !reader.meta().damage.is_empty();
            assert_eq!(
                told,
                at < end,
                "byte {at} bit {bit}: {:?}",
                reader.meta().damage
            );
            let read = messages(&reader);
            assert!(
                read.iter().all(|m| whole.contains(m)),
                "byte {at} bit {bit}"
            );
            // The largest of the three chunks holds five messages.
            assert!(
                read.len() >= whole.len() - 5,
                "byte {at} bit {bit}: {}",
                read.len()
            );
            drain(&reader).unwrap();
        }
    }
    assert!(refused > 0);
}

/// What lies behind a damaged place is read, and slots that are missing there are counted by their positions.
#[test]
fn damaged_in_the_middle() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rings.mcap");
    let mut writer = Writer::create(&path).unwrap();
    for block in 0..4 {
        if block == 1 {
            writer.meta(&Meta::Session(Session::default())).unwrap();
        }
        writer.slots(3, block * 64, &slots(64)).unwrap();
        writer.flush().unwrap();
    }
    writer.meta(&Meta::End(End::default())).unwrap();
    writer.finish().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let marks: Vec<usize> = memchr::memmem::find_iter(&bytes, b"zstd").collect();
    // The first of them tells what the channels are: without it payloads tell of themselves.
    for (chunk, missing) in [(0, 0), (1, 64), (2, 64)] {
        let mut bad = bytes.clone();
        bad[marks[chunk] + 20] ^= 0x10;
        std::fs::write(&path, &bad).unwrap();
        let reader = Reader::open(&path).unwrap();
        let summary = reader.meta();
        assert_eq!(summary.damage.len(), 1, "{:?}", summary.damage);
        assert_eq!(summary.slot_count(), 3 * 64);
        assert_eq!(summary.slots_missing.get(&3).copied().unwrap_or(0), missing);
        assert!(summary.end.is_some());
        assert_eq!(drain(&reader).unwrap().2, 3 * 64);
    }
    // Lengths and opcodes that lie cost no more than checksums that do not fit.
    for (at, with) in [
        (marks[1] - 36, 0x40),
        (marks[1] - 40, 0x01),
        (marks[1] - 41, 0x01),
    ] {
        let mut bad = bytes.clone();
        bad[at] ^= with;
        std::fs::write(&path, &bad).unwrap();
        let reader = Reader::open(&path).unwrap();
        assert_eq!(reader.meta().slot_count(), 3 * 64, "byte {at}");
        assert_eq!(reader.meta().damage.len(), 1, "{:?}", reader.meta().damage);
    }
}

/// A file of nothing but beginnings of chunks is given up in bounded time.
#[test]
fn false_starts() {
    let fixture = Fixture::new();
    let mut bytes = fixture.bytes[..40].to_vec();
    let len = 32u64 << 20;
    bytes.resize(bytes.len() + len as usize, 0);
    for at in (64..1 << 20).step_by(64) {
        let head = [
            &[0x06][..],
            &(len / 2).to_le_bytes(),
            &[0; 28],
            b"\x04\0\0\0zstd",
            &(len / 2 - 44).to_le_bytes(),
        ];
        bytes[at..at + 53].copy_from_slice(&head.concat());
    }
    let refused = Reader::salvage(&fixture.with(&bytes));
    let why = refused.err().unwrap().to_string();
    assert!(why.contains("no whole chunk"), "{why}");
}

/// A file of another kind or version is refused with the reason.
#[test]
fn not_ours() {
    let fixture = Fixture::new();
    let refused = |bytes: &[u8]| match Reader::open(&fixture.with(bytes)) {
        Ok(_) => panic!("opened"),
        Err(e) => e.to_string(),
    };
    assert!(refused(b"").contains("too short"));
    assert!(refused(b"#!/bin/sh\necho hello\n").contains("does not begin like"));
    let text = |from: &str, to: &str| {
        let at = fixture
            .bytes
            .windows(from.len())
            .position(|w| w == from.as_bytes());
        let mut bytes = fixture.bytes.clone();
        bytes[at.unwrap()..][..to.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    assert!(refused(&text("bypassprof/1", "somebody/1x")).contains("another program"));
    assert!(refused(&text("bypassprof/1", "bypassprof/9")).contains("format 9.1"));
    let newer = fixture.with(&text("bypassprof/1.1", "bypassprof/1.7"));
    assert_eq!(drain(&Reader::open(&newer).unwrap()).unwrap(), (40, 30, 80));
}

/// Records of names are read as all others are, by whatever way.
#[test]
fn names_are_read_alike() {
    let symbols = Symbols {
        path: "/bin/x".into(),
        build_id: "ab".into(),
        addresses: vec![AddressNames {
            at: 7,
            frames: vec![NamedFrame::default()],
            why: Some("\u{1f525}\"".into()),
        }],
    };
    let meta = Meta::Symbols(symbols);
    let json = serde_json::to_vec(&meta).unwrap();
    assert!(json.starts_with(br#"{"type":"symbols","#));
    assert_eq!(Meta::from_json(&json).unwrap(), meta);
    let mut spaced = json.clone();
    spaced.insert(1, b' ');
    assert_eq!(Meta::from_json(&spaced).unwrap(), meta);
    assert!(
        Meta::from_json(&json[..json.len() - 1])
            .unwrap_err()
            .is_eof()
    );
    let wrong = br#"{"type":"symbols","addresses":7}"#;
    assert!(Meta::from_json(wrong).unwrap_err().is_data());
}
