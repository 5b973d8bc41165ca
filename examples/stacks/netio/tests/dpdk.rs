//! DPDK's virtual devices beside a packet socket and the host's kernel. Needs root and the feature `dpdk` with its
//! library; says so and passes without them.

use crate::link::{self, HEADER, answer_arp, fill, flush, lab, number, queue, wait};
use netlab::{Lab, Namespace};
use stack_netio::{AnyDevice, Device, DeviceSpec, OpenError, open_queues};
use std::net::UdpSocket;
use std::time::Duration;

const STACK: [u8; 4] = [10, 79, 0, 2];

/// Opens a device; none where DPDK is not built in, which says how to get it.
fn dpdk(namespace: &Namespace, words: &str, queues: usize) -> Option<Vec<AnyDevice>> {
    let spec: DeviceSpec = words.parse().unwrap();
    match namespace
        .enter(|| open_queues(&spec, STACK.into(), queues))
        .unwrap()
    {
        Ok(devices) => Some(devices),
        Err(error @ OpenError::NoDpdk { .. }) => {
            let text = error.to_string();
            assert!(text.contains(words) && text.contains("apt-get install libdpdk-dev"));
            assert!(text.contains("--features dpdk"), "{text}");
            eprintln!("skipped: {text}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn packet(namespace: &Namespace, words: &str) -> AnyDevice {
    let spec: DeviceSpec = words.parse().unwrap();
    let opened = namespace.enter(|| open_queues(&spec, STACK.into(), 1));
    opened.unwrap().unwrap().remove(0)
}

fn ends(lab: &Lab) -> (Namespace, Namespace) {
    let (a, b) = (lab.namespace("a").unwrap(), lab.namespace("b").unwrap());
    lab.veth((&a, "netio-a"), (&b, "netio-b")).unwrap();
    (a, b)
}

/// Through DPDK's packet driver frames of all sizes cross in both directions, whole and in order, in bursts.
#[test]
fn frames_cross_through_af_packet() {
    let Some(lab) = lab() else { return };
    let (a, b) = ends(&lab);
    let Some(mut devices) = dpdk(&b, "dpdk:net_af_packet0,iface=netio-b", 1) else {
        return;
    };
    let mut ends = [packet(&a, "packet:netio-a"), devices.remove(0)];
    assert_eq!(ends[1].mtu(), 1500);
    let mut expected = [0; 1514];
    for (from, to) in [(0, 1), (1, 0), (0, 1)] {
        let mac = ends[to].mac();
        for first in (0..2000).step_by(50) {
            let length = |n: u32| 60 + (n as usize * 37) % 1455;
            for n in first..first + 50 {
                assert!(queue(&mut ends[from], mac, length(n), n));
            }
            flush(&mut ends[from]);
            let mut next = first;
            while next < first + 50 {
                let held = wait(&mut ends[to], 16);
                assert!(held <= 16);
                for index in 0..held {
                    let bytes = ends[to].rx_frame(index).bytes;
                    assert_eq!(number(&ends[to], index), next);
                    let expected = &mut expected[..length(next)];
                    fill(expected, next);
                    assert_eq!(bytes[HEADER + 4..], expected[HEADER + 4..]);
                    next += 1;
                }
                ends[to].rx_release();
            }
        }
    }
    assert!(!queue(&mut ends[1], [2; 6], 1515, 1));
    let frames = (0..100_000)
        .take_while(|n| queue(&mut ends[1], [2; 6], 64, *n))
        .count();
    assert_eq!(ends[1].tx_queued(), frames);
    assert!(frames < 10_000, "the queue never fills");
    flush(&mut ends[1]);
    assert_eq!(ends[1].rx_dropped(), 0);
}

/// DPDK's TAP driver makes an interface whose host end has the first address and reaches the stack.
#[test]
fn the_host_reaches_the_stack_through_net_tap() {
    let Some(lab) = lab() else { return };
    let namespace = lab.namespace("a").unwrap();
    let Some(mut devices) = dpdk(&namespace, "dpdk:net_tap0,iface=netio-dtap", 1) else {
        return;
    };
    let device = &mut devices[0];
    device.check().unwrap();
    let socket = namespace
        .enter(|| UdpSocket::bind("10.79.0.1:0"))
        .unwrap()
        .unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    socket.send_to(b"to the stack", "10.79.0.2:9").unwrap();
    answer_arp(std::slice::from_mut(device), STACK);
    let frame = loop {
        wait(device, 1);
        let frame = device.rx_frame(0).bytes.to_vec();
        device.rx_release();
        if frame[12..14] == [0x08, 0x00] && frame[23] == 17 {
            break frame;
        }
    };
    assert!(frame.ends_with(b"to the stack"));
    assert_eq!(frame[..6], device.mac());
    // Back to whoever sent it: addresses and ports change places, which no checksum sees.
    let back = device.tx_frame(frame.len()).unwrap();
    back.copy_from_slice(&frame);
    for (at, len) in [(0, 6), (26, 4), (34, 2)] {
        let (first, second) = (at..at + len, at + len..at + 2 * len);
        back[first.clone()].copy_from_slice(&frame[second.clone()]);
        back[second].copy_from_slice(&frame[first]);
    }
    flush(device);
    let mut bytes = [0; 64];
    let (len, from) = socket.recv_from(&mut bytes).unwrap();
    assert_eq!((&bytes[..len], from.port()), (&b"to the stack"[..], 9));
}

/// Two queues each send, and one that receives is found.
#[test]
fn queues_are_polled_apart() {
    let Some(lab) = lab() else { return };
    let (a, b) = ends(&lab);
    let words = "dpdk:net_af_packet2,iface=netio-b,qpairs=2";
    let Some(mut devices) = dpdk(&b, words, 2) else {
        return;
    };
    let mut peer = packet(&a, "packet:netio-a");
    for n in 0..2 {
        let device = &mut devices[n as usize];
        assert!(queue(device, peer.mac(), 64, n));
        flush(device);
        assert_eq!(wait(&mut peer, 8), 1);
        assert_eq!(number(&peer, 0), n);
        peer.rx_release();
    }
    assert!(queue(&mut peer, devices[0].mac(), 64, 7));
    flush(&mut peer);
    let found = link::wait_any(&mut devices, 8);
    assert_eq!(number(&devices[found], 0), 7);
}

/// What DPDK refuses is named; the name is free again after that, and after a device was closed.
#[test]
fn refusals_are_named_and_leave_nothing() {
    let Some(lab) = lab() else { return };
    let (_a, b) = ends(&lab);
    let open = |words: &str, queues| {
        let spec: DeviceSpec = words.parse().unwrap();
        b.enter(|| open_queues(&spec, STACK.into(), queues))
            .unwrap()
    };
    if dpdk(&b, "dpdk:net_af_packet3,iface=netio-b", 1).is_none() {
        return;
    }
    for (words, queues, fix) in [
        (
            "dpdk:net_af_packet3,iface=nothing0",
            1,
            "no such driver or interface",
        ),
        ("dpdk:net_none0", 1, "no such driver or interface"),
        ("dpdk:net_af_packet3,iface=netio-b", 3, "fewer queues"),
    ] {
        let text = open(words, queues).unwrap_err().to_string();
        let name = words.split(',').next().unwrap();
        assert!(text.contains(name) && text.contains(fix), "{text}");
    }
    let first = open("dpdk:net_af_packet3,iface=netio-b", 1).unwrap();
    let text = open("dpdk:net_af_packet3,iface=netio-b", 1)
        .unwrap_err()
        .to_string();
    assert!(text.contains("choose another number"), "{text}");
    drop(first);
    open("dpdk:net_af_packet3,iface=netio-b", 1).unwrap();
}
