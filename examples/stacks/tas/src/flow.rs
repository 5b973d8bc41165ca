//! The fast path's record of a flow, and what a segment or a bump does to it.
//!
//! In: segments whose headers are sound, bumps that an application wrote; out: what changed. It holds TAS's fields:
//! room and position in the receive ring, one interval out of order, the peer's room, data written, sent and
//! acknowledged, counts for the slow path. It refuses to send, to keep time and to know queues.

mod receive;
mod send;

use crate::clock::timestamp;
use crate::entry::{FlowId, Opaque};
use crate::shm::{ByteRing, Region};
use bypassprof_probe::Flow as Label;
use stack_tcp::seq::Seq;
use stack_tcp::wire::tcp::Options;
use std::sync::Arc;

/// Duplicate acknowledgements that show a loss.
const DUPLICATES: u8 = 3;

/// Four numbers that name a connection to our address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Key {
    /// The peer's address.
    pub peer: u32,
    /// Its port.
    pub peer_port: u16,
    /// Our port.
    pub port: u16,
}

/// What a flow starts with.
#[derive(Clone, Debug)]
pub struct Start {
    /// Who.
    pub key: Key,
    /// Its label in events.
    pub label: Label,
    /// The peer's Ethernet address.
    pub mac: [u8; 6],
    /// The fast-path core that serves it.
    pub core: u8,
    /// The application's context.
    pub context: u8,
    /// The application's name for it.
    pub opaque: Opaque,
    /// The context's memory.
    pub region: Arc<Region>,
    /// Bytes received.
    pub rx: ByteRing,
    /// Bytes to send.
    pub tx: ByteRing,
    /// First byte that will come.
    pub rx_next: Seq,
    /// First byte that will be sent.
    pub tx_next: Seq,
    /// The peer's window.
    pub window: u32,
    /// Its scale.
    pub scale: u8,
    /// The peer's clock; none where it keeps no timestamps, and every packet takes the slow path.
    pub peer_clock: Option<u32>,
    /// Largest payload of a segment.
    pub mss: u32,
    /// Bytes per second; 0: no limit.
    pub rate: u64,
}

/// A place for a flow; `open` tells whether there is one.
#[derive(Debug, Default)]
pub struct Flow {
    /// There is a flow and its peer has not been given up.
    pub open: bool,
    /// Which of those that had the place.
    pub generation: u16,
    /// See [`Start`].
    pub key: Key,
    /// See [`Start`].
    pub label: Label,
    /// See [`Start`].
    pub mac: [u8; 6],
    /// See [`Start`].
    pub core: u8,
    /// See [`Start`].
    pub context: u8,
    /// See [`Start`].
    pub opaque: Opaque,
    region: Option<Arc<Region>>,
    rx: ByteRing,
    tx: ByteRing,
    /// Every packet takes the way over the slow path.
    pub parked: bool,
    /// The application is through with it.
    pub app_closed: bool,

    /// Room in the receive ring, from `rx_next_seq` on.
    pub rx_avail: u32,
    rx_next_pos: u32,
    /// Next byte expected.
    pub rx_next_seq: Seq,
    rx_ooo_start: Seq,
    rx_ooo_len: u32,
    /// The peer's FIN came.
    pub rx_fin: bool,
    /// Window told last.
    pub rx_told: u32,

    /// The peer's window.
    pub rx_remote_avail: u32,
    remote_scale: u8,
    rx_dupack_cnt: u8,

    /// Bytes written and not sent.
    pub tx_avail: u32,
    /// Bytes sent and not acknowledged.
    pub tx_sent: u32,
    tx_next_pos: u32,
    /// Next byte to send.
    pub tx_next_seq: Seq,
    /// Highest number ever sent, FIN counted.
    tx_max_seq: Seq,
    /// Before this is acknowledged, duplicates show nothing new.
    tx_recover: Seq,
    /// Both sides keep timestamps.
    timestamps: bool,
    /// The peer's clock as it came last, to be echoed.
    pub tx_next_ts: u32,
    /// Nothing more will be written.
    pub tx_done: bool,
    /// FIN was sent.
    pub tx_fin_sent: bool,
    /// FIN was acknowledged.
    pub tx_fin_acked: bool,
    /// Largest payload of a segment.
    pub mss: u32,

    /// Rewinds since the slow path looked last.
    pub cnt_tx_drops: u32,
    /// Segments received since the slow path looked last.
    pub cnt_rx_segments: u32,
    /// Acknowledgements of new data since the slow path looked last.
    pub cnt_rx_acks: u32,
    /// Bytes acknowledged since the slow path looked last.
    pub cnt_rx_ack_bytes: u64,
    /// Of those, bytes that arrived with a mark of congestion.
    pub cnt_rx_ecn_bytes: u64,
    /// Bytes per second; 0: no limit.
    pub tx_rate: u64,
    /// Smoothed round-trip time in ns; 0: not known.
    pub rtt_est: u64,
    timed: Option<(Seq, u64)>,
}

/// What a segment did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Something has to be acknowledged.
    pub ack: bool,
    /// Bytes that can be read now.
    pub rx_bump: u32,
    /// Bytes that were acknowledged.
    pub tx_bump: u32,
    /// The peer sends no more, from now on.
    pub fin: bool,
    /// There may be something to send that could not be sent before.
    pub send: bool,
    /// A loss was seen: all that was not acknowledged will be sent again.
    pub rewound: bool,
    /// Both sides have closed.
    pub finished: bool,
    /// The segment is from another time and was not looked at further.
    pub stale: bool,
}

/// What a segment to send looks like; its payload is still in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// First byte's number.
    pub seq: Seq,
    /// Payload bytes.
    pub len: u32,
    /// FIN goes with it.
    pub fin: bool,
    /// It was sent before.
    pub again: bool,
    /// Where the payload is.
    pos: u32,
}

/// Why no more is sent than is: the codes of `tcp_out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Nothing: more follows at once.
    None = 0,
    /// All that was written is sent.
    App = 1,
    /// The peer's window is full.
    Peer = 3,
    /// The rate.
    Pace = 5,
}

/// An application's bump that cannot be: it returns more than it got, or writes more than there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadBump;

impl Flow {
    /// Puts a flow into its place.
    pub fn open(&mut self, start: Start) {
        let rx_avail = start.rx.bytes();
        *self = Flow {
            open: true,
            generation: self.generation,
            key: start.key,
            label: start.label,
            mac: start.mac,
            core: start.core,
            context: start.context,
            opaque: start.opaque,
            region: Some(start.region),
            rx: start.rx,
            tx: start.tx,
            rx_avail,
            rx_next_seq: start.rx_next,
            rx_told: rx_avail.min(0xffff),
            rx_remote_avail: start.window,
            remote_scale: start.scale,
            tx_next_seq: start.tx_next,
            tx_max_seq: start.tx_next,
            tx_recover: start.tx_next,
            timestamps: start.peer_clock.is_some(),
            tx_next_ts: start.peer_clock.unwrap_or(0),
            mss: start.mss,
            tx_rate: start.rate,
            ..Flow::default()
        };
    }

    /// Leaves the place to the next.
    pub fn clear(&mut self) {
        *self = Flow {
            generation: self.generation.wrapping_add(1),
            ..Flow::default()
        };
    }

    /// Its name.
    pub fn id(&self, index: u32) -> FlowId {
        FlowId {
            index,
            generation: self.generation,
        }
    }

    /// First byte that is not acknowledged.
    fn una(&self) -> Seq {
        if self.tx_fin_acked {
            return self.tx_next_seq.plus(1);
        }
        Seq(self.tx_next_seq.0.wrapping_sub(self.tx_sent))
    }

    /// Next number to send, FIN counted.
    pub fn next(&self) -> Seq {
        self.tx_next_seq.plus(u32::from(self.tx_fin_sent))
    }

    /// Both sides have closed and know it.
    pub fn finished(&self) -> bool {
        self.rx_fin && self.tx_fin_acked
    }

    /// Something was sent that is not acknowledged.
    pub fn in_flight(&self) -> bool {
        self.tx_sent > 0 || (self.tx_fin_sent && !self.tx_fin_acked)
    }

    /// The window to tell.
    pub fn window(&mut self) -> u16 {
        self.rx_told = self.rx_avail.min(0xffff);
        self.rx_told as u16
    }

    /// Options of the next segment, at a time in ns.
    pub fn options(&self, now: u64) -> Options {
        Options {
            timestamps: self.timestamps.then(|| (timestamp(now), self.tx_next_ts)),
            ..Options::default()
        }
    }
}

#[cfg(test)]
mod tests;
