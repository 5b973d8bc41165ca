//! One connection: what both sides have sent, received and promised (RFC 9293 3.3).
//!
//! In: the two ends' first sequence numbers and options; out: state that [`crate::input`] and [`crate::output`] change.

use crate::buffer::{ReceiveBuffer, SendBuffer};
use crate::config::Policy;
use crate::congestion::Window;
use crate::recovery::Scoreboard;
use crate::rtt::Rtt;
use crate::seq::Seq;
use crate::table::Key;
use crate::time::Time;
use bypassprof_probe::Flow;

/// RFC 9293's states; CLOSED is one that the application still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    SynSent,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
    Closed,
}

impl State {
    /// Both sides know each other's sequence numbers.
    pub fn is_synchronized(self) -> bool {
        !matches!(self, State::SynSent | State::SynReceived | State::Closed)
    }

    /// The peer may still send data.
    pub fn receives(self) -> bool {
        matches!(self, State::Established | State::FinWait1 | State::FinWait2)
    }

    /// We may still send data (that was written before the end).
    pub fn sends(self) -> bool {
        matches!(
            self,
            State::Established
                | State::CloseWait
                | State::FinWait1
                | State::Closing
                | State::LastAck
        )
    }
}

/// What is done about a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recovering {
    /// Nothing is known to be lost.
    No,
    /// Sending holes again until `until` is acknowledged; holes before `again` have been.
    Fast { until: Seq, again: Seq },
    /// Sending everything again from the first unacknowledged byte; duplicates before `until` say nothing new.
    GoBack { until: Seq },
}

/// What `rto_due` is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// An acknowledgement.
    Ack,
    /// A window that opens.
    Window,
}

/// Everything about one connection.
#[derive(Debug)]
pub(crate) struct Conn {
    pub state: State,
    pub local_port: u16,
    pub peer: (u32, u16),
    /// The peer's Ethernet address, or the router's; `None` until ARP has told.
    pub mac: Option<[u8; 6]>,
    /// Where its last frame came from.
    pub came_from: [u8; 6],
    /// It hears when ARP tells about its next hop.
    pub awaits_neighbour: bool,
    /// The network has said since the last progress that it cannot reach the peer (RFC 1122 4.2.3.9).
    pub unreachable: bool,
    pub flow: Flow,
    /// Whether the application holds the connection and hears of it.
    pub held: bool,
    /// The listener that waits for the handshake to end.
    pub listener: Option<u16>,

    // Sending.
    pub iss: Seq,
    pub una: Seq,
    pub next: Seq,
    /// After the last byte ever sent.
    pub max: Seq,
    pub peer_window: u32,
    pub largest_window: u32,
    pub window_seq: Seq,
    pub window_ack: Seq,
    pub peer_scale: u8,
    pub mss: u32,
    pub send: SendBuffer,
    pub fin_wanted: bool,
    pub fin_acked: bool,
    pub wants_room: bool,

    // Receiving.
    pub irs: Seq,
    pub rcv_next: Seq,
    /// Right edge of the window last told.
    pub rcv_edge: Seq,
    pub scale: u8,
    pub recv: ReceiveBuffer,
    pub peer_fin: Option<Seq>,
    pub peer_closed: bool,

    // Options that both sides have.
    pub timestamps: bool,
    pub ts_recent: u32,
    /// When `ts_recent` was learnt.
    pub ts_recent_at: Time,
    pub last_ack: Seq,
    pub sack: bool,
    /// Congestion marks are told (RFC 3168).
    pub ecn: bool,
    /// What we tell of marks: ECE is set.
    pub echo_marks: bool,
    /// The next new data says that we slowed down.
    pub tell_slower: bool,
    /// Marks told by acknowledgements before this one are known.
    pub marks_until: Seq,

    // Acknowledging.
    pub unacked_segments: u8,
    pub ack_now: bool,
    pub ack_due: Option<Time>,
    /// When a segment from outside the window was answered last.
    pub stray_answered: Option<Time>,

    // Losses.
    pub rtt: Rtt,
    pub timed: Option<(Seq, Time)>,
    pub rto_due: Option<Time>,
    pub waiting: Waiting,
    /// All between `next` and `max` was sent only to ask for the window.
    pub probed: bool,
    pub unanswered: u8,
    /// Window probes since the window was open last.
    pub window_probes: u8,
    pub retransmits: u32,
    pub window: Window,
    pub duplicates: u32,
    pub inflated: u32,
    pub resend: bool,
    pub recovering: Recovering,
    pub board: Scoreboard,

    // Pace, ends and bookkeeping.
    pub rate: u64,
    pub pace_due: Option<Time>,
    pub end_due: Option<Time>,
    pub keepalive_due: Option<Time>,
    pub armed: Option<Time>,
    pub told_readable: bool,
    pub on_ack_list: bool,
    pub on_data_list: bool,
}

impl Conn {
    /// A connection before its first segment.
    pub fn new(
        policy: &Policy,
        state: State,
        local_port: u16,
        peer: (u32, u16),
        flow: Flow,
        iss: Seq,
        mss: u32,
    ) -> Conn {
        let rate = match policy.congestion {
            crate::config::Congestion::Rate { bytes_per_second } => bytes_per_second,
            _ => 0,
        };
        Conn {
            state,
            local_port,
            peer,
            mac: None,
            came_from: [0; 6],
            awaits_neighbour: false,
            unreachable: false,
            flow,
            held: false,
            listener: None,
            iss,
            una: iss,
            next: iss,
            max: iss,
            peer_window: 0,
            largest_window: 0,
            window_seq: Seq(0),
            window_ack: Seq(0),
            peer_scale: 0,
            mss,
            send: SendBuffer::default(),
            fin_wanted: false,
            fin_acked: false,
            wants_room: false,
            irs: Seq(0),
            rcv_next: Seq(0),
            rcv_edge: Seq(0),
            scale: 0,
            recv: ReceiveBuffer::default(),
            peer_fin: None,
            peer_closed: false,
            timestamps: false,
            ts_recent: 0,
            ts_recent_at: Time::ZERO,
            last_ack: Seq(0),
            sack: false,
            ecn: false,
            echo_marks: false,
            tell_slower: false,
            marks_until: iss,
            unacked_segments: 0,
            ack_now: false,
            ack_due: None,
            stray_answered: None,
            rtt: Rtt::default(),
            timed: None,
            rto_due: None,
            waiting: Waiting::Ack,
            probed: false,
            unanswered: 0,
            window_probes: 0,
            retransmits: 0,
            window: Window::new(policy, mss, policy.initial_window),
            duplicates: 0,
            inflated: 0,
            resend: false,
            recovering: Recovering::No,
            board: Scoreboard::default(),
            rate,
            pace_due: None,
            end_due: None,
            keepalive_due: None,
            armed: None,
            told_readable: false,
            on_ack_list: false,
            on_data_list: false,
        }
    }

    /// Its first sequence number is another one.
    pub fn begin_at(&mut self, iss: Seq) {
        self.iss = iss;
        self.una = iss;
        self.next = iss;
        self.max = iss;
        self.marks_until = iss;
    }

    /// What finds it.
    pub fn key(&self) -> Key {
        Key::new(self.peer.0, self.peer.1, self.local_port)
    }

    /// Bytes that timestamps take in every segment.
    pub fn stamp_bytes(&self) -> u32 {
        if self.timestamps { 12 } else { 0 }
    }

    /// Bytes per second at which segments leave; 0: no limit.
    #[inline]
    pub fn pace(&self) -> u64 {
        if self.rate > 0 {
            self.rate
        } else {
            self.window.rate()
        }
    }

    /// Bytes after which loss is assumed before them.
    pub fn loss_distance(&self) -> u32 {
        crate::recovery::DUPLICATES * self.mss
    }

    /// Bytes sent and not known to have arrived.
    pub fn in_flight(&self) -> u32 {
        match self.recovering {
            Recovering::Fast { again, .. } if self.sack => {
                self.board
                    .in_flight(self.una, self.next, again, self.loss_distance())
            }
            _ => self.next.since(self.una),
        }
    }

    /// Where FIN stands in the stream; only before it is acknowledged.
    pub fn fin_seq(&self) -> Seq {
        self.una.plus(self.send.len() as u32)
    }

    /// Bytes written and not sent since the last going back.
    pub fn unsent(&self) -> u32 {
        if self.fin_acked {
            return 0;
        }
        self.fin_seq().since(self.next)
    }

    /// FIN is to be sent, now or again, once everything before it is.
    pub fn fin_due(&self) -> bool {
        self.fin_wanted && !self.fin_acked && !self.next.after(self.fin_seq())
    }

    /// Nothing is on its way that the peer has to acknowledge.
    pub fn all_acknowledged(&self) -> bool {
        self.una == self.max
    }

    /// When to look at it again.
    pub fn deadline(&self) -> Option<Time> {
        [
            self.rto_due,
            self.ack_due,
            self.pace_due,
            self.end_due,
            self.keepalive_due,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Nothing will be sent or waited for any more.
    pub fn stop(&mut self) {
        self.rto_due = None;
        self.ack_due = None;
        self.pace_due = None;
        self.keepalive_due = None;
        self.ack_now = false;
        self.resend = false;
    }
}
