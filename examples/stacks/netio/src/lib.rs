//! Packet I/O in bursts: Ethernet frames in and out of a device, with no opinion about what is in them.
//!
//! In: a device's words ([`DeviceSpec`]): `packet:IF`, `xdp:IF`, `tap:NAME`, `dpdk:VDEV`, with options; out: frames that
//! were received, room for frames to send. Frames are lent, not copied: what [`Device::rx_burst`] found stays where the
//! kernel put it until [`Device::rx_release`]. It refuses to know protocols, probes and threads: one device is one queue
//! of one thread.

mod any;
mod blockring;
mod capture;
mod checksum;
#[cfg(has_dpdk)]
mod dpdk;
mod error;
mod faults;
mod faulty;
mod impair;
mod offload;
mod outbox;
mod packet;
mod rxring;
mod spec;
mod sys;
mod tap;
mod vnet;
mod watch;
mod xdp;

pub use any::{AnyDevice, open, open_queues};
pub use capture::Capture;
#[cfg(has_dpdk)]
pub use dpdk::Dpdk;
pub use error::OpenError;
pub use faults::{Chance, Faults};
pub use faulty::Faulty;
pub use impair::FaultCounts;
pub use offload::{Offloads, Segment, TxOffload};
pub use packet::{Packet, PacketOptions};
pub use spec::{DeviceSpec, Kind, Offload, SpecError, Spread};
pub use tap::Tap;
pub use watch::DeviceError;
pub use xdp::Xdp;

use std::os::fd::BorrowedFd;

/// One queue of a network device, polled by one thread. Nothing here blocks.
pub trait Device {
    /// The Ethernet address that a stack on this device should use.
    fn mac(&self) -> [u8; 6];

    /// Largest IPv4 packet the link carries.
    fn mtu(&self) -> u16;

    /// Looks for received frames and holds at most `max` of them; how many there are. Every frame held before must have
    /// been released.
    fn rx_burst(&mut self, max: usize) -> usize;

    /// The frame `index` of those held, from 0.
    fn rx_frame(&self, index: usize) -> RxFrame<'_>;

    /// Gives all frames held back to the device.
    fn rx_release(&mut self);

    /// Where poll(2) tells that frames have come; `None` for a device that has no such place.
    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Room for one frame of `len` bytes, which is queued by this call and must be filled before the next one; `None`
    /// when the queue is full, or `len` is more than the link carries or less than an Ethernet header.
    fn tx_frame(&mut self, len: usize) -> Option<&mut [u8]>;

    /// What may be left to the device with frames to send.
    fn offloads(&self) -> Offloads {
        Offloads::default()
    }

    /// As [`Device::tx_frame`], with work left to the device; `None` also where it does not do such work. A frame that is
    /// to be cut may be longer than the link carries.
    fn tx_frame_with(&mut self, len: usize, offload: TxOffload) -> Option<&mut [u8]> {
        match offload == TxOffload::default() {
            true => self.tx_frame(len),
            false => None,
        }
    }

    /// Frames queued and not handed over yet.
    fn tx_queued(&self) -> usize;

    /// Hands queued frames over, oldest first; how many the device took. The others stay queued. A frame that the device
    /// will never carry, because of what it is or because the link was cut, is taken and counted
    /// ([`Device::tx_dropped`]), so that no stack waits for it.
    fn tx_burst(&mut self) -> usize;

    /// Frames that the device received and could not keep, since it was opened.
    fn rx_dropped(&mut self) -> u64;

    /// Frames that the device took and did not send.
    fn tx_dropped(&mut self) -> u64 {
        0
    }

    /// What was done to received frames and to sent ones on purpose, where faults were asked for.
    fn fault_counts(&self) -> Option<[FaultCounts; 2]> {
        None
    }

    /// Whether the device still can carry frames. Polling does not tell: a link that was cut looks like one that is
    /// silent. Costs a system call or two, so a stack asks a few times a second.
    fn check(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
}

/// A frame that was received.
#[derive(Clone, Copy, Debug)]
pub struct RxFrame<'a> {
    /// From the destination's Ethernet address to the end of the payload. Longer than the link's MTU only on a device that
    /// was opened to take frames that are not cut (`offload=both`).
    pub bytes: &'a [u8],
    /// Someone before us has verified the checksums, or they were never made (a frame that did not leave this machine).
    pub checksum_ok: bool,
}
