//! A device behind a bad link: any other one, with faults in both directions.
//!
//! Frames are copied on their way in and out, since they may have to wait. Those sent late leave with later calls:
//! a stack that polls is enough. Nothing is left to the device: what it sums or cuts after us would be right again.

use crate::faults::Faults;
use crate::impair::{FaultCounts, Impairment, Underway};
use crate::offload::TxOffload;
use crate::outbox::{ETHERNET, Outbox};
use crate::watch::DeviceError;
use crate::{Device, RxFrame};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// Frames that wait to be sent, as on the devices themselves.
const TX_FRAMES: usize = 1024;

/// Any device, with faults.
#[derive(Debug)]
pub struct Faulty<D> {
    device: D,
    start: Instant,
    incoming: Impairment,
    outgoing: Impairment,
    held: Vec<Underway>,
    outbox: Outbox,
}

impl<D: Device> Faulty<D> {
    /// Puts `device` behind a link with these faults; queues of one device have different numbers.
    pub fn new(device: D, faults: Faults, queue: u64) -> Faulty<D> {
        let largest = usize::from(device.mtu()) + ETHERNET;
        Faulty {
            start: Instant::now(),
            incoming: Impairment::new(faults, queue * 2),
            outgoing: Impairment::new(faults, queue * 2 + 1),
            held: Vec::new(),
            outbox: Outbox::new(TX_FRAMES, largest),
            device,
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Hands the device what has crossed the link.
    fn send(&mut self, now: Duration) {
        while let Some(bytes) = self.outgoing.peek(now) {
            let Some(room) = self.device.tx_frame(bytes.len()) else {
                if self.device.tx_burst() == 0 {
                    return;
                }
                continue;
            };
            room.copy_from_slice(bytes);
            if let Some(frame) = self.outgoing.pop(now) {
                self.outgoing.reuse(frame);
            }
        }
        if self.device.tx_queued() > 0 {
            self.device.tx_burst();
        }
    }
}

impl<D: Device> Device for Faulty<D> {
    fn mac(&self) -> [u8; 6] {
        self.device.mac()
    }

    fn mtu(&self) -> u16 {
        self.device.mtu()
    }

    fn rx_burst(&mut self, max: usize) -> usize {
        self.rx_release();
        let now = self.now();
        self.send(now);
        let received = self.device.rx_burst(max);
        for index in 0..received {
            let frame = self.device.rx_frame(index);
            self.incoming.push(now, frame.bytes, frame.checksum_ok);
        }
        self.device.rx_release();
        while self.held.len() < max
            && let Some(frame) = self.incoming.pop(now)
        {
            self.held.push(frame);
        }
        self.held.len()
    }

    fn rx_frame(&self, index: usize) -> RxFrame<'_> {
        let frame = &self.held[index];
        RxFrame {
            bytes: &frame.bytes,
            checksum_ok: frame.checksum_ok,
        }
    }

    fn rx_release(&mut self) {
        for frame in self.held.drain(..) {
            self.incoming.reuse(frame);
        }
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.device.poll_fd()
    }

    fn tx_frame(&mut self, len: usize) -> Option<&mut [u8]> {
        self.outbox.frame(len, TxOffload::default())
    }

    fn tx_queued(&self) -> usize {
        self.outbox.queued()
    }

    fn tx_burst(&mut self) -> usize {
        let now = self.now();
        let taken = self.outbox.queued();
        for index in 0..taken {
            self.outgoing.push(now, self.outbox.at(index), false);
        }
        self.outbox.sent(taken);
        self.send(now);
        taken
    }

    fn rx_dropped(&mut self) -> u64 {
        self.device.rx_dropped()
    }

    fn tx_dropped(&mut self) -> u64 {
        self.device.tx_dropped()
    }

    fn fault_counts(&self) -> Option<[FaultCounts; 2]> {
        Some([self.incoming.counts(), self.outgoing.counts()])
    }

    fn check(&mut self) -> Result<(), DeviceError> {
        self.device.check()
    }
}
