//! A raw packet socket on an interface whose kernel end has no address: the stack is the only one that answers.
//!
//! Received frames are lent from a `TPACKET_V2` ring: version 3 hands frames over block by block, which a busy poller
//! sees up to a block's time later, so that it has to be asked for ([`PacketOptions::bulk`]). Sending is one `sendmmsg` for up to 64 frames. A transmit ring would save no copy
//! over veth, where frames are copied before they leave their slots: tried side by side, a frame in bursts of 1 to 4
//! took a tenth to a fifth longer through the ring, and only 64-byte frames in bursts of 32 were faster (1.2 us, not
//! 1.6). Queueing disciplines are passed by; captures on this end do not see what we send.

use crate::blockring::{self, BlockRing};
use crate::offload::{Offloads, TxOffload};
use crate::outbox::{ETHERNET, Outbox};
use crate::rxring::{RxRing, Shape};
use crate::watch::{DeviceError, Watch};
use crate::{Device, Offload, OpenError, RxFrame, Spread, sys};
use netlab::Interface;
use std::io;
use std::num::NonZeroU16;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Frames that wait to be sent; more than a stack makes in one round.
const TX_FRAMES: usize = 1024;

/// How packet sockets are opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketOptions {
    /// What is left to the kernel.
    pub offload: Offload,
    /// Which of several queues gets a frame.
    pub spread: Spread,
    /// Receive in blocks (`TPACKET_V3`), each seen when it is full or, at the latest, after so many milliseconds.
    pub bulk: Option<NonZeroU16>,
}

/// The receive ring, in one of the kernel's formats.
#[derive(Debug)]
enum Ring {
    Slots(RxRing),
    Blocks(BlockRing),
}

impl Ring {
    fn make(
        socket: BorrowedFd<'_>,
        name: &str,
        shape: Shape,
        bulk: Option<NonZeroU16>,
    ) -> Result<Ring, OpenError> {
        let version = match bulk {
            None => libc::tpacket_versions::TPACKET_V2,
            Some(_) => libc::tpacket_versions::TPACKET_V3,
        };
        let set = sys::set(socket, libc::PACKET_VERSION, version as libc::c_int);
        set.map_err(failed(name, "choose the ring's format"))?;
        let made = match bulk {
            None => sys::set(socket, libc::PACKET_RX_RING, shape.request()),
            Some(wait) => sys::set(socket, libc::PACKET_RX_RING, blockring::request(wait.get())),
        };
        made.map_err(failed(name, "make a receive ring"))?;
        let ring = match bulk {
            None => RxRing::map(socket, shape).map(Ring::Slots),
            Some(_) => BlockRing::map(socket).map(Ring::Blocks),
        };
        ring.map_err(failed(name, "map the receive ring"))
    }

    fn burst(&mut self, max: usize) -> usize {
        match self {
            Ring::Slots(ring) => ring.burst(max),
            Ring::Blocks(ring) => ring.burst(max),
        }
    }
}

/// An interface through a packet socket.
#[derive(Debug)]
pub struct Packet {
    socket: OwnedFd,
    /// What frames with headers leave by.
    sender: Option<OwnedFd>,
    watch: Watch,
    ring: Ring,
    outbox: Outbox,
    mac: [u8; 6],
    mtu: u16,
    dropped: u64,
    /// Frames that the kernel did not want to send.
    refused: u64,
}

impl Packet {
    /// Opens the interface of this name, which must be up.
    pub fn open(name: &str, options: PacketOptions) -> Result<Packet, OpenError> {
        let interface = Interface::named(name)?;
        if !interface.is_up()? {
            return Err(OpenError::Down {
                interface: name.to_string(),
            });
        }
        let mac = interface.mac()?;
        let mtu = interface.mtu()?.min(u32::from(u16::MAX)) as u16;
        let largest = usize::from(mtu) + ETHERNET;
        let shape = match options.offload {
            Offload::None | Offload::Tx => Shape::for_frames(largest),
            Offload::Both => Shape::for_frames(Offloads::LONGEST),
        };
        let socket = sys::packet_socket().map_err(failed(name, "open a packet socket"))?;
        let fd = socket.as_fd();
        for (what, option, value) in [
            ("leave out frames sent here", PACKET_IGNORE_OUTGOING, 1),
            ("pass queueing by", libc::PACKET_QDISC_BYPASS, 1),
        ] {
            sys::set(fd, option, value).map_err(failed(name, what))?;
        }
        let ring = Ring::make(fd, name, shape, options.bulk)?;
        let index = interface.index()?;
        sys::bind(fd, index, libc::ETH_P_ALL).map_err(failed(name, "receive"))?;
        let (sender, offloads) = match options.offload {
            Offload::None => (None, Offloads::default()),
            Offload::Tx | Offload::Both => {
                let sender = sender(index).map_err(failed(name, "send frames that are not cut"))?;
                (Some(sender), Offloads::KERNEL)
            }
        };
        Ok(Packet {
            ring,
            sender,
            watch: Watch::on(&interface)?,
            outbox: Outbox::with_offloads(TX_FRAMES, largest, offloads),
            mac,
            mtu,
            dropped: 0,
            refused: 0,
            socket,
        })
    }

    /// Opens one socket per queue on the interface of this name; each frame comes from one of them.
    pub fn open_queues(
        name: &str,
        options: PacketOptions,
        queues: usize,
    ) -> Result<Vec<Packet>, OpenError> {
        let mut devices: Vec<Packet> = Vec::with_capacity(queues);
        let mut group = None;
        for _ in 0..queues {
            let device = Packet::open(name, options)?;
            let joined = sys::join_fanout(device.socket.as_fd(), group, options.spread);
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

/// A socket that only sends, each frame behind a `virtio_net_hdr`. A socket that also received would have to give every
/// slot of its ring room for one.
fn sender(interface: u32) -> io::Result<OwnedFd> {
    let socket = sys::packet_socket()?;
    let fd = socket.as_fd();
    sys::set(fd, libc::PACKET_VNET_HDR, 1)?;
    // Not past queueing: on that way the kernel drops what it would have to cut itself (net/core/dev.c, direct_xmit).
    sys::bind(fd, interface, 0)?;
    Ok(socket)
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
        match &self.ring {
            Ring::Slots(ring) => ring.frame(index),
            Ring::Blocks(ring) => ring.frame(index),
        }
    }

    fn rx_release(&mut self) {
        match &mut self.ring {
            Ring::Slots(ring) => ring.release(),
            Ring::Blocks(ring) => ring.release(),
        }
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn tx_frame(&mut self, len: usize) -> Option<&mut [u8]> {
        self.outbox.frame(len, TxOffload::default())
    }

    fn offloads(&self) -> Offloads {
        self.outbox.offloads()
    }

    fn tx_frame_with(&mut self, len: usize, offload: TxOffload) -> Option<&mut [u8]> {
        self.outbox.frame(len, offload)
    }

    fn tx_queued(&self) -> usize {
        self.outbox.queued()
    }

    fn tx_burst(&mut self) -> usize {
        let mut taken = 0;
        while self.outbox.queued() > 0 {
            let batch = self.outbox.queued().min(sys::BATCH);
            let sent = match &self.sender {
                Some(sender) => {
                    let frames = (0..batch).map(|index| self.outbox.with_header(index));
                    sys::send(sender.as_fd(), frames)
                }
                None => {
                    let frames = (0..batch).map(|index| self.outbox.at(index));
                    sys::send(self.socket.as_fd(), frames)
                }
            };
            let sent = match sent {
                Ok(sent) => sent,
                Err(e) if sys::is_full(&e) => break,
                // It would not be taken later either: one that the kernel finds wrong, or a link that is cut.
                Err(_) => {
                    self.refused += 1;
                    1
                }
            };
            self.outbox.sent(sent);
            taken += sent;
        }
        taken
    }

    fn rx_dropped(&mut self) -> u64 {
        // The kernel's count starts again whenever it is read.
        self.dropped += sys::dropped(self.socket.as_fd()).unwrap_or(0);
        self.dropped
            + match &self.ring {
                Ring::Slots(ring) => ring.oversized(),
                Ring::Blocks(ring) => ring.oversized(),
            }
    }

    fn tx_dropped(&mut self) -> u64 {
        self.refused
    }

    fn check(&mut self) -> Result<(), DeviceError> {
        self.watch.check()
    }
}
