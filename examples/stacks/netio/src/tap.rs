//! A TAP interface for a first try: needs no second machine and no namespace, and costs a system call per frame.
//!
//! The host's kernel has the other end, with an address in the stack's network, so that its programs reach the stack.
//! With offloads every frame has a `virtio_net_hdr` in front of it, and one of 64 KiB crosses in one system call.

use crate::offload::{Offloads, TxOffload};
use crate::outbox::{ETHERNET, Outbox};
use crate::watch::{DeviceError, Watch};
use crate::{Device, Offload, OpenError, RxFrame, sys, vnet};
use netlab::Interface;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

/// Frames held at once.
const RX_FRAMES: usize = 64;
const TX_FRAMES: usize = 1024;
/// All networks of a TAP are this long.
const PREFIX: u8 = 24;

/// The stack's end of a TAP interface, which goes away with it if it was made by it.
#[derive(Debug)]
pub struct Tap {
    device: File,
    watch: Watch,
    mac: [u8; 6],
    mtu: u16,
    /// `RX_FRAMES` pieces of `largest` bytes.
    memory: Box<[u8]>,
    largest: usize,
    /// Bytes in front of each frame.
    header: usize,
    held: Vec<usize>,
    outbox: Outbox,
    /// What the interface had dropped when it was opened; the first of several queues tells for all.
    dropped_before: Option<u64>,
    /// Frames that the kernel did not want.
    refused: u64,
}

impl Tap {
    /// Makes the TAP of this name (`%d` in it becomes a number), or takes one that waits, and gives the host's end the
    /// first address of the /24 that `address`, the stack's own, is in.
    pub fn open(name: &str, address: Ipv4Addr, offload: Offload) -> Result<Tap, OpenError> {
        let host = host_end(address)?;
        let (device, name) = attach(name, 0, offload)?;
        let interface = host_side(&name, host)?;
        Tap::on(device, &interface, offload, Some(host_drops(&name)))
    }

    /// The same with several queues: the host sends a flow to the queue that last sent a frame of it, or else where the
    /// kernel's hash of the flow says.
    pub fn open_queues(
        name: &str,
        address: Ipv4Addr,
        offload: Offload,
        queues: usize,
    ) -> Result<Vec<Tap>, OpenError> {
        let host = host_end(address)?;
        let mut devices = Vec::with_capacity(queues);
        let mut name = name.to_string();
        for _ in 0..queues {
            let (device, given) = attach(&name, libc::IFF_MULTI_QUEUE, offload)?;
            name = given;
            devices.push(device);
        }
        let interface = host_side(&name, host)?;
        let mut counts = Some(host_drops(&name));
        let tap = |device| Tap::on(device, &interface, offload, counts.take());
        devices.into_iter().map(tap).collect()
    }

    fn on(
        device: File,
        interface: &Interface,
        offload: Offload,
        dropped_before: Option<u64>,
    ) -> Result<Tap, OpenError> {
        let mtu = interface.mtu()?.min(u32::from(u16::MAX)) as u16;
        let frame = usize::from(mtu) + ETHERNET;
        let (header, offloads) = match offload {
            Offload::None => (0, Offloads::default()),
            Offload::Tx | Offload::Both => (vnet::LEN, Offloads::KERNEL),
        };
        let largest = header
            + match offload {
                Offload::Both => Offloads::LONGEST,
                Offload::None | Offload::Tx => frame,
            };
        let mac = other_end(interface.mac()?);
        Ok(Tap {
            device,
            dropped_before,
            refused: 0,
            watch: Watch::on(interface)?,
            mac,
            mtu,
            memory: vec![0; RX_FRAMES * largest].into(),
            largest,
            header,
            held: Vec::with_capacity(RX_FRAMES),
            outbox: Outbox::with_offloads(TX_FRAMES, frame, offloads),
        })
    }

    /// The interface's name on the host.
    pub fn name(&self) -> &str {
        self.watch.name()
    }
}

/// Opens the TAP of this name; the name that it got.
fn attach(name: &str, flags: libc::c_int, offload: Offload) -> Result<(File, String), OpenError> {
    let failed = |source: io::Error| OpenError::Tap {
        name: name.to_string(),
        source,
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let device = options.custom_flags(libc::O_NONBLOCK).open("/dev/net/tun");
    let device = device.map_err(failed)?;
    let header = match offload {
        Offload::None => 0,
        Offload::Tx | Offload::Both => libc::IFF_VNET_HDR,
    };
    let name = sys::attach_tap(&device, name, flags | header).map_err(failed)?;
    sys::set_tap_offloads(&device, offload == Offload::Both).map_err(failed)?;
    Ok((device, name))
}

/// Readies the host's end.
fn host_side(name: &str, host: Ipv4Addr) -> Result<Interface, OpenError> {
    let interface = Interface::named(name)?;
    ready_host(&interface, host)?;
    Ok(interface)
}

/// Gives the host's end its address and switches it on.
pub(crate) fn ready_host(interface: &Interface, host: Ipv4Addr) -> Result<(), OpenError> {
    interface.ipv6_off()?;
    interface.set_address(host, PREFIX)?;
    interface.up()?;
    Ok(())
}

/// The interface's own address is the host's; the other end of the wire needs one that differs, made here too.
pub(crate) fn other_end(mut mac: [u8; 6]) -> [u8; 6] {
    mac[0] = (mac[0] | 0x02) & !0x01;
    mac[5] ^= 1;
    mac
}

/// The first address of the network that `address` is in.
pub(crate) fn host_end(address: Ipv4Addr) -> Result<Ipv4Addr, OpenError> {
    let [a, b, c, d] = address.octets();
    match d {
        0 | 1 | 255 => Err(OpenError::HostsAddress { address }),
        _ => Ok([a, b, c, 1].into()),
    }
}

/// Frames that the host could not hand to a TAP, by its own count.
fn host_drops(name: &str) -> u64 {
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    sent_drops(&table, name).unwrap_or(0)
}

/// The column of drops on sending, the fourth of the second eight.
fn sent_drops(table: &str, name: &str) -> Option<u64> {
    let mut rows = table.lines().filter_map(|line| line.split_once(':'));
    let (_, columns) = rows.find(|(interface, _)| interface.trim() == name)?;
    columns.split_whitespace().nth(11)?.parse().ok()
}

impl Device for Tap {
    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn mtu(&self) -> u16 {
        self.mtu
    }

    fn rx_burst(&mut self, max: usize) -> usize {
        self.held.clear();
        let pieces = self.memory.chunks_exact_mut(self.largest);
        for piece in pieces.take(max) {
            // Nothing there, or an interface that has been switched off: the next burst will see.
            match self.device.read(piece) {
                Ok(len) if len > self.header => self.held.push(len),
                _ => break,
            }
        }
        self.held.len()
    }

    fn rx_frame(&self, index: usize) -> RxFrame<'_> {
        let piece = &self.memory[index * self.largest..][..self.held[index]];
        let (header, bytes) = piece.split_at(self.header);
        RxFrame {
            bytes,
            checksum_ok: !header.is_empty() && vnet::checksum_ok(header),
        }
    }

    fn rx_release(&mut self) {
        self.held.clear();
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.device.as_fd())
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
        while taken < self.outbox.queued() {
            let bytes = match self.header {
                0 => self.outbox.at(taken),
                _ => self.outbox.with_header(taken),
            };
            match self.device.write(bytes) {
                Err(e) if sys::is_full(&e) => break,
                // It would not be taken later either: one that the kernel finds wrong, or a link that is cut.
                Err(_) => self.refused += 1,
                Ok(_) => {}
            }
            taken += 1;
        }
        self.outbox.sent(taken);
        taken
    }

    fn rx_dropped(&mut self) -> u64 {
        match self.dropped_before {
            Some(before) => host_drops(self.name()).saturating_sub(before),
            None => 0,
        }
    }

    fn tx_dropped(&mut self) -> u64 {
        self.refused
    }

    fn check(&mut self) -> Result<(), DeviceError> {
        self.watch.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The host gets the first address of the network; the stack cannot have that one, nor the network's own two.
    #[test]
    fn host_end_is_the_first_of_the_network() {
        let host = host_end([10, 1, 2, 77].into()).unwrap();
        assert_eq!(host, Ipv4Addr::from([10, 1, 2, 1]));
        for last in [0, 1, 255] {
            let text = host_end([10, 1, 2, last].into()).unwrap_err().to_string();
            assert!(text.contains(&format!("10.1.2.{last}")), "{text}");
        }
    }

    /// Drops are found by the exact name, in the column for sending.
    #[test]
    fn drops_are_read_from_the_right_column() {
        let table = "Inter-| Receive | Transmit\n face |bytes |bytes\n  tap10: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n \
            tap1: 0 0 0 0 0 0 0 0 0 0 0 99 0 0 0 0\n";
        assert_eq!(sent_drops(table, "tap1"), Some(99));
        assert_eq!(sent_drops(table, "tap10"), Some(12));
        assert_eq!(sent_drops(table, "tap"), None);
    }
}
