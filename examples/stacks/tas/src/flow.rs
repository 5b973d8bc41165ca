//! The fast path's record of a flow, and what a segment or a bump does to it.
//!
//! In: segments whose headers are sound, bumps that an application wrote; out: what changed. It holds TAS's fields:
//! room and position in the receive ring, one interval out of order, the peer's room, data written, sent and
//! acknowledged, counts for the slow path. It refuses to send, to keep time and to know queues.

use crate::clock::timestamp;
use crate::entry::{Atx, FlowId, Opaque};
use crate::shm::{ByteRing, Region};
use bypassprof_probe::Flow as Label;
use stack_tcp::seq::Seq;
use stack_tcp::wire::tcp::{Options, Segment, flags};
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

    /// Takes a segment at a time in ns.
    #[inline]
    pub fn receive(&mut self, segment: &Segment<'_>, now: u64) -> Taken {
        let mut taken = Taken::default();
        self.cnt_rx_segments = self.cnt_rx_segments.wrapping_add(1);
        if let Some((clock, _)) = segment.options.timestamps.filter(|_| self.timestamps) {
            // PAWS: RFC 7323 5.
            if (clock.wrapping_sub(self.tx_next_ts) as i32) < 0 {
                return Taken {
                    ack: segment.len() > 0,
                    stale: true,
                    ..taken
                };
            }
            if !segment.seq.after(self.rx_next_seq) {
                self.tx_next_ts = clock;
            }
        }
        if segment.has(flags::ACK) && !self.take_ack(segment, now, &mut taken) {
            // RFC 5961 5: whoever does not know what we have sent is not believed in what it sends.
            return Taken {
                ack: true,
                stale: true,
                ..taken
            };
        }
        self.take_payload(segment, &mut taken);
        taken.finished = self.finished();
        taken
    }

    /// Whether the acknowledgement can be one of this connection's.
    fn take_ack(&mut self, segment: &Segment<'_>, now: u64, taken: &mut Taken) -> bool {
        let acked = segment.ack.0.wrapping_sub(self.una().0);
        if acked > self.tx_max_seq.0.wrapping_sub(self.una().0) {
            // An old one, as far as anything can be old; else never sent.
            return acked.wrapping_neg() <= self.tx.bytes();
        }
        let window = u32::from(segment.window) << self.remote_scale;
        if acked == 0 {
            let plain = segment.payload.is_empty() && !segment.has(flags::FIN);
            if plain && window == self.rx_remote_avail && self.in_flight() {
                self.rx_dupack_cnt = self.rx_dupack_cnt.saturating_add(1);
                let new = !segment.ack.before(self.tx_recover);
                if self.rx_dupack_cnt == DUPLICATES && new {
                    self.rewind();
                    taken.rewound = true;
                    taken.send = true;
                }
            }
        } else {
            self.acknowledge(acked, taken);
            self.rx_dupack_cnt = 0;
            self.cnt_rx_acks += 1;
            self.cnt_rx_ack_bytes += u64::from(taken.tx_bump);
            if let Some((edge, sent)) = self.timed
                && !segment.ack.before(edge)
            {
                self.measured(now.saturating_sub(sent));
                self.timed = None;
            }
        }
        if self.rx_remote_avail == 0 && window > 0 && acked == 0 && self.in_flight() {
            // A window that shuts refuses what is on its way (RFC 9293 3.8.6): it has to come again, and was not lost.
            self.go_back();
            taken.rewound = true;
        }
        taken.send |= window > self.rx_remote_avail || acked > 0;
        self.rx_remote_avail = window;
        true
    }

    /// Whether a segment's place in the stream is one that this connection's peer could be at.
    pub fn is_near(&self, segment: &Segment<'_>) -> bool {
        let ahead = segment.seq.0.wrapping_sub(self.rx_next_seq.0);
        ahead <= self.rx_avail || ahead.wrapping_neg() <= self.rx.bytes()
    }

    /// Options of the next segment, at a time in ns.
    pub fn options(&self, now: u64) -> Options {
        Options {
            timestamps: self.timestamps.then(|| (timestamp(now), self.tx_next_ts)),
            ..Options::default()
        }
    }

    /// Takes `acked` numbers off, of which some may have been rewound.
    fn acknowledge(&mut self, acked: u32, taken: &mut Taken) {
        let sent = self.tx_sent + u32::from(self.tx_fin_sent);
        if acked > sent {
            let again = (acked - sent).min(self.tx_avail);
            self.advance(again);
            if acked > sent + again {
                self.tx_fin_sent = true;
            }
        }
        let data = acked.min(self.tx_sent);
        self.tx_sent -= data;
        if acked > data && self.tx_fin_sent {
            self.tx_fin_acked = true;
        }
        taken.tx_bump = data;
    }

    fn advance(&mut self, bytes: u32) {
        self.tx_avail -= bytes;
        self.tx_sent += bytes;
        self.tx_next_seq = self.tx_next_seq.plus(bytes);
        self.tx_next_pos = self.tx_next_pos.wrapping_add(bytes);
    }

    fn measured(&mut self, rtt: u64) {
        let rtt = rtt.max(1);
        self.rtt_est = match self.rtt_est {
            0 => rtt,
            old => (old * 7 + rtt) / 8,
        };
    }

    /// Back to the first byte that is not acknowledged: all of it will be sent again.
    pub fn rewind(&mut self) {
        self.go_back();
        self.cnt_tx_drops += 1;
    }

    fn go_back(&mut self) {
        self.tx_next_seq = Seq(self.tx_next_seq.0.wrapping_sub(self.tx_sent));
        self.tx_next_pos = self.tx_next_pos.wrapping_sub(self.tx_sent);
        self.tx_avail += self.tx_sent;
        self.tx_sent = 0;
        if !self.tx_fin_acked {
            self.tx_fin_sent = false;
        }
        self.tx_recover = self.tx_max_seq;
        self.rx_dupack_cnt = 0;
        self.timed = None;
    }

    fn take_payload(&mut self, segment: &Segment<'_>, taken: &mut Taken) {
        let len = segment.payload.len() as u32;
        let fin = segment.has(flags::FIN);
        if len == 0 && !fin {
            // A probe of what we expect.
            taken.ack |= segment.seq != self.rx_next_seq;
            return;
        }
        taken.ack = true;
        if self.rx_fin {
            return;
        }
        if segment.seq.after(self.rx_next_seq) {
            self.keep_early(segment.seq, segment.payload);
            return;
        }
        let old = self.rx_next_seq.since(segment.seq);
        if old > len {
            return;
        }
        let fresh = &segment.payload[old as usize..];
        let room = fresh.len().min(self.rx_avail as usize);
        self.flow_rx_write(self.rx_next_pos, &fresh[..room]);
        self.received(room as u32);
        taken.rx_bump = room as u32;
        if fin && room == fresh.len() {
            self.rx_fin = true;
            self.rx_next_seq = self.rx_next_seq.plus(1);
            self.rx_ooo_len = 0;
            taken.fin = true;
            return;
        }
        taken.rx_bump += self.join_early();
    }

    fn received(&mut self, bytes: u32) {
        self.rx_next_seq = self.rx_next_seq.plus(bytes);
        self.rx_next_pos = self.rx_next_pos.wrapping_add(bytes);
        self.rx_avail -= bytes;
    }

    /// Keeps data beyond a hole, if it begins or extends the one interval there is.
    fn keep_early(&mut self, seq: Seq, payload: &[u8]) {
        let len = payload.len() as u32;
        let ahead = seq.since(self.rx_next_seq);
        if len == 0 || u64::from(ahead) + u64::from(len) > u64::from(self.rx_avail) {
            return;
        }
        let (start, end) = (seq, seq.plus(len));
        if self.rx_ooo_len == 0 {
            (self.rx_ooo_start, self.rx_ooo_len) = (start, len);
        } else {
            let old_end = self.rx_ooo_start.plus(self.rx_ooo_len);
            if start.after(old_end) || end.before(self.rx_ooo_start) {
                return;
            }
            let start = start.min(self.rx_ooo_start);
            self.rx_ooo_len = end.max(old_end).since(start);
            self.rx_ooo_start = start;
        }
        self.flow_rx_write(self.rx_next_pos.wrapping_add(ahead), payload);
    }

    /// Takes what was kept, once the hole before it is filled.
    fn join_early(&mut self) -> u32 {
        if self.rx_ooo_len == 0 || self.rx_ooo_start.after(self.rx_next_seq) {
            return 0;
        }
        let end = self.rx_ooo_start.plus(self.rx_ooo_len);
        let more = end.since(self.rx_next_seq).min(self.rx_avail);
        self.received(more);
        self.rx_ooo_len = 0;
        more
    }

    #[inline(never)]
    fn flow_rx_write(&self, pos: u32, bytes: &[u8]) {
        if let Some(region) = &self.region {
            self.rx.write(region, pos, bytes);
        }
    }

    /// Copies an outgoing segment's payload out of the transmit ring.
    #[inline(never)]
    pub fn flow_tx_read(&self, outgoing: &Outgoing, out: &mut [u8]) {
        if let Some(region) = &self.region {
            self.tx.read(region, outgoing.pos, out);
        }
    }

    /// Takes an application's bump; whether the window that opened has to be told.
    pub fn bump(&mut self, atx: &Atx) -> Result<bool, BadBump> {
        let read = self.rx.bytes() - self.rx_avail;
        let room = self.tx.bytes() - self.tx_avail - self.tx_sent;
        if atx.rx_bump > read || atx.tx_bump > room || (self.tx_done && atx.tx_bump > 0) {
            return Err(BadBump);
        }
        self.rx_avail += atx.rx_bump;
        self.tx_avail += atx.tx_bump;
        self.tx_done |= atx.done;
        let step = self.mss.min(self.rx.bytes() / 2);
        Ok(!self.rx_fin && self.rx_told < step && self.rx_avail >= step)
    }

    /// What may be sent now, and what keeps more from being sent. `paced`: a rate will delay what is left.
    pub fn sendable(&self, paced: bool) -> (Option<Outgoing>, Limit) {
        let window = self.rx_remote_avail.saturating_sub(self.tx_sent);
        let len = self.tx_avail.min(window).min(self.mss);
        let limit = if self.tx_avail <= len {
            Limit::App
        } else if window <= len {
            Limit::Peer
        } else if paced {
            Limit::Pace
        } else {
            Limit::None
        };
        let whole = len == self.tx_avail;
        let fin = whole && self.tx_done && !self.tx_fin_sent && !self.tx_fin_acked;
        // A window that opens by crumbs is waited for while something is on its way: RFC 9293 3.8.6.2.1.
        let crumb = len < self.mss && !whole && self.tx_sent > 0;
        if crumb || (len == 0 && !fin) {
            return (None, limit);
        }
        let outgoing = Outgoing {
            seq: self.tx_next_seq,
            len,
            fin,
            again: self.tx_next_seq.before(self.tx_max_seq),
            pos: self.tx_next_pos,
        };
        (Some(outgoing), limit)
    }

    /// The segment has been sent, at a time in ns.
    pub fn sent(&mut self, outgoing: &Outgoing, now: u64) {
        self.advance(outgoing.len);
        self.tx_fin_sent |= outgoing.fin;
        if self.timed.is_none() && !outgoing.again {
            self.timed = Some((self.next(), now));
        }
        self.tx_max_seq = self.tx_max_seq.max(self.next());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIRST: u32 = 0xffff_ff00;

    fn flow(rx: u32, tx: u32) -> (Flow, Arc<Region>) {
        let (region, _file) = Region::create(1 << 20).unwrap();
        let region = Arc::new(region);
        let mut flow = Flow::default();
        flow.open(Start {
            key: Key::default(),
            label: Label::NONE,
            mac: [0; 6],
            core: 0,
            context: 0,
            opaque: Opaque::default(),
            region: region.clone(),
            rx: ByteRing::new(0, rx),
            tx: ByteRing::new(1 << 19, tx),
            rx_next: Seq(FIRST),
            tx_next: Seq(FIRST),
            window: 65_535,
            scale: 0,
            peer_clock: Some(1),
            mss: 100,
            rate: 0,
        });
        (flow, region)
    }

    fn segment(seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Segment<'_> {
        Segment {
            source_port: 1,
            destination_port: 2,
            seq: Seq(FIRST.wrapping_add(seq)),
            ack: Seq(FIRST.wrapping_add(ack)),
            flags: flags | super::flags::ACK,
            window: 65_535,
            options: Options {
                timestamps: Some((1, 1)),
                ..Options::default()
            },
            marked: false,
            payload,
        }
    }

    fn write(flow: &mut Flow, bytes: u32, done: bool) {
        let atx = Atx {
            tx_bump: bytes,
            done,
            ..Atx::default()
        };
        flow.bump(&atx).unwrap();
    }

    fn send_all(flow: &mut Flow) -> Vec<Outgoing> {
        let mut out = Vec::new();
        while let (Some(outgoing), _) = flow.sendable(false) {
            flow.sent(&outgoing, 0);
            out.push(outgoing);
        }
        out
    }

    /// One hole is bridged: data beyond it is kept and handed over with what fills it; a second hole is not.
    #[test]
    fn one_interval_out_of_order_is_kept() {
        let (mut flow, region) = flow(1024, 1024);
        assert_eq!(flow.receive(&segment(10, 0, 0, b"89"), 0).rx_bump, 0);
        assert_eq!(flow.receive(&segment(20, 0, 0, b"zz"), 0).rx_bump, 0);
        assert_eq!(flow.receive(&segment(12, 0, 0, b"ab"), 0).rx_bump, 0);
        let taken = flow.receive(&segment(0, 0, 0, b"0123456789"), 0);
        assert_eq!((taken.rx_bump, taken.ack), (14, true));
        let mut out = [0; 14];
        ByteRing::new(0, 1024).read(&region, 0, &mut out);
        assert_eq!(&out, b"012345678989ab");
        assert_eq!(flow.rx_next_seq, Seq(FIRST.wrapping_add(14)));
    }

    /// Three duplicates rewind to the first unacknowledged byte, once for one loss; an acknowledgement of what was sent
    /// before the rewind is taken.
    #[test]
    fn duplicates_rewind_once() {
        let (mut flow, _) = flow(1024, 1024);
        write(&mut flow, 500, false);
        assert_eq!(send_all(&mut flow).len(), 5);
        for n in 1..=3 {
            let taken = flow.receive(&segment(0, 0, 0, b""), 0);
            assert_eq!(taken.rewound, n == 3);
        }
        assert_eq!((flow.tx_avail, flow.tx_sent), (500, 0));
        let again = send_all(&mut flow);
        assert!(again.len() == 5 && again.iter().all(|o| o.again));
        for _ in 0..10 {
            assert!(!flow.receive(&segment(0, 0, 0, b""), 0).rewound);
        }
        flow.rewind();
        let taken = flow.receive(&segment(0, 500, 0, b""), 0);
        assert_eq!((taken.tx_bump, flow.tx_avail, flow.tx_sent), (500, 0, 0));
        assert_eq!(flow.cnt_rx_ack_bytes, 500);
    }

    /// FIN goes with the last data, is sent again after a rewind, and both sides' FINs finish the flow.
    #[test]
    fn both_sides_close() {
        let (mut flow, _) = flow(1024, 1024);
        write(&mut flow, 150, true);
        let out = send_all(&mut flow);
        assert_eq!((out.len(), out[0].fin, out[1].fin), (2, false, true));
        flow.rewind();
        assert!(send_all(&mut flow)[1].fin);
        let taken = flow.receive(&segment(0, 150, flags::FIN, b"bye"), 0);
        assert_eq!((taken.fin, taken.rx_bump, taken.finished), (true, 3, false));
        let taken = flow.receive(&segment(4, 151, 0, b""), 0);
        assert!(taken.finished && flow.next() == Seq(FIRST.wrapping_add(151)));
    }

    /// A bump that returns more than was received, or writes more than there is room, changes nothing.
    #[test]
    fn bumps_are_checked() {
        let (mut flow, _) = flow(1024, 1024);
        flow.receive(&segment(0, 0, 0, b"1234"), 0);
        let bad = [(5, 0), (0, 1025), (u32::MAX, u32::MAX)];
        for (rx_bump, tx_bump) in bad {
            let atx = Atx {
                rx_bump,
                tx_bump,
                ..Atx::default()
            };
            assert_eq!(flow.bump(&atx), Err(BadBump));
        }
        assert_eq!((flow.rx_avail, flow.tx_avail), (1020, 0));
    }

    /// What was on its way when the peer shut its window comes again when it opens, as if it had never been sent: it is no
    /// loss that congestion control has to know.
    #[test]
    fn what_a_shut_window_refused_comes_again() {
        let (mut flow, _) = flow(1024, 1024);
        write(&mut flow, 500, false);
        assert_eq!(send_all(&mut flow).len(), 5);
        let told = |window| Segment {
            window,
            ..segment(0, 200, 0, b"")
        };
        assert!(!flow.receive(&told(0), 0).rewound);
        assert_eq!((flow.tx_avail, flow.tx_sent), (0, 300));
        let taken = flow.receive(&told(150), 0);
        assert!(taken.rewound && taken.send);
        let again: Vec<_> = send_all(&mut flow).iter().map(|o| o.len).collect();
        assert_eq!(again, [100]);
        assert_eq!(flow.cnt_tx_drops, 0);
    }

    /// A full ring tells a window of zero, and its emptying has to be told.
    #[test]
    fn an_opened_window_is_told() {
        let (mut flow, _) = flow(1024, 1024);
        flow.receive(&segment(0, 0, 0, &[7; 1024]), 0);
        assert_eq!(flow.window(), 0);
        let read = |rx_bump| Atx {
            rx_bump,
            ..Atx::default()
        };
        assert_eq!(flow.bump(&read(50)), Ok(false));
        assert_eq!(flow.bump(&read(50)), Ok(true));
        assert_eq!(flow.window(), 100);
    }

    proptest! {
        /// Any segments and bumps leave the record's sums in order: what is written, sent and free fits the rings.
        #[test]
        fn any_segments_keep_the_sums(
            steps in prop::collection::vec((0u32..2000, 0u32..2000, any::<u8>(), 0usize..300, any::<u16>(), 0u32..400), 0..60)
        ) {
            let (mut flow, _region) = flow(1024, 1024);
            let payload = [9; 300];
            for (seq, ack, bits, len, window, bump) in steps {
                let mut s = segment(seq, ack, bits & (flags::FIN | flags::PSH), &payload[..len]);
                s.window = window;
                let taken = flow.receive(&s, 0);
                prop_assert!(taken.rx_bump <= 1024 && taken.tx_bump <= 1024);
                let _ = flow.bump(&Atx { rx_bump: bump / 4, tx_bump: bump, done: bump == 399, ..Atx::default() });
                send_all(&mut flow);
                prop_assert!(flow.rx_avail <= 1024);
                prop_assert!(u64::from(flow.tx_avail) + u64::from(flow.tx_sent) <= 1024);
                prop_assert!(flow.rx_ooo_len <= flow.rx_avail);
            }
        }
    }
}
