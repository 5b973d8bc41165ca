//! Devices on this machine, each in network namespaces of its own. Needs root; says so and passes without it.

use crate::link::{EXPERIMENT, HEADER, KINDS, fill, flush, lab, number, pair, queue, wait};
use netlab::{Interface, Lab};
use stack_netio::{AnyDevice, Device, DeviceError, DeviceSpec, Offload, OpenError, Tap, open};
use std::net::UdpSocket;

/// What one end sends arrives at the other, byte for byte, at the smallest and the largest size; own frames do not.
#[test]
fn frames_arrive_whole() {
    let Some(lab) = lab() else { return };
    for kind in KINDS {
        frames_arrive_whole_on(&lab, kind);
    }
}

fn frames_arrive_whole_on(lab: &Lab, kind: &str) {
    let (mut a, mut b) = pair(lab, kind);
    let largest = usize::from(a.mtu()) + HEADER;
    for len in [HEADER + 4, largest] {
        assert!(queue(&mut a, b.mac(), len, 7));
        flush(&mut a);
        assert_eq!(wait(&mut b, 32), 1);
        let frame = b.rx_frame(0);
        assert_eq!(frame.bytes.len(), len);
        assert_eq!(frame.bytes[..6], b.mac());
        assert_eq!(frame.bytes[6..12], a.mac());
        assert_eq!(number(&b, 0), 7);
        b.rx_release();
        assert_eq!(a.rx_burst(32), 0, "own frame came back");
    }
    assert!(!queue(&mut a, b.mac(), largest + 1, 7));
}

/// A burst is never larger than asked for, the rest comes next, in order.
#[test]
fn bursts_keep_their_limit() {
    let Some(lab) = lab() else { return };
    for kind in KINDS {
        bursts_keep_their_limit_on(&lab, kind);
    }
}

fn bursts_keep_their_limit_on(lab: &Lab, kind: &str) {
    let (mut a, mut b) = pair(lab, kind);
    for n in 0..10 {
        assert!(queue(&mut a, b.mac(), 64, n));
    }
    flush(&mut a);
    let mut next = 0;
    while next < 10 {
        let count = wait(&mut b, 4);
        assert!(count <= 4);
        for index in 0..count {
            assert_eq!(number(&b, index), next);
            next += 1;
        }
        b.rx_release();
    }
}

/// Slots that were released are filled again: three times the ring goes through it, and nothing is lost.
#[test]
fn released_slots_are_used_again() {
    let Some(lab) = lab() else { return };
    for kind in KINDS {
        released_slots_are_used_again_on(&lab, kind);
    }
}

fn released_slots_are_used_again_on(lab: &Lab, kind: &str) {
    let (mut a, mut b) = pair(lab, kind);
    let mut next = 0;
    for first in (0..3 << 14).step_by(256) {
        for n in first..first + 256 {
            assert!(queue(&mut a, b.mac(), 64, n));
        }
        flush(&mut a);
        while next < first + 256 {
            let count = wait(&mut b, 64);
            for index in 0..count {
                assert_eq!(number(&b, index), next);
                next += 1;
            }
            b.rx_release();
        }
    }
    assert_eq!(b.rx_dropped(), 0);
}

/// A ring that nobody polls drops frames and counts them; what it holds is still good.
#[test]
fn a_full_ring_counts_what_it_drops() {
    let Some(lab) = lab() else { return };
    for kind in KINDS {
        a_full_ring_counts_what_it_drops_on(&lab, kind);
    }
}

fn a_full_ring_counts_what_it_drops_on(lab: &Lab, kind: &str) {
    let (mut a, mut b) = pair(lab, kind);
    let to = b.mac();
    let mut rounds = 0;
    while b.rx_dropped() == 0 {
        rounds += 1;
        assert!(rounds < 1000, "a full ring never dropped");
        for n in 0..256 {
            assert!(queue(&mut a, to, 64, n));
        }
        flush(&mut a);
    }
    let before = b.rx_dropped();
    assert!(before > 0, "the count was forgotten");
    assert_eq!(wait(&mut b, 1), 1);
    assert_eq!(number(&b, 0), 0);
}

/// Frames that are held stay as they were, however much arrives meanwhile.
#[test]
fn held_frames_are_left_alone() {
    let Some(lab) = lab() else { return };
    for kind in KINDS {
        held_frames_are_left_alone_on(&lab, kind);
    }
}

fn held_frames_are_left_alone_on(lab: &Lab, kind: &str) {
    let (mut a, mut b) = pair(lab, kind);
    for n in 0..32 {
        assert!(queue(&mut a, b.mac(), 64 + n as usize, n));
    }
    flush(&mut a);
    let held = wait(&mut b, 32);
    let copy =
        |b: &AnyDevice| -> Vec<_> { (0..held).map(|i| b.rx_frame(i).bytes.to_vec()).collect() };
    let before = copy(&b);
    for _ in 0..80 {
        while queue(&mut a, b.mac(), 1000, u32::MAX) {}
        flush(&mut a);
    }
    assert!(b.rx_dropped() > 0, "the ring did not go round");
    assert_eq!(copy(&b), before);
}

/// A length for the frame of this number, from 32 bytes to the largest.
fn length(number: u32, largest: usize) -> usize {
    32 + (number.wrapping_mul(40_503) >> 3) as usize % (largest - 31)
}

/// Under load from both sides, in bursts of all sizes, every frame comes back once, in order and unharmed: one end
/// echoes on a thread of its own, the other checks, with fewer frames under way than any queue in between holds.
#[test]
fn load_harms_no_frame() {
    let Some(lab) = lab() else { return };
    for kind in KINDS {
        load_harms_no_frame_on(&lab, kind);
    }
}

fn load_harms_no_frame_on(lab: &Lab, kind: &str) {
    const FRAMES: u32 = 20_000;
    const UNDER_WAY: u32 = 256;
    let (mut a, mut b) = pair(lab, kind);
    let (to, back, largest) = (b.mac(), a.mac(), usize::from(a.mtu()) + HEADER);
    let echo = move || {
        let mut echoed = 0;
        let mut copy = Vec::new();
        while echoed < FRAMES {
            let held = wait(&mut b, 1 + echoed as usize % 64);
            for index in 0..held {
                copy.clear();
                copy.extend_from_slice(b.rx_frame(index).bytes);
                let frame = b
                    .tx_frame(copy.len())
                    .expect("more frames than ever under way");
                frame.copy_from_slice(&copy);
                frame[..6].copy_from_slice(&back);
                frame[6..12].copy_from_slice(&to);
            }
            b.rx_release();
            flush(&mut b);
            echoed += held as u32;
        }
        b.rx_dropped()
    };
    let echo = std::thread::spawn(echo);
    let mut expected = vec![0; largest];
    let (mut sent, mut seen) = (0, 0);
    while seen < FRAMES {
        while sent < FRAMES && sent - seen < UNDER_WAY {
            assert!(queue(&mut a, to, length(sent, largest), sent));
            sent += 1;
        }
        flush(&mut a);
        let held = wait(&mut a, 1 + seen as usize % 64);
        for index in 0..held {
            let bytes = a.rx_frame(index).bytes;
            assert_eq!(number(&a, index), seen);
            let expected = &mut expected[..length(seen, largest)];
            fill(expected, seen);
            assert_eq!(bytes[HEADER + 4..], expected[HEADER + 4..]);
            seen += 1;
        }
        a.rx_release();
    }
    assert_eq!((echo.join().unwrap(), a.rx_dropped()), (0, 0));
}

/// A queue that is not handed over fills up and refuses; handed over, it has room again.
#[test]
fn a_full_queue_refuses() {
    let Some(lab) = lab() else { return };
    for kind in KINDS {
        a_full_queue_refuses_on(&lab, kind);
    }
}

fn a_full_queue_refuses_on(lab: &Lab, kind: &str) {
    let (mut a, b) = pair(lab, kind);
    let mut queued = 0;
    while queue(&mut a, b.mac(), 64, 0) {
        queued += 1;
        assert!(queued < 1 << 20, "the queue never fills");
    }
    assert_eq!(a.tx_queued(), queued);
    assert_eq!(a.tx_burst(), queued);
    assert_eq!(a.tx_queued(), 0);
    assert!(queue(&mut a, b.mac(), 64, 0));
}

/// A frame tagged for another network is not taken for one of ours, and its slot goes back.
#[test]
fn tagged_frames_are_left_out() {
    let Some(lab) = lab() else { return };
    let (mut a, mut b) = pair(&lab, "packet");
    let (to, from) = (b.mac(), a.mac());
    let tagged = a.tx_frame(64).unwrap();
    tagged.fill(0);
    tagged[..6].copy_from_slice(&to);
    tagged[6..12].copy_from_slice(&from);
    tagged[12..16].copy_from_slice(&[0x81, 0x00, 0x00, 0x05]);
    tagged[16..18].copy_from_slice(&EXPERIMENT);
    assert!(queue(&mut a, to, 64, 8));
    flush(&mut a);
    assert_eq!(wait(&mut b, 1), 1);
    assert_eq!(number(&b, 0), 8);
}

/// The host's end of a TAP has the first address and looks for the stack; an answer from the stack reaches it, and
/// then its datagram reaches the stack.
#[test]
fn the_host_finds_the_stack_behind_a_tap() {
    let Some(lab) = lab() else { return };
    let namespace = lab.namespace("a").unwrap();
    let address = [10, 123, 7, 2];
    let opened = namespace.enter(|| Tap::open("netio-tap%d", address.into(), Offload::None));
    let mut tap = match opened.unwrap() {
        Ok(tap) => tap,
        Err(OpenError::Tap { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: this machine has no /dev/net/tun");
            return;
        }
        Err(e) => panic!("{e}"),
    };
    assert_eq!(tap.name(), "netio-tap0");
    let host = namespace.enter(|| Interface::named("netio-tap0")?.mac());
    let host = host.unwrap().unwrap();
    assert_ne!(tap.mac(), host);
    let socket = namespace.enter(|| UdpSocket::bind("10.123.7.1:0")).unwrap();
    let socket = socket.unwrap();
    socket.send_to(b"to the stack", "10.123.7.2:9").unwrap();
    assert_eq!(wait(&mut tap, 8), 1);
    let question = tap.rx_frame(0).bytes.to_vec();
    assert_eq!(question[12..14], [0x08, 0x06], "not ARP");
    assert_eq!(question[38..42], address);
    tap.rx_release();
    let mac = tap.mac();
    let answer = tap.tx_frame(42).unwrap();
    answer.copy_from_slice(&question[..42]);
    answer[..6].copy_from_slice(&host);
    answer[6..12].copy_from_slice(&mac);
    answer[21] = 2;
    answer[22..28].copy_from_slice(&mac);
    answer[28..32].copy_from_slice(&address);
    answer[32..42].copy_from_slice(&question[22..32]);
    flush(&mut tap);
    assert_eq!(wait(&mut tap, 8), 1);
    assert!(tap.rx_frame(0).bytes.ends_with(b"to the stack"));
    tap.rx_release();
    drop(tap);
    let gone = namespace.enter(|| Interface::named("netio-tap0"));
    assert!(gone.unwrap().is_err(), "the interface outlived its device");
}

/// A device whose interface is switched off or removed says so, takes what it cannot send without end, and holds
/// nothing.
#[test]
fn a_device_that_goes_says_so() {
    let Some(lab) = lab() else { return };
    for kind in ["packet", "xdp"] {
        let (a, b) = (lab.namespace("a").unwrap(), lab.namespace("b").unwrap());
        lab.veth((&a, "netio-a"), (&b, "netio-b")).unwrap();
        let spec: DeviceSpec = format!("{kind}:netio-a").parse().unwrap();
        let opened = a.enter(|| open(&spec, [10, 0, 0, 2].into()));
        let mut device = opened.unwrap().unwrap();
        device.check().unwrap();
        // The end of the other namespace takes both ends with it.
        drop(b);
        let mut frames = 0;
        // It is switched off on its way out.
        let error = loop {
            match device.check() {
                Err(error @ DeviceError::Gone { .. }) => break error,
                _ => std::thread::yield_now(),
            }
        };
        assert!(error.to_string().contains("netio-a has gone"), "{error}");
        for _ in 0..3 {
            while frames < 5000 && queue(&mut device, [2; 6], 64, 1) {
                frames += 1;
            }
            device.tx_burst();
            assert_eq!(device.rx_burst(8), 0);
        }
        if kind == "packet" {
            assert_eq!((device.tx_queued(), device.tx_dropped()), (0, frames));
        }
    }
}

/// A TAP that is switched off under way says so.
#[test]
fn a_tap_that_is_switched_off_says_so() {
    let Some(lab) = lab() else { return };
    let namespace = lab.namespace("a").unwrap();
    let opened = namespace.enter(|| Tap::open("netio-off", [10, 3, 0, 2].into(), Offload::None));
    let mut tap = opened.unwrap().unwrap();
    tap.check().unwrap();
    namespace
        .enter(|| Interface::named("netio-off")?.down())
        .unwrap()
        .unwrap();
    let error = tap.check().unwrap_err();
    assert!(matches!(error, DeviceError::Down { .. }), "{error}");
    assert!(
        error.to_string().contains("ip link set netio-off up"),
        "{error}"
    );
    assert!(queue(&mut tap, [2; 6], 64, 1));
    flush(&mut tap);
    assert_eq!((tap.rx_burst(8), tap.tx_dropped()), (0, 1));
}

/// What cannot be opened is named, with what to do.
#[test]
fn failures_name_device_and_fix() {
    let Some(lab) = lab() else { return };
    let namespace = lab.namespace("a").unwrap();
    let failure = |spec: &str, address: [u8; 4]| {
        let spec: DeviceSpec = spec.parse().unwrap();
        let opened = namespace.enter(|| open(&spec, address.into())).unwrap();
        opened.unwrap_err().to_string()
    };
    let text = failure("packet:nothing0", [10, 0, 0, 2]);
    assert!(text.contains("no interface nothing0"), "{text}");
    let text = failure("xdp:nothing0", [10, 0, 0, 2]);
    assert!(text.contains("no interface nothing0"), "{text}");
    let text = failure("xdp:lo", [10, 0, 0, 2]);
    assert!(text.contains("xdp:lo: its MTU is 65536"), "{text}");
    let text = failure("tap:lo", [10, 0, 0, 2]);
    assert!(
        text.contains("tap:lo") && text.contains("choose another"),
        "{text}"
    );
    let text = failure("tap:netio-t", [10, 0, 0, 1]);
    assert!(text.contains("10.0.0.1") && text.contains(".2"), "{text}");
}
