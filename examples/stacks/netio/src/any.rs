//! A device of any kind, opened by its words.
//!
//! In: words that were understood, and the stack's own address; out: one device per queue.

use crate::spec::{DeviceSpec, Kind};
use crate::{Device, OpenError, Packet, RxFrame, Tap};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};

/// A device of either kind.
#[derive(Debug)]
pub enum AnyDevice {
    /// Through a packet socket.
    Packet(Packet),
    /// Through a TAP.
    Tap(Tap),
}

/// Opens a device of one queue for the stack whose IPv4 address is `address`.
pub fn open(spec: &DeviceSpec, address: Ipv4Addr) -> Result<AnyDevice, OpenError> {
    match spec.kind {
        Kind::Packet => Packet::open(&spec.name).map(AnyDevice::Packet),
        Kind::Tap => Tap::open(&spec.name, address).map(AnyDevice::Tap),
    }
}

/// Opens a device with several queues, each to be polled by a thread of its own.
///
/// Unless `spec` says otherwise all frames of a flow come from one queue, chosen by the kernel's hash of addresses and
/// ports ([`Spread::Hash`](crate::Spread::Hash)); on a TAP, from the queue that last sent a frame of that flow. Any queue
/// may send any frame. Frames that have no ports, ARP above all, come from one queue only, whichever stack they are
/// for: who runs one stack per queue passes what it learns from them to the others.
pub fn open_queues(
    spec: &DeviceSpec,
    address: Ipv4Addr,
    queues: usize,
) -> Result<Vec<AnyDevice>, OpenError> {
    if queues == 1 {
        return Ok(vec![open(spec, address)?]);
    }
    if !(1..=MOST_QUEUES).contains(&queues) {
        return Err(OpenError::Queues {
            device: spec.to_string(),
            queues,
            most: MOST_QUEUES,
        });
    }
    fn any<D>(devices: Vec<D>, any: impl FnMut(D) -> AnyDevice) -> Vec<AnyDevice> {
        devices.into_iter().map(any).collect()
    }
    Ok(match spec.kind {
        Kind::Packet => any(
            Packet::open_queues(&spec.name, queues, spec.spread)?,
            AnyDevice::Packet,
        ),
        Kind::Tap => any(
            Tap::open_queues(&spec.name, address, queues)?,
            AnyDevice::Tap,
        ),
    })
}

/// Members of a fanout group, queues of a TAP: neither has more (linux/if_packet.h, drivers/net/tun.c).
const MOST_QUEUES: usize = 256;

macro_rules! either {
    ($any:expr, $device:ident => $call:expr) => {
        match $any {
            AnyDevice::Packet($device) => $call,
            AnyDevice::Tap($device) => $call,
        }
    };
}

/// Readable when there is something to receive: for stacks that sleep when they are idle.
impl AsFd for AnyDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        either!(self, device => device.as_fd())
    }
}

impl Device for AnyDevice {
    fn mac(&self) -> [u8; 6] {
        either!(self, device => device.mac())
    }

    fn mtu(&self) -> u16 {
        either!(self, device => device.mtu())
    }

    fn rx_burst(&mut self, max: usize) -> usize {
        either!(self, device => device.rx_burst(max))
    }

    fn rx_frame(&self, index: usize) -> RxFrame<'_> {
        either!(self, device => device.rx_frame(index))
    }

    fn rx_release(&mut self) {
        either!(self, device => device.rx_release());
    }

    fn tx_frame(&mut self, len: usize) -> Option<&mut [u8]> {
        either!(self, device => device.tx_frame(len))
    }

    fn tx_queued(&self) -> usize {
        either!(self, device => device.tx_queued())
    }

    fn tx_burst(&mut self) -> usize {
        either!(self, device => device.tx_burst())
    }

    fn rx_dropped(&mut self) -> u64 {
        either!(self, device => device.rx_dropped())
    }
}
