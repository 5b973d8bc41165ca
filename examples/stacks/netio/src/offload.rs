//! Work that a frame to send leaves to the device: its checksum, its cutting into segments.
//!
//! It refuses to know how a device does it: most of those here hand it to the kernel, which passes it on to the card or
//! to the receiver of a virtual link, where sums of frames that never leave the machine are never made at all.

/// What a device does for frames to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// It sums TCP and UDP payloads.
    pub checksum: bool,
    /// It cuts TCP frames of up to so many bytes, from the Ethernet header on.
    pub segmentation: Option<usize>,
}

impl Offloads {
    /// The longest frame that the kernel cuts: an IPv4 packet of 65,535 bytes behind an Ethernet header.
    pub(crate) const LONGEST: usize = 65_535 + 14;
    /// All that the kernel does for a frame.
    pub(crate) const KERNEL: Offloads = Offloads {
        checksum: true,
        segmentation: Some(Offloads::LONGEST),
    };

    /// Whether it does anything.
    pub fn any(self) -> bool {
        self != Offloads::default()
    }
}

/// What is left to the device with one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxOffload {
    /// `Some((start, offset))`: sum from byte `start` to the end and store the checksum `offset` bytes after `start`; the
    /// pseudo header's sum is there already.
    pub checksum: Option<(u16, u16)>,
    /// Cut it; needs `checksum`.
    pub segment: Option<Segment>,
}

/// How a frame that holds one long TCP segment over IPv4 is cut: every piece gets its headers, with lengths, sequence
/// numbers, IP identification and flags brought forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Bytes in front of the payload, from the Ethernet header on.
    pub header: u16,
    /// Bytes of payload in each piece but the last.
    pub payload: u16,
}

impl TxOffload {
    /// Whether all that it names lies inside a frame of `len` bytes.
    pub fn fits(self, len: usize) -> bool {
        let sum = self
            .checksum
            .is_none_or(|(start, offset)| usize::from(start) + usize::from(offset) + 2 <= len);
        let cut = self.segment.is_none_or(|segment| {
            self.checksum.is_some() && segment.payload > 0 && usize::from(segment.header) < len
        });
        sum && cut
    }
}
