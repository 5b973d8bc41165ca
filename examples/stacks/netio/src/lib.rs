//! Packet I/O in bursts: Ethernet frames in and out of a device, with no opinion about what is in them.
//!
//! In: a [`Device`] made from `packet:IF`, `tap:NAME` or another kind's own words; out: frames that were received, room
//! for frames to send. Frames are lent, not copied: what [`Device::rx_burst`] found stays where the kernel put it until
//! [`Device::rx_release`]. It refuses to know protocols, probes and threads: one device is one queue of one thread.

mod any;
mod error;
mod outbox;
mod packet;
mod rxring;
mod spec;
mod sys;
mod tap;

pub use any::{AnyDevice, open, open_queues};
pub use error::OpenError;
pub use packet::Packet;
pub use spec::{DeviceSpec, Kind, SpecError, Spread};
pub use tap::Tap;

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

    /// Room for one frame of `len` bytes, which is queued by this call and must be filled before the next one; `None`
    /// when the queue is full, or `len` is more than the link carries or less than an Ethernet header.
    fn tx_frame(&mut self, len: usize) -> Option<&mut [u8]>;

    /// Frames queued and not handed over yet.
    fn tx_queued(&self) -> usize;

    /// Hands queued frames over, oldest first; how many the device took. The others stay queued.
    fn tx_burst(&mut self) -> usize;

    /// Frames that the device received and could not keep, since it was opened.
    fn rx_dropped(&mut self) -> u64;
}

/// A frame that was received.
#[derive(Clone, Copy, Debug)]
pub struct RxFrame<'a> {
    /// From the destination's Ethernet address to the end of the payload.
    pub bytes: &'a [u8],
    /// Someone before us has verified the checksums, or they were never made (a frame that did not leave this machine).
    pub checksum_ok: bool,
}
