//! Checksums and segments left to the kernel, in both directions. Needs root; says so and passes without it.

use crate::link::{self, answer_arp, flush, lab, wait};
use netlab::Interface;
use stack_netio::{AnyDevice, Device, DeviceSpec, Offloads, Segment, TxOffload, open};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

const HOST: [u8; 4] = [10, 78, 0, 1];
const STACK: [u8; 4] = [10, 78, 0, 2];
const HEADERS: usize = 54;

/// RFC 1071 over whole bytes, added to `sum`.
fn sum(mut sum: u32, bytes: &[u8]) -> u32 {
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

/// The sum of the pseudo header of a packet (RFC 9293, 3.1).
fn pseudo(packet: &[u8]) -> u32 {
    let length = packet.len() as u32 - 20;
    sum(u32::from(packet[9]) + length, &packet[12..20])
}

/// Fills in lengths and IPv4's checksum of the packet behind an Ethernet header, and TCP's pseudo header.
fn finish(frame: &mut [u8], macs: [[u8; 6]; 2], offset: usize) {
    frame[..6].copy_from_slice(&macs[1]);
    frame[6..12].copy_from_slice(&macs[0]);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    let packet = &mut frame[14..];
    let len = packet.len() as u16;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet[8] = 64;
    packet[10..12].fill(0);
    let ip = !sum(0, &packet[..20]) as u16;
    packet[10..12].copy_from_slice(&ip.to_be_bytes());
    let partial = pseudo(packet) as u16;
    packet[20 + offset..22 + offset].copy_from_slice(&partial.to_be_bytes());
}

/// A TCP segment with a payload that counts; its checksum is left to the device.
fn segment(frame: &mut [u8], macs: [[u8; 6]; 2], ports: [u16; 2], seq: u32, ack: u32, flags: u8) {
    frame.fill(0);
    frame[14] = 0x45;
    frame[23] = 6;
    frame[26..30].copy_from_slice(&STACK);
    frame[30..34].copy_from_slice(&HOST);
    frame[34..36].copy_from_slice(&ports[0].to_be_bytes());
    frame[36..38].copy_from_slice(&ports[1].to_be_bytes());
    frame[38..42].copy_from_slice(&seq.to_be_bytes());
    frame[42..46].copy_from_slice(&ack.to_be_bytes());
    frame[46] = 0x50;
    frame[47] = flags;
    frame[48..50].fill(0xff);
    for (at, byte) in frame[HEADERS..].iter_mut().enumerate() {
        *byte = (at ^ (at >> 8)) as u8;
    }
    finish(frame, macs, 16);
}

const TCP_SUM: TxOffload = TxOffload {
    checksum: Some((34, 16)),
    segment: None,
};

/// Whether IPv4's and TCP's or UDP's checksums of a frame are right.
fn sums_are_right(frame: &[u8]) -> bool {
    let packet = &frame[14..];
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let packet = &packet[..total];
    sum(0, &packet[..20]) == 0xffff && sum(pseudo(packet), &packet[20..]) == 0xffff
}

/// A TAP whose host knows the stack's Ethernet address; a socket of the host's, and both Ethernet addresses.
fn tap(
    lab: &netlab::Lab,
    options: &str,
) -> (AnyDevice, UdpSocket, [[u8; 6]; 2], netlab::Namespace) {
    let namespace = lab.namespace("a").unwrap();
    let spec: DeviceSpec = format!("tap:netio-off{options}").parse().unwrap();
    let mut tap = namespace
        .enter(|| open(&spec, STACK.into()))
        .unwrap()
        .unwrap();
    let host = namespace.enter(|| Interface::named("netio-off")?.mac());
    let macs = [tap.mac(), host.unwrap().unwrap()];
    let socket = namespace
        .enter(|| UdpSocket::bind("10.78.0.1:9000"))
        .unwrap()
        .unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    socket.send_to(b"hello", "10.78.0.2:9").unwrap();
    answer_arp(std::slice::from_mut(&mut tap), STACK);
    (tap, socket, macs, namespace)
}

/// Polls for the next IPv4 frame of a protocol: its bytes, and whether its checksums are said to be good.
fn next(device: &mut AnyDevice, protocol: u8) -> (Vec<u8>, bool) {
    for _ in 0..100 {
        wait(device, 1);
        let frame = device.rx_frame(0);
        let found = (frame.bytes.to_vec(), frame.checksum_ok);
        device.rx_release();
        if found.0[12..14] == [0x08, 0x00] && found.0[23] == protocol {
            return found;
        }
    }
    panic!("no frame of protocol {protocol}");
}

/// A datagram whose sum the stack leaves to the kernel is accepted by the host's socket; one with a wrong sum is not.
#[test]
fn the_host_takes_frames_that_are_not_summed() {
    let Some(lab) = lab() else { return };
    for options in [",offload=tx", ",offload=both"] {
        let (mut tap, socket, macs, _namespace) = tap(&lab, options);
        assert_eq!(tap.offloads().segmentation, Some(65_549), "{options}");
        let offload = TxOffload {
            checksum: Some((34, 6)),
            segment: None,
        };
        for (offload, text) in [(TxOffload::default(), b"bad!"), (offload, b"good")] {
            let frame = tap.tx_frame_with(46, offload).unwrap();
            frame.fill(0);
            frame[14] = 0x45;
            frame[23] = 17;
            frame[26..30].copy_from_slice(&STACK);
            frame[30..34].copy_from_slice(&HOST);
            frame[34..36].copy_from_slice(&5000_u16.to_be_bytes());
            frame[36..38].copy_from_slice(&9000_u16.to_be_bytes());
            frame[38..40].copy_from_slice(&12_u16.to_be_bytes());
            frame[42..46].copy_from_slice(text);
            finish(frame, macs, 6);
        }
        flush(&mut tap);
        let mut bytes = [0; 64];
        let len = socket.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..len], b"good", "{options}");
    }
}

/// With `both` the host's datagrams come without a sum and say so; otherwise the sum is made.
#[test]
fn the_host_leaves_sums_out_only_if_told() {
    let Some(lab) = lab() else { return };
    for (options, left_out) in [("", false), (",offload=tx", false), (",offload=both", true)] {
        let (mut tap, socket, _, _namespace) = tap(&lab, options);
        next(&mut tap, 17);
        socket.send_to(b"a datagram", "10.78.0.2:9").unwrap();
        let (frame, checksum_ok) = next(&mut tap, 17);
        assert_eq!(checksum_ok, left_out, "{options}");
        assert_eq!(sums_are_right(&frame), !left_out, "{options}");
    }
}

/// Connects by hand from port 80 to a listening host; the connection and the stack's next sequence numbers.
fn connect(
    device: &mut AnyDevice,
    macs: [[u8; 6]; 2],
    host: &TcpListener,
) -> (TcpStream, [u32; 2]) {
    let port = host.local_addr().unwrap().port();
    let send = |device: &mut AnyDevice, seq, ack, flags| {
        let frame = device.tx_frame_with(HEADERS, TCP_SUM).unwrap();
        segment(frame, macs, [80, port], seq, ack, flags);
        flush(device);
    };
    send(device, 1000, 0, 0x02);
    let (answer, _) = next(device, 6);
    let ack = u32::from_be_bytes(answer[38..42].try_into().unwrap()).wrapping_add(1);
    send(device, 1001, ack, 0x10);
    let (stream, _) = host.accept().unwrap();
    (stream, [1001, ack])
}

/// With `both` the host hands over TCP frames longer than the link's MTU; otherwise it cuts them, with sums.
#[test]
fn the_host_sends_long_frames_only_if_told() {
    let Some(lab) = lab() else { return };
    for (options, long) in [(",offload=tx", false), (",offload=both", true)] {
        let (mut tap, _socket, macs, namespace) = tap(&lab, options);
        let listener = namespace
            .enter(|| TcpListener::bind("10.78.0.1:0"))
            .unwrap()
            .unwrap();
        let (mut stream, _) = connect(&mut tap, macs, &listener);
        stream.write_all(&[7; 5000]).unwrap();
        let (frame, checksum_ok) = next(&mut tap, 6);
        assert_eq!(frame.len() > 1514, long, "{options}: {}", frame.len());
        assert_eq!(checksum_ok, long, "{options}");
        assert_eq!(sums_are_right(&frame), !long, "{options}");
        assert!(frame[HEADERS..].iter().all(|byte| *byte == 7));
    }
}

/// A TCP frame of nearly 64 KiB from the stack arrives in the host's stream.
#[test]
fn the_host_takes_one_long_frame() {
    let Some(lab) = lab() else { return };
    let (mut tap, _socket, macs, namespace) = tap(&lab, ",offload=tx");
    let listener = namespace
        .enter(|| TcpListener::bind("10.78.0.1:0"))
        .unwrap()
        .unwrap();
    let (mut stream, [seq, ack]) = connect(&mut tap, macs, &listener);
    let port = listener.local_addr().unwrap().port();
    let cut = TxOffload {
        segment: Some(Segment {
            header: HEADERS as u16,
            payload: 1460,
        }),
        ..TCP_SUM
    };
    let payload = 60_000;
    let frame = tap.tx_frame_with(HEADERS + payload, cut).unwrap();
    segment(frame, macs, [80, port], seq, ack, 0x18);
    let sent = frame[HEADERS..].to_vec();
    flush(&mut tap);
    let mut received = vec![0; payload];
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.read_exact(&mut received).unwrap();
    assert_eq!(received, sent);
}

/// Over a link that cannot take it whole the kernel cuts a long frame: every piece has the size asked for, its own
/// sequence number and right sums.
#[test]
fn a_long_frame_is_cut_for_a_plain_link() {
    let Some(lab) = lab() else { return };
    let (a, b) = (lab.namespace("a").unwrap(), lab.namespace("b").unwrap());
    lab.veth((&a, "netio-a"), (&b, "netio-b")).unwrap();
    a.enter(|| Interface::named("netio-a")?.offloads_off())
        .unwrap()
        .unwrap();
    let spec = |text: &str| text.parse::<DeviceSpec>().unwrap();
    let sender = a.enter(|| open(&spec("packet:netio-a,offload=tx"), STACK.into()));
    let receiver = b.enter(|| open(&spec("packet:netio-b"), HOST.into()));
    let (mut sender, mut receiver) = (sender.unwrap().unwrap(), receiver.unwrap().unwrap());
    let macs = [sender.mac(), receiver.mac()];
    let cut = TxOffload {
        segment: Some(Segment {
            header: HEADERS as u16,
            payload: 1400,
        }),
        ..TCP_SUM
    };
    let frame = sender.tx_frame_with(HEADERS + 30_000, cut).unwrap();
    segment(frame, macs, [80, 9], 5000, 1, 0x10);
    let sent = frame[HEADERS..].to_vec();
    flush(&mut sender);
    let mut at = 0;
    while at < sent.len() {
        let (piece, _) = next(&mut receiver, 6);
        let payload = 1400.min(sent.len() - at);
        assert_eq!(piece.len(), HEADERS + payload);
        assert_eq!(piece[38..42], (5000 + at as u32).to_be_bytes());
        assert_eq!(piece[HEADERS..], sent[at..at + payload]);
        assert!(sums_are_right(&piece), "piece at {at}");
        at += payload;
    }
}

/// Between two ends that both take long frames, one arrives as it was, and its sums are taken as good; an end that does
/// not take them counts it as dropped.
#[test]
fn a_long_frame_crosses_a_virtual_link_whole() {
    let Some(lab) = lab() else { return };
    for (options, arrives) in [(",offload=both", true), ("", false)] {
        let options = [",offload=tx", options];
        let (mut sender, mut receiver) = link::pair_of(&lab, options);
        let macs = [sender.mac(), receiver.mac()];
        let cut = TxOffload {
            segment: Some(Segment {
                header: HEADERS as u16,
                payload: 1460,
            }),
            ..TCP_SUM
        };
        let frame = sender.tx_frame_with(HEADERS + 50_000, cut).unwrap();
        segment(frame, macs, [80, 9], 5000, 1, 0x10);
        let sent = frame.to_vec();
        flush(&mut sender);
        if arrives {
            let (whole, checksum_ok) = next(&mut receiver, 6);
            assert_eq!(whole, sent);
            assert!(checksum_ok);
        } else {
            let start = Instant::now();
            while receiver.rx_dropped() == 0 && start.elapsed() < Duration::from_secs(20) {
                assert_eq!(receiver.rx_burst(8), 0);
                thread::yield_now();
            }
            assert_eq!(receiver.rx_dropped(), 1);
        }
    }
}

/// A device that was opened without offloads leaves nothing to the kernel.
#[test]
fn nothing_is_left_to_a_plain_device() {
    let Some(lab) = lab() else { return };
    let (mut device, _) = link::pair_with(&lab, "packet", 1, "");
    assert_eq!(device.offloads(), Offloads::default());
    assert!(device.tx_frame_with(HEADERS, TCP_SUM).is_none());
    assert!(
        device
            .tx_frame_with(HEADERS, TxOffload::default())
            .is_some()
    );
    let refused = "packet:eth0,offload=all".parse::<DeviceSpec>().unwrap_err();
    assert!(refused.to_string().contains("none, tx or both"));
}
