//! The engine's border to the device: what comes with a received frame, where frames to send are written.
//!
//! In: a frame's length and hints; out: the buffer it is built in. It refuses to know queues, batching and devices.

use bypassprof_probe::Burst;

/// What the device knew about a received frame.
#[derive(Clone, Copy, Debug)]
pub struct FrameMeta {
    /// The device has verified the checksums.
    pub checksum_ok: bool,
    /// Running number of the frame on its queue, for `tcp_in`.
    pub frame_no: u32,
    /// The burst it came in, whose stamp its events reuse.
    pub burst: Burst,
}

/// What the device has to do with a frame to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxHints {
    /// `Some((start, offset))`: the device sums from byte `start` of the frame to its end and stores the checksum `offset`
    /// bytes after `start`; the pseudo header's sum is already there.
    pub checksum: Option<(u16, u16)>,
    /// The frame holds one long TCP segment, which the device cuts (segmentation offload). `checksum` is set then, too. Only
    /// sinks whose [`FrameSink::largest_cut`] says so are asked.
    pub cut: Option<Cut>,
}

/// How a long segment is cut: every piece gets the headers, with lengths, sequence number, IP identification, flags and
/// checksums of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Bytes in front of the payload, from the Ethernet header on.
    pub header: u16,
    /// Bytes of payload in each piece but the last.
    pub payload: u16,
}

/// A frame to be filled.
pub struct TxFrame<'a> {
    /// Exactly as long as asked.
    pub bytes: &'a mut [u8],
    /// Running number of the frame on its queue, for `tcp_out`.
    pub number: u32,
}

/// Takes frames to send. A frame is queued when [`FrameSink::frame`] returns it; the engine fills it before it asks for
/// the next one.
pub trait FrameSink {
    /// Room for one frame of `len` bytes; `None` when the queue is full, and the engine tries again later.
    fn frame(&mut self, len: usize, hints: TxHints) -> Option<TxFrame<'_>>;

    /// Most bytes of a frame that the device cuts into segments by itself (see [`TxHints::cut`]), Ethernet header
    /// included; 0: it cuts none.
    fn largest_cut(&self) -> usize {
        0
    }
}

/// Keeps the frames: for tests, and for stacks that hand them on later.
#[derive(Debug, Default)]
pub struct Frames {
    /// What was sent, oldest first.
    pub frames: Vec<Vec<u8>>,
    sent: u32,
}

impl FrameSink for Frames {
    fn frame(&mut self, len: usize, _hints: TxHints) -> Option<TxFrame<'_>> {
        self.frames.push(vec![0; len]);
        let number = self.sent;
        self.sent = self.sent.wrapping_add(1);
        let bytes = self.frames.last_mut()?;
        Some(TxFrame { bytes, number })
    }
}
