//! A device of any kind, opened by its words.
//!
//! In: words that were understood, and the stack's own address; out: one device per queue.

#[cfg(has_dpdk)]
use crate::Dpdk;
use crate::spec::{DeviceSpec, Kind};
use crate::{
    Capture, Device, DeviceError, FaultCounts, Faulty, Offloads, OpenError, Packet, PacketOptions,
    RxFrame, Tap, TxOffload, Xdp,
};
use std::fmt;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

/// A device of any kind.
pub enum AnyDevice {
    /// Through a packet socket.
    Packet(Packet),
    /// Through an AF_XDP socket.
    Xdp(Xdp),
    /// Through a port of DPDK's.
    #[cfg(has_dpdk)]
    Dpdk(Dpdk),
    /// Through a TAP.
    Tap(Tap),
    /// One of the others with something in front of it.
    Wrapped(Box<dyn Device + Send>),
}

impl fmt::Debug for AnyDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AnyDevice::Packet(device) => device.fmt(f),
            AnyDevice::Xdp(device) => device.fmt(f),
            #[cfg(has_dpdk)]
            AnyDevice::Dpdk(device) => device.fmt(f),
            AnyDevice::Tap(device) => device.fmt(f),
            AnyDevice::Wrapped(_) => f.write_str("Wrapped"),
        }
    }
}

/// Opens a device of one queue for the stack whose IPv4 address is `address`.
pub fn open(spec: &DeviceSpec, address: Ipv4Addr) -> Result<AnyDevice, OpenError> {
    let mut devices = open_queues(spec, address, 1)?;
    devices.pop().ok_or_else(|| OpenError::Queues {
        device: spec.to_string(),
        queues: 0,
        most: MOST_QUEUES,
    })
}

/// Puts in front of a queue what its words ask for.
fn wrap(device: AnyDevice, spec: &DeviceSpec, queue: usize) -> Result<AnyDevice, OpenError> {
    let device = match spec.faults.are_none() {
        true => device,
        false => AnyDevice::Wrapped(Box::new(Faulty::new(device, spec.faults, queue as u64))),
    };
    let Some(path) = &spec.pcap else {
        return Ok(device);
    };
    let path = match queue {
        0 => path.clone(),
        _ => numbered(path, queue),
    };
    match Capture::new(device, &path) {
        Ok(capture) => Ok(AnyDevice::Wrapped(Box::new(capture))),
        Err(source) => Err(OpenError::Capture { path, source }),
    }
}

/// `a.pcap` becomes `a.1.pcap`.
fn numbered(path: &Path, number: usize) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_os_string();
    name.push(format!(".{number}"));
    if let Some(ending) = path.extension() {
        name.push(".");
        name.push(ending);
    }
    path.with_file_name(name)
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
    let options = PacketOptions {
        offload: spec.offload,
        spread: spec.spread,
        bulk: spec.bulk,
    };
    let devices: Vec<AnyDevice> = match spec.kind {
        Kind::Packet if queues == 1 => {
            vec![AnyDevice::Packet(Packet::open(&spec.name, options)?)]
        }
        Kind::Packet => any(
            Packet::open_queues(&spec.name, options, queues)?,
            AnyDevice::Packet,
        ),
        Kind::Xdp => any(Xdp::open_queues(&spec.name, queues)?, AnyDevice::Xdp),
        #[cfg(has_dpdk)]
        Kind::Dpdk => any(
            Dpdk::open(&spec.name, &spec.arguments, address, queues)?,
            AnyDevice::Dpdk,
        ),
        #[cfg(not(has_dpdk))]
        Kind::Dpdk => {
            return Err(OpenError::NoDpdk {
                device: spec.to_string(),
            });
        }
        Kind::Tap if queues == 1 => {
            vec![AnyDevice::Tap(Tap::open(
                &spec.name,
                address,
                spec.offload,
            )?)]
        }
        Kind::Tap => any(
            Tap::open_queues(&spec.name, address, spec.offload, queues)?,
            AnyDevice::Tap,
        ),
    };
    let devices = devices.into_iter().enumerate();
    devices
        .map(|(queue, device)| wrap(device, spec, queue))
        .collect()
}

/// Members of a fanout group, queues of a TAP: neither has more (linux/if_packet.h, drivers/net/tun.c).
const MOST_QUEUES: usize = 256;

macro_rules! either {
    ($any:expr, $device:ident => $call:expr) => {
        match $any {
            AnyDevice::Packet($device) => $call,
            AnyDevice::Xdp($device) => $call,
            #[cfg(has_dpdk)]
            AnyDevice::Dpdk($device) => $call,
            AnyDevice::Tap($device) => $call,
            AnyDevice::Wrapped($device) => $call,
        }
    };
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

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        either!(self, device => device.poll_fd())
    }

    fn tx_frame(&mut self, len: usize) -> Option<&mut [u8]> {
        either!(self, device => device.tx_frame(len))
    }

    fn offloads(&self) -> Offloads {
        either!(self, device => device.offloads())
    }

    fn tx_frame_with(&mut self, len: usize, offload: TxOffload) -> Option<&mut [u8]> {
        either!(self, device => device.tx_frame_with(len, offload))
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

    fn tx_dropped(&mut self) -> u64 {
        either!(self, device => device.tx_dropped())
    }

    fn fault_counts(&self) -> Option<[FaultCounts; 2]> {
        either!(self, device => device.fault_counts())
    }

    fn check(&mut self) -> Result<(), DeviceError> {
        either!(self, device => device.check())
    }
}
