//! Our packet I/O as Demikernel's physical layer: four frames received at a time, each frame sent at once.
//!
//! In: the stack's calls; out: buffers of its own kind. It lets through what the stack is for, ARP, ICMP and whole TCP
//! segments for its port, since other packets end in `unreachable!` there, and shows it two things otherwise than they
//! came: a reset as the end of the peer's stream, and the end of a peer that the application gives up.
//!
//! Checksums: the stack is told that the device has them verified and made (`tcp_checksum_offload`), and this does:
//! its own verification drops a good packet in about 16,000, each of which costs a retransmission.

use crate::peers::Peers;
use arrayvec::ArrayVec;
use bypassprof_probe::{self as probe, Flow, points};
use demikernel::inetstack::protocols::MAX_HEADER_SIZE;
use demikernel::inetstack::protocols::layer1::PhysicalLayer;
use demikernel::runtime::fail::Fail;
use demikernel::runtime::memory::{DemiBuffer, MemoryRuntime};
use demikernel::runtime::network::consts::RECEIVE_BATCH_SIZE;
use demikernel::{demi_sgarray_t, demi_sgaseg_t};
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
    frame: Vec<u8>,
    /// Frames that the stack is shown though nobody sent them.
    farewells: VecDeque<DemiBuffer>,
    received: u64,
}

impl<D: Device> Border<D> {
    /// A border before its first frame, for a stack that listens there.
    pub fn new(port: Port<D>, listen: SocketAddrV4) -> Border<D> {
        Border {
            port,
            peers: Peers::default(),
            listen,
            frame: Vec::new(),
            farewells: VecDeque::new(),
            received: 0,
        }
    }

    /// Frames received so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Lets the stack believe that this peer ended, from `seq` on if that is known.
    pub fn hang_up(&mut self, peer: SocketAddrV4, seq: Option<u32>) {
        let farewell = self.peers.farewell(peer, self.listen, self.port.mac(), seq);
        if let Some(Ok(buffer)) = farewell.map(|frame| DemiBuffer::from_slice(&frame)) {
            self.farewells.push_back(buffer);
        }
    }

    /// The held frame `index` as the stack is to see it, if it is.
    fn show(&mut self, index: usize) -> Option<DemiBuffer> {
        let (segment, checksum_ok) = self.port.take(index, &mut self.frame);
        match segment {
            Some(segment) => {
                if !checksum_ok && !checksum::is_right(&self.frame) {
                    probe::emit(points::DROP, segment.flow(), 4 << 24);
                    return None;
                }
                if segment.to != self.listen {
                    return None;
                }
                if segment.has(flags::RST) {
                    self.hang_up(segment.from, Some(segment.seq));
                    return None;
                }
                if !self.peers.note(&segment) {
                    probe::emit(points::DROP, segment.flow(), (4 << 24) | 1);
                    return None;
                }
            }
            None if !is_arp_or_icmp(&self.frame) => return None,
            None => {}
        }
        DemiBuffer::from_slice(&self.frame).ok()
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
        if frames > 0 {
            self.received += frames as u64;
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
        }
        let sent = self.port.send(packet.len(), |frame| {
            frame.copy_from_slice(packet);
            checksum::make_right(frame);
        });
        self.port.tx_burst(Trigger::AtOnce);
        sent.is_some()
    }
}

/// Whether a frame without a TCP segment is for the stack.
fn is_arp_or_icmp(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([8, 6]) => true,
        Some([8, 0]) => frame.len() >= 42 && frame[14] == 0x45 && frame[23] == 1,
        _ => false,
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
