//! A port of DPDK's: `dpdk:net_tap0,iface=NAME` makes a TAP, `dpdk:net_af_packet0,iface=IF` uses an interface.
//!
//! In: a virtual device's name and arguments; out: a [`Device`] per queue, whose frames are lent from DPDK's own buffers.
//! DPDK is started at the first one: without huge pages, PCI devices, files and pinned threads, so that it runs beside
//! others and in a container. Frames above 64 a burst come with the next one. It refuses to know ports of real cards:
//! they need a machine to be tested on.

mod ffi;

use crate::outbox::ETHERNET;
use crate::watch::{DeviceError, Watch};
use crate::{Device, OpenError, RxFrame, tap};
use ffi::{Port, Queue};
use netlab::Interface;
use std::ffi::CString;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// One queue of a DPDK port.
#[derive(Debug)]
pub struct Dpdk {
    // Before the port it belongs to: it gives its buffers back.
    queue: Queue,
    port: Arc<Port>,
    watch: Option<Watch>,
    mac: [u8; 6],
    /// The first of several queues tells for all.
    counts: bool,
}

impl Dpdk {
    /// Makes the virtual device of this name, with so many queues. The host's end of a TAP gets the first address of the
    /// /24 that `address`, the stack's own, is in.
    pub fn open(
        name: &str,
        arguments: &str,
        address: Ipv4Addr,
        queues: usize,
    ) -> Result<Vec<Dpdk>, OpenError> {
        let failed = |source: io::Error| OpenError::Dpdk {
            device: name.to_string(),
            source,
        };
        let text = |text: &str| CString::new(text).map_err(|e| failed(e.into()));
        let is_tap = name.starts_with("net_tap");
        let host = is_tap.then(|| tap::host_end(address)).transpose()?;
        let count = u16::try_from(queues).map_err(|e| failed(io::Error::other(e)))?;
        let opened = Port::open(&text(name)?, &text(arguments)?, count);
        let (port, queues) = opened.map_err(failed)?;
        let interface = match port.interface() {
            0 => None,
            number => Some(Interface::numbered(number)?),
        };
        let mut mac = port.mac();
        if let (Some(interface), Some(host)) = (&interface, host) {
            tap::ready_host(interface, host)?;
            // The port tells the address of the host's end.
            mac = tap::other_end(mac);
        }
        let device = |(number, queue)| {
            Ok(Dpdk {
                queue,
                port: port.clone(),
                watch: interface.as_ref().map(Watch::on).transpose()?,
                mac,
                counts: number == 0,
            })
        };
        queues.into_iter().enumerate().map(device).collect()
    }
}

impl Device for Dpdk {
    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn mtu(&self) -> u16 {
        self.port.mtu()
    }

    fn rx_burst(&mut self, max: usize) -> usize {
        self.queue.receive(max)
    }

    fn rx_frame(&self, index: usize) -> RxFrame<'_> {
        let (bytes, checksum_ok) = self.queue.frame(index);
        RxFrame { bytes, checksum_ok }
    }

    fn rx_release(&mut self) {
        self.queue.release();
    }

    fn tx_frame(&mut self, len: usize) -> Option<&mut [u8]> {
        let largest = usize::from(self.port.mtu()) + ETHERNET;
        if !(ETHERNET..=largest).contains(&len) {
            return None;
        }
        self.queue.room(len as u16)
    }

    fn tx_queued(&self) -> usize {
        self.queue.queued()
    }

    fn tx_burst(&mut self) -> usize {
        self.queue.send()
    }

    fn rx_dropped(&mut self) -> u64 {
        let port = if self.counts { self.port.dropped() } else { 0 };
        port + self.queue.broken()
    }

    fn check(&mut self) -> Result<(), DeviceError> {
        self.watch.as_ref().map_or(Ok(()), Watch::check)
    }
}
