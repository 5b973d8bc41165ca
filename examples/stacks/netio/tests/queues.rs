//! Devices with several queues: each frame comes from one of them, and a flow keeps its queue. Needs root; says so and
//! passes without it.

use crate::link::{self, answer_arp, flush, lab, pair_with, wait_any};
use netlab::Interface;
use stack_netio::{AnyDevice, Device, DeviceSpec, open_queues};
use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

const QUEUES: usize = 4;
const FLOWS: u16 = 64;

/// A UDP datagram from one address and port to another, 46 bytes long, its number at the end.
fn datagram(bytes: &mut [u8], macs: [[u8; 6]; 2], from: ([u8; 4], u16), to: ([u8; 4], u16)) {
    bytes.fill(0);
    bytes[..6].copy_from_slice(&macs[1]);
    bytes[6..12].copy_from_slice(&macs[0]);
    bytes[12..14].copy_from_slice(&[0x08, 0x00]);
    bytes[14..24].copy_from_slice(&[0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17]);
    bytes[26..30].copy_from_slice(&from.0);
    bytes[30..34].copy_from_slice(&to.0);
    let sum: u32 = bytes[14..34]
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    bytes[34..36].copy_from_slice(&from.1.to_be_bytes());
    bytes[36..38].copy_from_slice(&to.1.to_be_bytes());
    bytes[38..40].copy_from_slice(&12_u16.to_be_bytes());
}

/// The flow of a datagram: its port that is not 80.
fn flow(bytes: &[u8]) -> u16 {
    let ports = [34, 36].map(|at| u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    if ports[0] == 80 { ports[1] } else { ports[0] }
}

const CLIENT: [u8; 4] = [10, 77, 0, 1];
const SERVER: [u8; 4] = [10, 77, 0, 2];

/// Sends three datagrams of every flow each way through `from`; which queues of `to` each flow came from.
fn spread(from: &mut AnyDevice, to: &mut [AnyDevice]) -> BTreeMap<u16, Vec<usize>> {
    let macs = [from.mac(), to[0].mac()];
    for _ in 0..3 {
        for port in 1000..1000 + FLOWS {
            let ends = [(CLIENT, port), (SERVER, 80)];
            for (a, b) in [(ends[0], ends[1]), (ends[1], ends[0])] {
                datagram(from.tx_frame(46).unwrap(), macs, a, b);
            }
        }
        flush(from);
    }
    let mut flows: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    for _ in 0..FLOWS * 6 {
        let queue = wait_any(to, 1);
        let port = flow(to[queue].rx_frame(0).bytes);
        to[queue].rx_release();
        flows.entry(port).or_default().push(queue);
    }
    for queue in to {
        assert_eq!(queue.rx_burst(8), 0, "a frame came twice");
        assert_eq!(queue.rx_dropped(), 0);
    }
    flows
}

/// By hash, a flow's frames come from one queue whichever way they go, and all queues have work.
#[test]
fn a_flow_keeps_its_queue() {
    let Some(lab) = lab() else { return };
    let (mut client, mut queues) = pair_with(&lab, "packet", QUEUES, "");
    let flows = spread(&mut client, &mut queues);
    assert_eq!(flows.len(), usize::from(FLOWS));
    let mut used = [0; QUEUES];
    for (port, seen) in &flows {
        assert!(seen.iter().all(|q| *q == seen[0]), "flow {port}: {seen:?}");
        used[seen[0]] += 1;
    }
    assert!(used.iter().all(|flows| *flows > 0), "{used:?}");
}

/// In turn, every flow's frames come from several queues.
#[test]
fn turns_misdirect() {
    let Some(lab) = lab() else { return };
    let (mut client, mut queues) = pair_with(&lab, "packet", QUEUES, ",spread=turn");
    let flows = spread(&mut client, &mut queues);
    let moved = |seen: &&Vec<usize>| seen.iter().any(|q| *q != seen[0]);
    assert_eq!(flows.values().filter(moved).count(), usize::from(FLOWS));
}

/// Frames that any queue sends arrive, and none of its siblings sees them.
#[test]
fn any_queue_sends() {
    let Some(lab) = lab() else { return };
    let (mut client, mut queues) = pair_with(&lab, "packet", QUEUES, "");
    let macs = [queues[0].mac(), client.mac()];
    for (queue, port) in (0..QUEUES).zip(1000..) {
        let frame = queues[queue].tx_frame(46).unwrap();
        datagram(frame, macs, (SERVER, 80), (CLIENT, port));
        flush(&mut queues[queue]);
        assert_eq!(link::wait(&mut client, 8), 1);
        assert_eq!(flow(client.rx_frame(0).bytes), port);
        client.rx_release();
        for other in &mut queues {
            assert_eq!(other.rx_burst(8), 0, "own frame came back");
        }
    }
}

/// The host sends a flow to the queue of a TAP that last sent a frame of that flow.
#[test]
fn a_tap_answers_where_it_was_asked() {
    let Some(lab) = lab() else { return };
    let namespace = lab.namespace("a").unwrap();
    for options in ["", ",offload=both"] {
        a_tap_answers_where_it_was_asked_with(&namespace, options);
    }
}

fn a_tap_answers_where_it_was_asked_with(namespace: &netlab::Namespace, options: &str) {
    let spec: DeviceSpec = format!("tap:netio-mq{options}").parse().unwrap();
    let opened = namespace.enter(|| open_queues(&spec, SERVER.into(), QUEUES));
    let mut queues = opened.unwrap().unwrap();
    let host = namespace.enter(|| Interface::named("netio-mq")?.mac());
    let macs = [queues[0].mac(), host.unwrap().unwrap()];
    let socket = namespace
        .enter(|| UdpSocket::bind("10.77.0.1:9000"))
        .unwrap();
    let socket = socket.unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    socket.send_to(b"hello", "10.77.0.2:9").unwrap();
    answer_arp(&mut queues, SERVER);
    for (queue, port) in (0..QUEUES).zip(2000..).chain((0..QUEUES).rev().zip(2000..)) {
        let frame = queues[queue].tx_frame(46).unwrap();
        datagram(frame, macs, (SERVER, port), (CLIENT, 9000));
        flush(&mut queues[queue]);
        let mut bytes = [0; 64];
        let (_, from) = socket.recv_from(&mut bytes).unwrap();
        assert_eq!(from.port(), port);
        socket.send_to(b"back", from).unwrap();
        let start = Instant::now();
        let found = loop {
            let found = wait_any(&mut queues, 1);
            let to = queues[found].rx_frame(0).bytes.to_vec();
            queues[found].rx_release();
            if to[12..14] == [0x08, 0x00] && to[36..38] == port.to_be_bytes() {
                break found;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "no answer");
        };
        assert_eq!(found, queue, "flow of port {port}");
    }
}

/// As many queues as no kernel has are refused with the numbers there are.
#[test]
fn absurd_numbers_are_refused() {
    let spec: DeviceSpec = "packet:eth0".parse().unwrap();
    for queues in [0, 257] {
        let text = open_queues(&spec, SERVER.into(), queues)
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("packet:eth0") && text.contains("1 to 256"),
            "{text}"
        );
    }
}

/// AF_XDP sockets on both queues of an interface: each frame comes from one of them, and both send.
#[test]
fn each_xdp_queue_has_its_socket() {
    let Some(lab) = lab() else { return };
    let (a, b) = (lab.namespace("a").unwrap(), lab.namespace("b").unwrap());
    lab.veth((&a, "netio-a"), (&b, "netio-b")).unwrap();
    for (namespace, name) in [(&a, "netio-a"), (&b, "netio-b")] {
        let set = namespace.enter(|| Interface::named(name)?.set_queues(2));
        if let Err(error) = set.unwrap() {
            eprintln!("skipped: {error}");
            return;
        }
    }
    let open = |namespace: &netlab::Namespace, words: &str, queues| {
        let spec: DeviceSpec = words.parse().unwrap();
        let opened = namespace.enter(|| open_queues(&spec, SERVER.into(), queues));
        opened.unwrap().unwrap()
    };
    let mut client = open(&a, "packet:netio-a", 1);
    let mut queues = open(&b, "xdp:netio-b", 2);
    spread(&mut client[0], &mut queues);
    let macs = [queues[0].mac(), client[0].mac()];
    for (queue, port) in (0..2).zip(1000..) {
        let frame = queues[queue].tx_frame(46).unwrap();
        datagram(frame, macs, (SERVER, 80), (CLIENT, port));
        flush(&mut queues[queue]);
        assert_eq!(link::wait(&mut client[0], 8), 1);
        assert_eq!(flow(client[0].rx_frame(0).bytes), port);
        client[0].rx_release();
    }
}

/// An interface with fewer queues than asked for is named.
#[test]
fn missing_queues_are_named() {
    let Some(lab) = lab() else { return };
    let (a, b) = (lab.namespace("a").unwrap(), lab.namespace("b").unwrap());
    lab.veth((&a, "netio-a"), (&b, "netio-b")).unwrap();
    let spec: DeviceSpec = "xdp:netio-a".parse().unwrap();
    let opened = a.enter(|| open_queues(&spec, SERVER.into(), 64)).unwrap();
    let text = opened.unwrap_err().to_string();
    assert!(
        text.contains("xdp:netio-a") && text.contains("fewer queues"),
        "{text}"
    );
}
