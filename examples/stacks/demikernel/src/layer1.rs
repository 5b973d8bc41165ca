//! Our packet I/O as Demikernel's physical layer: four frames received at a time, each frame sent at once.
//!
//! In: the stack's calls; out: buffers of its own kind. It lets through what the stack is for, ARP, ICMP and whole TCP
//! segments for its port, since other packets end in `unreachable!` there, and shows it three things otherwise than they
//! came: a reset as the end of the peer's stream, the end of a peer that the application gives up, and each new peer's
//! Ethernet address before it asks for it.
//!
//! Checksums: the stack is told that the device has them verified and made (`tcp_checksum_offload`), and this does:
//! its own verification drops a good packet in about 16,000, each of which costs a retransmission.

use crate::peers::{HEADERS, Peers, Syn, Way};
use arrayvec::ArrayVec;
use bypassprof_probe::{self as probe, Flow, points};
use demikernel::inetstack::protocols::MAX_HEADER_SIZE;
use demikernel::inetstack::protocols::layer1::PhysicalLayer;
use demikernel::runtime::fail::Fail;
use demikernel::runtime::memory::{DemiBuffer, MemoryRuntime};
use demikernel::runtime::network::consts::RECEIVE_BATCH_SIZE;
use demikernel::{demi_sgarray_t, demi_sgaseg_t};
use stack_border::fit::{self, Fit, Layer};
use stack_border::{Port, Segment, Trigger, checksum, flags};
use stack_netio::Device;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::rc::Rc;

/// What the physical layer and the loop above the stack share.
pub struct Border<D> {
    /// The device.
    pub port: Port<D>,
    /// Where the application's peers are.
    pub peers: Peers,
    listen: SocketAddrV4,
    /// Most connections.
    limit: usize,
    frame: Vec<u8>,
    /// Frames that the stack is shown though nobody sent them.
    farewells: VecDeque<DemiBuffer>,
    /// A connection was refused for want of room, which is said once.
    refused: bool,
    /// When a wait found its first frame, by the clock; 0: not in this one.
    found: u64,
    clock: quanta::Clock,
}

impl<D: Device> Border<D> {
    /// A border before its first frame, for a stack that listens there for so many connections.
    pub fn new(port: Port<D>, listen: SocketAddrV4, limit: usize) -> Border<D> {
        Border {
            port,
            peers: Peers::default(),
            listen,
            limit,
            frame: Vec::new(),
            farewells: VecDeque::new(),
            refused: false,
            found: 0,
            clock: quanta::Clock::new(),
        }
    }

    /// When the first frame since this was asked last was found, as the clock's raw value.
    pub fn take_found(&mut self) -> Option<u64> {
        match std::mem::take(&mut self.found) {
            0 => None,
            raw => Some(raw),
        }
    }

    /// Lets the stack believe that this peer ended, from `seq` on if that is known.
    pub fn hang_up(&mut self, peer: SocketAddrV4, seq: Option<u32>) {
        let farewell = self.peers.farewell(self.way(peer), seq);
        self.pretend(farewell.as_ref().map(|frame| &frame[..]));
        self.say_last_word(peer);
    }

    /// Ends what the stack leaves behind when both sides have ended.
    fn say_last_word(&mut self, peer: SocketAddrV4) {
        let word = self.peers.last_word(self.way(peer));
        self.pretend(word.as_ref().map(|frame| &frame[..]));
    }

    fn way(&self, peer: SocketAddrV4) -> Way {
        Way {
            from: peer,
            to: self.listen,
            mac: self.port.mac(),
        }
    }

    fn pretend(&mut self, frame: Option<&[u8]>) {
        if let Some(Ok(buffer)) = frame.map(DemiBuffer::from_slice) {
            self.farewells.push_back(buffer);
        }
    }

    /// Time goes on: ends handshakes that are not completed.
    pub fn tick(&mut self) {
        for peer in self.peers.tick() {
            let completion = self.peers.completion(self.way(peer));
            self.pretend(completion.as_ref().map(|frame| &frame[..]));
            if let Some(segment) = completion.as_ref().and_then(|frame| Segment::of(frame)) {
                probe::emit(points::DROP, segment.flow(), Layer::Tcp.kept());
            }
        }
    }

    /// The held frame `index` as the stack is to see it, if it is.
    fn show(&mut self, index: usize) -> Option<DemiBuffer> {
        let (segment, checksum_ok) = self.port.take(index, &mut self.frame);
        let flow = segment.map_or(Flow::NONE, |segment| segment.flow());
        let layer = match fit::look(&self.frame, *self.listen.ip()) {
            Ok(Fit::Segment(_)) if !checksum_ok && !checksum::is_right(&self.frame) => {
                probe::emit(points::DROP, flow, (Layer::Tcp as u32) << 24);
                return None;
            }
            Ok(Fit::Segment(segment)) if self.shows(&segment) => None,
            Ok(Fit::Segment(_)) => Some(Layer::Tcp),
            // Its ICMP reads no IPv4 options.
            Ok(Fit::Echo) if self.frame[14] != 0x45 => Some(Layer::Ip),
            Ok(Fit::Arp | Fit::Echo) => None,
            Err(layer) => Some(layer),
        };
        if let Some(layer) = layer {
            probe::emit(points::DROP, flow, layer.kept());
            return None;
        }
        DemiBuffer::from_slice(&self.frame).ok()
    }

    /// Whether the stack is to see this segment.
    fn shows(&mut self, segment: &Segment) -> bool {
        if segment.to != self.listen {
            return false;
        }
        if segment.has(flags::RST) {
            if self.peers.is_reset(segment) {
                self.hang_up(segment.from, Some(segment.seq));
            }
            return false;
        }
        if segment.has(flags::SYN) {
            // With a FIN or an ACK it begins no connection.
            if segment.flags & (flags::ACK | flags::FIN) != 0 {
                return false;
            }
            return match self.peers.open(segment, self.limit) {
                Syn::Shown => {
                    self.introduce(segment);
                    true
                }
                Syn::Kept => false,
                Syn::Refused => {
                    self.refuse(segment);
                    false
                }
            };
        }
        if !self.peers.has(segment.from) {
            // The stack's own reset would wait for an Ethernet address that it never asks for.
            if let Some(answer) = refusal(&self.frame, segment) {
                self.transmit(&answer);
            }
            return false;
        }
        let shown = self.peers.note(segment);
        if shown {
            self.say_last_word(segment.from);
        }
        shown
    }

    /// Answers the stack's question for the peer's Ethernet address, which the frame has, before it is asked: two
    /// connections of one address that wait for an answer which does not come end the stack.
    fn introduce(&mut self, segment: &Segment) {
        let [ours, theirs] = [self.port.mac(), source_of(&self.frame)];
        let mut reply = Vec::with_capacity(ARP);
        reply.extend([ours, theirs].concat());
        // RFC 826: Ethernet, IPv4, lengths, reply; sender, target.
        reply.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
        reply.extend(theirs);
        reply.extend(segment.from.ip().octets());
        reply.extend(ours);
        reply.extend(segment.to.ip().octets());
        self.pretend(Some(&reply));
    }

    /// Resets a connection for which there is no room (RFC 9293, 3.10.7.1). The stack's own reset acknowledges a wrong
    /// number, which clients ignore and try again until they give up.
    fn refuse(&mut self, segment: &Segment) {
        let most = self.limit as u32;
        if !std::mem::replace(&mut self.refused, true) {
            eprintln!(
                "demikernel: {most} connections are open or opening, as many as --demikernel-connections allows; \
                 further ones are reset"
            );
        }
        probe::emit_with(points::FULL, segment.flow(), most, [3, 0, 0]);
        let Some(answer) = refusal(&self.frame, segment) else {
            return;
        };
        self.transmit(&answer);
    }

    fn receive(&mut self) -> ArrayVec<DemiBuffer, RECEIVE_BATCH_SIZE> {
        let mut batch = ArrayVec::new();
        while !batch.is_full()
            && let Some(farewell) = self.farewells.pop_front()
        {
            batch.push(farewell);
        }
        let frames = self.port.rx_burst(batch.remaining_capacity());
        for index in 0..frames {
            if let Some(buffer) = self.show(index) {
                batch.push(buffer);
            }
        }
        while !batch.is_full()
            && let Some(farewell) = self.farewells.pop_front()
        {
            batch.push(farewell);
        }
        if frames > 0 {
            if self.found == 0 {
                self.found = self.clock.raw();
            }
            self.port.rx_release();
        }
        batch
    }

    fn transmit(&mut self, packet: &[u8]) -> bool {
        if !self.port.has_room() {
            return false;
        }
        if let Some(segment) = Segment::of(packet) {
            self.peers.note_sent(&segment);
            self.say_last_word(segment.to);
        }
        let sent = self.port.send(packet.len(), |frame| {
            frame.copy_from_slice(packet);
            checksum::make_right(frame);
        });
        self.port.tx_burst(Trigger::AtOnce);
        sent.is_some()
    }
}

/// Length of an ARP packet in its frame.
const ARP: usize = 42;

/// The Ethernet address a frame came from; a frame with a segment in it has one.
fn source_of(frame: &[u8]) -> [u8; 6] {
    let mut source = [0; 6];
    if let Some(bytes) = frame.get(6..12) {
        source.copy_from_slice(bytes);
    }
    source
}

/// The reset that answers a segment of no connection (RFC 9293, 3.10.7.1).
fn refusal(syn: &[u8], segment: &Segment) -> Option<Vec<u8>> {
    let mut frame = syn.get(..HEADERS)?.to_vec();
    // Addresses change sides; what the sender's options were does not matter.
    frame[..6].copy_from_slice(&syn[6..12]);
    frame[6..12].copy_from_slice(&syn[..6]);
    let ip = [0x45, 0, 0, (HEADERS - 14) as u8, 0, 0, 0x40, 0, 64, 6, 0, 0];
    frame[14..26].copy_from_slice(&ip);
    frame[26..30].copy_from_slice(&segment.to.ip().octets());
    frame[30..34].copy_from_slice(&segment.from.ip().octets());
    checksum::make_header_right(&mut frame);
    frame[34..36].copy_from_slice(&segment.to.port().to_be_bytes());
    frame[36..38].copy_from_slice(&segment.from.port().to_be_bytes());
    let acknowledged = segment.seq.wrapping_add(segment.span());
    let (seq, ack, bits) = match segment.has(flags::ACK) {
        true => (segment.ack, 0, flags::RST),
        false => (0, acknowledged, flags::RST | flags::ACK),
    };
    frame[38..42].copy_from_slice(&seq.to_be_bytes());
    frame[42..46].copy_from_slice(&ack.to_be_bytes());
    frame[46..].fill(0);
    (frame[46], frame[47]) = (5 << 4, bits);
    checksum::make_right(&mut frame);
    Some(frame)
}

/// The physical layer itself: a share of the border.
pub struct Layer1<D>(pub Rc<RefCell<Border<D>>>);

impl<D: Device + 'static> PhysicalLayer for Layer1<D> {
    fn transmit(&mut self, packet: DemiBuffer) -> Result<(), Fail> {
        match self.0.borrow_mut().transmit(&packet) {
            true => Ok(()),
            false => {
                probe::emit_with(points::FULL, Flow::NONE, 1, [0, 0, 0]);
                Err(Fail::new(libc::EAGAIN, "the device has no room"))
            }
        }
    }

    fn receive(&mut self) -> Result<ArrayVec<DemiBuffer, RECEIVE_BATCH_SIZE>, Fail> {
        Ok(self.0.borrow_mut().receive())
    }
}

impl<D> MemoryRuntime for Layer1<D> {
    /// A buffer with room for headers in front, so that the stack need not copy.
    fn sgaalloc(&self, size: usize) -> Result<demi_sgarray_t, Fail> {
        let size = match u16::try_from(size) {
            Ok(size @ 1..) if usize::from(size) + MAX_HEADER_SIZE <= usize::from(u16::MAX) => size,
            _ => {
                return Err(Fail::new(
                    libc::EINVAL,
                    "a buffer has 1 to 65,535 bytes with its headers",
                ));
            }
        };
        self.into_sgarray(DemiBuffer::new_with_headroom(size, MAX_HEADER_SIZE as u16))
    }
}

/// A segment of a scatter-gather array as bytes are copied into it.
pub(crate) fn only_segment(array: &demi_sgarray_t) -> demi_sgaseg_t {
    array.sga_segs[0]
}
