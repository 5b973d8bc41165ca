//! What stands in front of a device: faults and capture files, by a device's words. Needs root; says so and passes
//! without it.

use crate::link::{self, HEADER, flush, lab, number, pair_of, queue, wait};
use pcap_file::pcap::PcapReader;
use pcap_file::{DataLink, TsResolution};
use stack_netio::{AnyDevice, Device, DeviceSpec, OpenError, open, open_queues};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const FRAMES: u32 = 20_000;

/// Sends numbered frames from `a` and polls both ends until nothing has come for a while: how often each number came, in
/// order of arrival, and how many frames came with a wrong byte.
fn numbers(a: &mut AnyDevice, b: &mut AnyDevice) -> (Vec<u32>, u32) {
    let (to, mut sent, mut wrong) = (b.mac(), 0, 0);
    let (mut arrived, mut expected) = (Vec::new(), [0; 100]);
    let mut last = Instant::now();
    while sent < FRAMES || last.elapsed() < Duration::from_millis(200) {
        for _ in 0..64.min(FRAMES - sent) {
            assert!(queue(a, to, 100, sent));
            sent += 1;
        }
        flush(a);
        a.rx_burst(1);
        a.rx_release();
        let held = b.rx_burst(64);
        for index in 0..held {
            last = Instant::now();
            let bytes = b.rx_frame(index).bytes;
            let number = number(b, index);
            link::fill(&mut expected, number);
            wrong += u32::from(bytes[HEADER + 4..] != expected[HEADER + 4..]);
            arrived.push(number);
        }
        b.rx_release();
    }
    (arrived, wrong)
}

/// Five standard deviations around one per cent of the frames.
fn is_one_percent(count: u32) -> bool {
    (130..=270).contains(&count)
}

/// Each fault happens to its share of the frames, on sending and on receiving alike.
#[test]
fn faults_happen_at_their_rates() {
    let Some(lab) = lab() else { return };
    for fault in ["loss", "duplicate", "corrupt", "reorder"] {
        for receiving in [false, true] {
            let words = format!(",{fault}=1%,seed=5");
            let words = if receiving {
                ["", &words]
            } else {
                [&words[..], ""]
            };
            let (mut a, mut b) = pair_of(&lab, words);
            let (arrived, wrong) = numbers(&mut a, &mut b);
            let count = match fault {
                "loss" => FRAMES - arrived.len() as u32,
                "duplicate" => arrived.len() as u32 - FRAMES,
                "corrupt" => wrong,
                _ => {
                    let mut sorted = arrived.clone();
                    sorted.sort_unstable();
                    assert!(sorted.into_iter().eq(0..FRAMES), "reordering lost frames");
                    arrived.windows(2).filter(|pair| pair[1] < pair[0]).count() as u32
                }
            };
            assert!(is_one_percent(count), "{fault}, {words:?}: {count}");
            let side = if receiving {
                b.fault_counts()
            } else {
                a.fault_counts()
            };
            let [received, sent] = side.unwrap();
            let counts = if receiving { received } else { sent };
            assert_eq!(counts.frames, u64::from(FRAMES));
            let counted = match fault {
                "loss" => counts.lost,
                "duplicate" => counts.duplicated,
                "corrupt" => counts.corrupted,
                // Two that are late side by side change places once.
                _ => counts.reordered.min(count.into()),
            };
            // A wrong bit in a frame's number makes the rest of it wrong all the same.
            assert_eq!(counted, u64::from(count), "{fault}");
            if fault != "corrupt" {
                assert_eq!(wrong, 0, "{fault}");
            }
        }
    }
}

/// A delayed frame comes no sooner than it should, and comes.
#[test]
fn delayed_frames_come_later() {
    let Some(lab) = lab() else { return };
    for words in [[",delay=30ms", ""], ["", ",delay=30ms"]] {
        let (mut a, mut b) = pair_of(&lab, words);
        let start = Instant::now();
        assert!(queue(&mut a, b.mac(), 100, 7));
        flush(&mut a);
        while b.rx_burst(8) == 0 {
            assert!(start.elapsed() < Duration::from_secs(20), "it never came");
            a.rx_burst(8);
        }
        assert!(start.elapsed() >= Duration::from_millis(30));
        assert_eq!(number(&b, 0), 7);
    }
}

/// At 8 Mbit/s, 40 frames of 1000 bytes take at least 40 ms.
#[test]
fn a_slow_link_takes_its_time() {
    let Some(lab) = lab() else { return };
    let (mut a, mut b) = pair_of(&lab, [",rate=8M", ""]);
    let start = Instant::now();
    for n in 0..40 {
        assert!(queue(&mut a, b.mac(), 1000, n));
    }
    flush(&mut a);
    let mut seen = 0;
    while seen < 40 {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "only {seen} came"
        );
        a.rx_burst(8);
        for index in 0..b.rx_burst(8) {
            assert_eq!(number(&b, index), seen);
            seen += 1;
        }
        b.rx_release();
    }
    assert!(start.elapsed() >= Duration::from_millis(40));
}

/// The frames of a file as another program's reader finds them, with their times.
fn read(path: &Path) -> Vec<(Duration, Vec<u8>)> {
    let mut reader = PcapReader::new(File::open(path).unwrap()).unwrap();
    let header = reader.header();
    assert_eq!(header.datalink, DataLink::ETHERNET);
    assert_eq!(header.ts_resolution, TsResolution::NanoSecond);
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.unwrap();
        assert_eq!(packet.orig_len as usize, packet.data.len());
        frames.push((packet.timestamp, packet.data.into_owned()));
    }
    frames
}

/// A capture file has what was received and sent, whole, in order and with the time of day.
#[test]
fn capture_files_have_both_directions() {
    let Some(lab) = lab() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("both ways.pcap");
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let words = format!(",pcap={}", path.display());
    let (mut a, mut b) = pair_of(&lab, ["", &words]);
    for n in 0..100 {
        assert!(queue(&mut a, b.mac(), 60 + n as usize, n));
        flush(&mut a);
        assert_eq!(wait(&mut b, 8), 1);
        b.rx_release();
        assert!(queue(&mut b, a.mac(), 1514, n + 1000));
        flush(&mut b);
        assert_eq!(wait(&mut a, 8), 1);
        a.rx_release();
    }
    drop(b);
    let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let frames = read(&path);
    assert_eq!(frames.len(), 200);
    let mut expected = [0; 1514];
    let mut last = before;
    for (n, (at, frame)) in (0..).zip(&frames) {
        let (number, len) = if n % 2 == 0 {
            (n / 2, 60 + n as usize / 2)
        } else {
            (1000 + n / 2, 1514)
        };
        link::fill(&mut expected[..len], number);
        assert_eq!(frame[HEADER + 4..], expected[HEADER + 4..len], "frame {n}");
        assert_eq!(frame[HEADER..HEADER + 4], number.to_be_bytes());
        assert!(*at >= last && *at <= after, "frame {n} at {at:?}");
        last = *at;
    }
}

/// Each queue has a file of its own; faults lie behind it.
#[test]
fn queues_have_files_of_their_own() {
    let Some(lab) = lab() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("q.pcap");
    let words = format!(",spread=turn,loss=50%,pcap={}", path.display());
    let (mut client, mut queues) = link::pair_with(&lab, "packet", 2, &words);
    for n in 0..1000 {
        assert!(queue(&mut client, queues[0].mac(), 100, n));
    }
    flush(&mut client);
    let mut received = BTreeMap::new();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(300) {
        for (at, device) in queues.iter_mut().enumerate() {
            *received.entry(at).or_insert(0) += device.rx_burst(64);
            device.rx_release();
        }
    }
    drop(queues);
    let files = [path, folder.path().join("q.1.pcap")];
    for (at, file) in files.iter().enumerate() {
        assert_eq!(read(file).len(), received[&at]);
        assert!((150..350).contains(&received[&at]), "{received:?}");
    }
}

/// A file that cannot be made stops the device from being opened, with its path.
#[test]
fn a_file_that_cannot_be_made_is_named() {
    let Some(lab) = lab() else { return };
    let namespace = lab.namespace("a").unwrap();
    let spec: DeviceSpec = "tap:netio-p,pcap=/proc/no/such.pcap".parse().unwrap();
    let address = [10, 77, 0, 2].into();
    for queues in [1, 2] {
        let opened = namespace
            .enter(|| open_queues(&spec, address, queues))
            .unwrap();
        let error = opened.unwrap_err();
        assert!(matches!(error, OpenError::Capture { .. }), "{error}");
        assert!(error.to_string().contains("/proc/no/such.pcap"), "{error}");
    }
}

/// A disk that is full is found when the device is opened.
#[test]
fn a_full_disk_is_told() {
    let Some(lab) = lab() else { return };
    let namespace = lab.namespace("a").unwrap();
    let spec: DeviceSpec = "tap:netio-p,pcap=/dev/full".parse().unwrap();
    let opened = namespace.enter(|| open(&spec, [10, 77, 0, 2].into()));
    let error = opened.unwrap().unwrap_err().to_string();
    assert!(error.contains("pcap=/dev/full"), "{error}");
}
