//! Our packet I/O as Demikernel's physical layer: four frames received at a time, each frame sent at once.
//!
//! In: the stack's calls; out: buffers of its own kind. It lets through what the stack is for, ARP, ICMP and whole TCP
//! segments for its port, since other packets end in `unreachable!` there; what `peers` says of segments is
//! done here, and each new peer's Ethernet address is told before the stack asks for it.
//!
//! Checksums: the stack is told that the device has them verified and made (`tcp_checksum_offload`), and this does:
//! its own verification drops a good packet in about 16,000, each of which costs a retransmission.

use crate::frames::{self, Way};
use crate::peer::Verdict;
use crate::peers::{Due, Peers, Syn};
use arrayvec::ArrayVec;
use bypassprof_probe::{self as probe, Flow, points};
use demikernel::inetstack::protocols::MAX_HEADER_SIZE;
use demikernel::inetstack::protocols::layer1::PhysicalLayer;
use demikernel::runtime::fail::Fail;
use demikernel::runtime::memory::{DemiBuffer, MemoryRuntime};
use demikernel::runtime::network::consts::RECEIVE_BATCH_SIZE;
use demikernel::{demi_sgarray_t, demi_sgaseg_t};
use stack_border::fit::{self, Fit, Layer};
use stack_border::{Port, Segment, Trigger, checksum, flags, shown};
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
    frame: Vec<u8>,
    /// Frames that the stack is shown though nobody sent them.
    pretended: VecDeque<DemiBuffer>,
    /// A connection was refused for want of room, which is said once.
    refused: bool,
    /// When a wait found its first frame, by the clock; 0: not in this one.
    found: u64,
    clock: quanta::Clock,
}

impl<D: Device> Border<D> {
    /// A border before its first frame, for a stack that listens there.
    pub fn new(port: Port<D>, listen: SocketAddrV4, peers: Peers) -> Border<D> {
        Border {
            port,
            peers,
            listen,
            frame: Vec::new(),
            pretended: VecDeque::new(),
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

    /// The peer is given up, whose connection is being closed.
    pub fn hang_up(&mut self, peer: SocketAddrV4) {
        self.peers.give_up(peer);
        self.part(peer, true);
    }

    /// Tells the stack's close what it waits for, if that will not come by itself.
    fn part(&mut self, peer: SocketAddrV4, begun: bool) {
        for frame in self.peers.part(self.way(peer), begun).iter().flatten() {
            self.pretend(frame);
        }
    }

    fn way(&self, peer: SocketAddrV4) -> Way {
        Way {
            from: peer,
            to: self.listen,
            mac: self.port.mac(),
        }
    }

    fn pretend(&mut self, frame: &[u8]) {
        if let Ok(buffer) = DemiBuffer::from_slice(frame) {
            self.pretended.push_back(buffer);
        }
    }

    /// Time goes on: ends handshakes that are not completed, keeps silent connections awake, repeats what is not answered.
    pub fn tick(&mut self) {
        for due in self.peers.tick() {
            let (Due::Complete(peer) | Due::Waken(peer)) = due else {
                if let Due::Repeat(peer) = due {
                    let fin = self.peers.fin(peer).to_vec();
                    self.transmit(&fin);
                }
                continue;
            };
            let Some(frame) = self.peers.nothing(self.way(peer)) else {
                continue;
            };
            self.pretend(&frame);
            if due == Due::Complete(peer)
                && let Some(segment) = Segment::of(&frame)
            {
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
            Ok(Fit::Segment(mut segment)) => match self.shows(&mut segment) {
                true => {
                    shown::headers(&mut self.frame, &segment);
                    None
                }
                false => Some(Layer::Tcp),
            },
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

    /// Whether the stack is to see this segment, and how.
    fn shows(&mut self, segment: &mut Segment) -> bool {
        if segment.to != self.listen {
            return false;
        }
        if segment.has(flags::RST) {
            self.peers.reset(segment);
            self.part(segment.from, false);
            return false;
        }
        if segment.has(flags::SYN) {
            // With a FIN or an ACK it begins no connection.
            return segment.flags & (flags::ACK | flags::FIN) == 0 && self.opens(segment);
        }
        let came = *segment;
        let verdict = self.peers.arrives(segment);
        let answer = match verdict {
            Some(Verdict::Shown | Verdict::Kept) => None,
            Some(Verdict::Acknowledged) => {
                let numbers = self.peers.acknowledgement(came.from);
                numbers.and_then(|n| frames::answer(&self.frame, &came, n, flags::ACK))
            }
            // The stack's own reset would wait for an Ethernet address that it never asks for.
            Some(Verdict::Refused) | None => frames::refusal(&self.frame, &came),
        };
        if let Some(answer) = answer {
            self.send(&answer, None);
        }
        self.part(came.from, false);
        verdict == Some(Verdict::Shown)
    }

    /// Whether the stack is to see this SYN.
    fn opens(&mut self, segment: &mut Segment) -> bool {
        match self.peers.open(segment) {
            Syn::Shown => {
                self.introduce(segment);
                true
            }
            Syn::Kept => false,
            Syn::Again(answer) => {
                let answer = answer.to_vec();
                self.transmit(&answer);
                false
            }
            Syn::Refused => {
                self.refuse(segment);
                false
            }
        }
    }

    /// Answers the stack's question for the peer's Ethernet address, which the frame has, before it is asked: two
    /// connections of one address that wait for an answer which does not come end the stack.
    fn introduce(&mut self, segment: &Segment) {
        let ours = self.port.mac();
        if let Some(reply) = frames::introduction(&self.frame, segment, ours) {
            self.pretend(&reply);
        }
    }

    /// Resets a connection for which there is no room (RFC 9293, 3.10.7.1). The stack's own reset acknowledges a wrong
    /// number, which clients ignore and try again until they give up.
    fn refuse(&mut self, segment: &Segment) {
        let most = self.peers.limit();
        if !std::mem::replace(&mut self.refused, true) {
            eprintln!(
                "demikernel: {most} connections are open or opening, as many as --demikernel-connections allows; \
                 further ones are reset"
            );
        }
        probe::emit_with(points::FULL, segment.flow(), most as u32, [3, 0, 0]);
        if let Some(answer) = frames::refusal(&self.frame, segment) {
            self.send(&answer, None);
        }
    }

    fn receive(&mut self) -> ArrayVec<DemiBuffer, RECEIVE_BATCH_SIZE> {
        let mut batch = ArrayVec::new();
        while !batch.is_full()
            && let Some(frame) = self.pretended.pop_front()
        {
            batch.push(frame);
        }
        let frames = self.port.rx_burst(batch.remaining_capacity());
        for index in 0..frames {
            if let Some(buffer) = self.show(index) {
                batch.push(buffer);
            }
        }
        while !batch.is_full()
            && let Some(frame) = self.pretended.pop_front()
        {
            batch.push(frame);
        }
        if frames > 0 {
            if self.found == 0 {
                self.found = self.clock.raw();
            }
            self.port.rx_release();
        }
        batch
    }

    /// A frame of the stack's leaves as its peer is to see it; whether there was room.
    fn transmit(&mut self, packet: &[u8]) -> bool {
        let Some(mut segment) = Segment::of(packet) else {
            return self.send(packet, None);
        };
        let peer = segment.to;
        if !self.port.has_room() {
            return false;
        }
        let sent = match self.peers.leaves(&mut segment, packet) {
            true => self.send(packet, Some(&segment)),
            false => true,
        };
        self.part(peer, false);
        sent
    }

    /// Hands a frame to the device, with this segment's numbers in it; whether there was room.
    fn send(&mut self, packet: &[u8], segment: Option<&Segment>) -> bool {
        if !self.port.has_room() {
            return false;
        }
        let sent = self.port.send(packet.len(), |frame| {
            frame.copy_from_slice(packet);
            if let Some(segment) = segment {
                shown::headers(frame, segment);
                checksum::make_right(frame);
            }
        });
        self.port.tx_burst(Trigger::AtOnce);
        sent.is_some()
    }
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
