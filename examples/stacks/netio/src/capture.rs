//! A device whose frames are also written to a file, as tcpdump and Wireshark read them.
//!
//! In: any device, a path; out: a pcap file with nanoseconds (`draft-ietf-opsawg-pcap`) of what the stack received and
//! sent, in the order the stack did, each burst with one time. Faults lie behind it: what they lose on the way in is not
//! there, what they lose on the way out is. Sums and cuts left to the kernel are not done yet.

use crate::offload::{Offloads, TxOffload};
use crate::outbox::{ETHERNET, Outbox};
use crate::watch::DeviceError;
use crate::{Device, FaultCounts, RxFrame};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Frames that wait to be sent, as on the devices themselves.
const TX_FRAMES: usize = 1024;
/// What was written reaches the file within this time, if the device is polled.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// Any device, with a file of its frames.
#[derive(Debug)]
pub struct Capture<D> {
    device: D,
    outbox: Outbox,
    file: PcapFile,
}

impl<D: Device> Capture<D> {
    /// Writes `device`'s frames to a file of this path, which is made anew.
    pub fn new(device: D, path: &Path) -> io::Result<Capture<D>> {
        let largest = usize::from(device.mtu()) + ETHERNET;
        Ok(Capture {
            outbox: Outbox::with_offloads(TX_FRAMES, largest, device.offloads()),
            file: PcapFile::create(path)?,
            device,
        })
    }
}

impl<D: Device> Device for Capture<D> {
    fn mac(&self) -> [u8; 6] {
        self.device.mac()
    }

    fn mtu(&self) -> u16 {
        self.device.mtu()
    }

    fn rx_burst(&mut self, max: usize) -> usize {
        let held = self.device.rx_burst(max);
        if held == 0 {
            self.file.flush_if_due();
            return 0;
        }
        let now = SystemTime::now();
        for index in 0..held {
            self.file.write(now, self.device.rx_frame(index).bytes);
        }
        held
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.device.poll_fd()
    }

    fn rx_frame(&self, index: usize) -> RxFrame<'_> {
        self.device.rx_frame(index)
    }

    fn rx_release(&mut self) {
        self.device.rx_release();
    }

    fn tx_frame(&mut self, len: usize) -> Option<&mut [u8]> {
        self.outbox.frame(len, TxOffload::default())
    }

    fn offloads(&self) -> Offloads {
        self.device.offloads()
    }

    fn tx_frame_with(&mut self, len: usize, offload: TxOffload) -> Option<&mut [u8]> {
        self.outbox.frame(len, offload)
    }

    fn tx_queued(&self) -> usize {
        self.outbox.queued() + self.device.tx_queued()
    }

    fn tx_burst(&mut self) -> usize {
        let mut taken = 0;
        let now = SystemTime::now();
        while self.outbox.queued() > 0 {
            let (bytes, offload) = (self.outbox.at(0), self.outbox.offload(0));
            let Some(room) = self.device.tx_frame_with(bytes.len(), offload) else {
                match self.device.tx_burst() {
                    0 => return taken,
                    sent => taken += sent,
                }
                continue;
            };
            room.copy_from_slice(bytes);
            self.file.write(now, bytes);
            self.outbox.sent(1);
        }
        taken + self.device.tx_burst()
    }

    fn rx_dropped(&mut self) -> u64 {
        self.device.rx_dropped()
    }

    fn tx_dropped(&mut self) -> u64 {
        self.device.tx_dropped()
    }

    fn fault_counts(&self) -> Option<[FaultCounts; 2]> {
        self.device.fault_counts()
    }

    fn check(&mut self) -> Result<(), DeviceError> {
        self.file.check()?;
        self.device.check()
    }
}

/// The file.
#[derive(Debug)]
struct PcapFile {
    path: PathBuf,
    file: BufWriter<File>,
    flushed: Instant,
    failure: Option<io::Error>,
}

/// Version 2.4 with nanoseconds, frames of any length, Ethernet; in little-endian order.
const FILE_HEADER: [u8; 24] = [
    0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0,
];

impl PcapFile {
    fn create(path: &Path) -> io::Result<PcapFile> {
        let mut file = BufWriter::with_capacity(1 << 18, File::create(path)?);
        file.write_all(&FILE_HEADER)?;
        // At once, so that a disk that is full is found at the start.
        file.flush()?;
        Ok(PcapFile {
            path: path.to_path_buf(),
            file,
            flushed: Instant::now(),
            failure: None,
        })
    }

    /// Writes a frame; the first failure ends the file and is kept.
    fn write(&mut self, at: SystemTime, bytes: &[u8]) {
        if self.failure.is_some() {
            return;
        }
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let len = bytes.len() as u32;
        let mut header = [0; 16];
        let numbers = [since.as_secs() as u32, since.subsec_nanos(), len, len];
        for (field, number) in header.chunks_exact_mut(4).zip(numbers) {
            field.copy_from_slice(&number.to_le_bytes());
        }
        let written = self.file.write_all(&header);
        self.failure = written.and_then(|()| self.file.write_all(bytes)).err();
    }

    fn flush_if_due(&mut self) {
        if self.file.buffer().is_empty() || self.failure.is_some() {
            return;
        }
        if self.flushed.elapsed() >= FLUSH_EVERY {
            self.flushed = Instant::now();
            self.failure = self.file.flush().err();
        }
    }

    fn check(&self) -> Result<(), DeviceError> {
        match &self.failure {
            None => Ok(()),
            Some(failure) => Err(DeviceError::Other {
                what: format!("cannot write the capture file {}", self.path.display()),
                source: io::Error::new(failure.kind(), failure.to_string()),
            }),
        }
    }
}
