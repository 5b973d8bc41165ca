//! A raw packet socket on an interface whose kernel end has no address: the stack is the only one that answers.
//!
//! Received frames are lent from a `TPACKET_V2` ring: version 3 hands frames over block by block, which a busy poller
//! sees up to a block's timeout later. Sending is one `sendmmsg` for up to 64 frames. A transmit ring would save no copy
//! over veth, where frames are copied before they leave their slots: tried side by side, a frame in bursts of 1 to 4
//! took a tenth to a fifth longer through the ring, and only 64-byte frames in bursts of 32 were faster (1.2 us, not
//! 1.6). Queueing disciplines are passed by; captures on this end do not see what we send.

use crate::outbox::{ETHERNET, Outbox};
use crate::rxring::{RxRing, Shape};
use crate::{Device, OpenError, RxFrame, Spread, sys};
use netlab::Interface;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Frames that wait to be sent; more than a stack makes in one round.
const TX_FRAMES: usize = 1024;

/// An interface through a packet socket.
#[derive(Debug)]
pub struct Packet {
    socket: OwnedFd,
    ring: RxRing,
    outbox: Outbox,
    mac: [u8; 6],
    mtu: u16,
    dropped: u64,
}

impl AsFd for Packet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Packet {
    /// Opens the interface of this name, which must be up.
    pub fn open(name: &str) -> Result<Packet, OpenError> {
        let interface = Interface::named(name)?;
        if !interface.is_up()? {
            return Err(OpenError::Down {
                interface: name.to_string(),
            });
        }
        let mac = interface.mac()?;
        let mtu = interface.mtu()?.min(u32::from(u16::MAX)) as u16;
        let largest = usize::from(mtu) + ETHERNET;
        let shape = Shape::for_frames(largest);
        let socket = sys::packet_socket().map_err(failed(name, "open a packet socket"))?;
        let fd = socket.as_fd();
        let version = libc::tpacket_versions::TPACKET_V2 as libc::c_int;
        for (what, option, value) in [
            ("choose the ring's format", libc::PACKET_VERSION, version),
            ("leave out frames sent here", PACKET_IGNORE_OUTGOING, 1),
            ("pass queueing by", libc::PACKET_QDISC_BYPASS, 1),
        ] {
            sys::set(fd, option, value).map_err(failed(name, what))?;
        }
        let request = shape.request();
        sys::set(fd, libc::PACKET_RX_RING, request).map_err(failed(name, "make a receive ring"))?;
        let ring = RxRing::map(fd, shape).map_err(failed(name, "map the receive ring"))?;
        let index = interface.index()?;
        sys::bind(fd, index).map_err(failed(name, "receive"))?;
        Ok(Packet {
            ring,
            outbox: Outbox::new(TX_FRAMES, largest),
            mac,
            mtu,
            dropped: 0,
            socket,
        })
    }

    /// Opens one socket per queue on the interface of this name; each frame comes from one of them.
    pub fn open_queues(
        name: &str,
        queues: usize,
        spread: Spread,
    ) -> Result<Vec<Packet>, OpenError> {
        let mut devices: Vec<Packet> = Vec::with_capacity(queues);
        let mut group = None;
        for _ in 0..queues {
            let device = Packet::open(name)?;
            let joined = sys::join_fanout(device.socket.as_fd(), group, spread);
            group = Some(joined.map_err(failed(name, "share the interface's frames"))?);
            devices.push(device);
        }
        // Between binding and joining a socket received everything: frames that others hold too.
        for device in &mut devices {
            while device.ring.burst(usize::MAX) > 0 {}
        }
        Ok(devices)
    }
}

fn failed(name: &str, what: &'static str) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Packet {
        interface: name.to_string(),
        what,
        source,
    }
}

/// Of linux/if_packet.h.
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

impl Device for Packet {
    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn mtu(&self) -> u16 {
        self.mtu
    }

    fn rx_burst(&mut self, max: usize) -> usize {
        self.ring.burst(max)
    }

    fn rx_frame(&self, index: usize) -> RxFrame<'_> {
        self.ring.frame(index)
    }

    fn rx_release(&mut self) {
        self.ring.release();
    }

    fn tx_frame(&mut self, len: usize) -> Option<&mut [u8]> {
        self.outbox.frame(len)
    }

    fn tx_queued(&self) -> usize {
        self.outbox.queued()
    }

    fn tx_burst(&mut self) -> usize {
        let mut taken = 0;
        while self.outbox.queued() > 0 {
            let batch = self.outbox.queued().min(sys::BATCH);
            let frames = (0..batch).map(|index| self.outbox.at(index));
            // What the device does not take now stays queued, whatever its reason.
            let sent = sys::send(self.socket.as_fd(), frames).unwrap_or(0);
            self.outbox.sent(sent);
            taken += sent;
            if sent < batch {
                break;
            }
        }
        taken
    }

    fn rx_dropped(&mut self) -> u64 {
        // The kernel's count starts again whenever it is read.
        self.dropped += sys::dropped(self.socket.as_fd()).unwrap_or(0);
        self.dropped + self.ring.oversized()
    }
}
