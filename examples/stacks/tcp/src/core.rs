//! What all connections of an engine share: configuration, totals, events, timers, lists, limits.
//!
//! In and out: plain state. [`crate::input`] and [`crate::output`] work on it together with one connection at a time.

use crate::config::Config;
use crate::conn::{Conn, State};
use crate::event::{Closing, ConnId, Counters, Event, EventKind};
use crate::neighbours::Neighbours;
use crate::path_mtu::PathMtu;
use crate::seq::Seq;
use crate::sink::FrameSink;
use crate::siphash::SipKey;
use crate::table::{AT_ONCE, Key};
use crate::time::Time;
use crate::timers::Timers;
use std::collections::VecDeque;
use std::time::Duration;

/// An engine without its connections.
#[derive(Debug)]
pub(crate) struct Core {
    pub config: Config,
    pub ip: u32,
    pub counters: Counters,
    pub events: VecDeque<Event>,
    pub timers: Timers,
    /// Deferred mode: who has something to acknowledge, to send.
    pub acks: VecDeque<ConnId>,
    pub data: VecDeque<ConnId>,
    /// Whom a full sink refused.
    pub refused: VecDeque<ConnId>,
    /// Bytes in all buffers.
    pub buffered: usize,
    pub packet_id: u16,
    /// Ethernet addresses.
    pub neighbours: Neighbours,
    /// Sizes that paths take.
    pub paths: PathMtu,
    /// For SYN cookies.
    pub cookie_key: SipKey,
    iss_key: SipKey,
    strangers: Budget,
    challenges: Budget,
}

/// So many a second; how many exactly nobody outside can tell, so that nothing can be learnt from using it up (what
/// CVE-2016-5696 did with RFC 5961's fixed limit).
#[derive(Clone, Copy, Debug)]
struct Budget {
    key: SipKey,
    second: Option<u64>,
    left: u32,
}

/// Resets and ICMP to strangers, and challenge acknowledgements (RFC 5961 7), each about so often a second.
const REPLIES_PER_SECOND: u32 = 1000;

impl Budget {
    fn new(key: SipKey) -> Budget {
        Budget {
            key,
            second: None,
            left: 0,
        }
    }

    fn take(&mut self, now: Time) -> bool {
        let second = now.as_nanos() / 1_000_000_000;
        if self.second != Some(second) {
            let extra = self.key.hash(&[second]) % u64::from(REPLIES_PER_SECOND);
            self.second = Some(second);
            self.left = REPLIES_PER_SECOND / 2 + extra as u32;
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

/// Segments from outside the window that carry no data are answered at most so often on one connection: two ends that
/// disagree about numbers would answer each other's answers for ever.
const BETWEEN_STRAY_ANSWERS: Duration = Duration::from_millis(500);

impl Core {
    pub fn new(config: Config) -> Core {
        let key = |purpose| SipKey::new(config.seed, purpose);
        Core {
            ip: u32::from(config.ip),
            cookie_key: key(1),
            iss_key: key(2),
            strangers: Budget::new(key(3)),
            challenges: Budget::new(key(4)),
            neighbours: Neighbours::default(),
            paths: PathMtu::default(),
            timers: Timers::new(config.max_connections.min(AT_ONCE)),
            config,
            counters: Counters::default(),
            events: VecDeque::new(),
            acks: VecDeque::new(),
            data: VecDeque::new(),
            refused: VecDeque::new(),
            buffered: 0,
            packet_id: 0,
        }
    }

    /// Tells the application, if it holds the connection.
    pub fn tell(&mut self, id: ConnId, conn: &Conn, kind: EventKind) {
        if conn.held {
            self.events.push_back(Event { conn: id, kind });
        }
    }

    /// Tells that there is something to read, unless that is still to be heard.
    pub fn tell_readable(&mut self, id: ConnId, conn: &mut Conn) {
        if !conn.told_readable {
            conn.told_readable = true;
            self.tell(id, conn, EventKind::Readable);
        }
    }

    /// The connection is over. The application keeps the name until it lets go.
    pub fn over(&mut self, id: ConnId, conn: &mut Conn, why: Closing) {
        if conn.state != State::Closed {
            // Whose quiet time ends has been told before.
            let told = conn.state == State::TimeWait;
            conn.state = State::Closed;
            conn.stop();
            conn.end_due = None;
            if !told {
                self.tell(id, conn, EventKind::Closed(why));
            }
        }
    }

    /// Nobody has answered for as long as we were willing to wait.
    pub fn gave_up(&mut self, id: ConnId, conn: &mut Conn) {
        let why = if conn.unreachable {
            Closing::Unreachable
        } else {
            Closing::TimedOut
        };
        self.over(id, conn, why);
    }

    /// A connection's first sequence number: a clock of 4 us and a keyed hash of its ends (RFC 6528).
    pub fn initial_number(&self, key: Key, now: Time) -> Seq {
        let clock = (now.as_nanos() / 4000) as u32;
        Seq(clock).plus(self.iss_key.hash(&[key.word()]) as u32)
    }

    /// Whose Ethernet address packets to `peer` need.
    pub fn next_hop(&self, peer: u32) -> u32 {
        let config = &self.config;
        let shift = 32 - u32::from(config.prefix_len.min(32));
        let mask = u32::MAX.checked_shl(shift).unwrap_or(0);
        if (peer ^ self.ip) & mask == 0 {
            return peer;
        }
        config.gateway.map_or(peer, u32::from)
    }

    /// Finds the Ethernet address of a connection that has none yet, or puts it among those that wait for it.
    pub fn resolve(&mut self, id: ConnId, conn: &mut Conn, now: Time, out: &mut impl FrameSink) {
        let hop = self.next_hop(conn.peer.0);
        conn.mac = self.neighbours.mac(hop, now);
        let waits = conn.mac.is_none().then_some(id);
        conn.awaits_neighbour = waits.is_some();
        if self.neighbours.wanted(hop, waits, now) {
            self.ask(hop, out);
        }
    }

    /// A peer that does not answer may have another Ethernet address by now.
    pub fn doubt(&mut self, id: ConnId, conn: &mut Conn, now: Time, out: &mut impl FrameSink) {
        conn.awaits_neighbour = true;
        let hop = self.next_hop(conn.peer.0);
        if self.neighbours.wanted(hop, Some(id), now) {
            self.ask(hop, out);
        }
    }

    /// Whether a stranger may have an answer now.
    pub fn answers_stranger(&mut self, now: Time) -> bool {
        let may = self.strangers.take(now);
        self.counters.limited += u64::from(!may);
        may
    }

    /// Whether a challenge acknowledgement may be sent now.
    pub fn may_challenge(&mut self, now: Time) -> bool {
        let may = self.challenges.take(now);
        if may {
            self.counters.challenge_acks += 1;
        } else {
            self.counters.limited += 1;
        }
        may
    }

    /// Whether a segment from outside the window may be answered now; `asks` if it carries data, whose sender needs to
    /// know.
    pub fn may_answer_stray(&mut self, conn: &mut Conn, asks: bool, now: Time) -> bool {
        let last = conn.stray_answered;
        let may = asks || last.is_none_or(|at| now.since(at) >= BETWEEN_STRAY_ANSWERS);
        if !may {
            self.counters.limited += 1;
        } else if !asks {
            conn.stray_answered = Some(now);
        }
        may
    }

    /// How long to wait for an acknowledgement.
    pub fn timeout(&self, conn: &Conn) -> Duration {
        conn.rtt.timeout(&self.config.policy.rto)
    }

    /// The clock of our timestamps: milliseconds (RFC 7323 5.4).
    pub fn timestamp(now: Time) -> u32 {
        (now.as_nanos() / 1_000_000) as u32
    }

    /// Nothing more will come of the connection for a while: RFC 9293's quiet time.
    pub fn time_wait(&mut self, id: ConnId, conn: &mut Conn, now: Time) {
        if conn.state != State::TimeWait {
            conn.state = State::TimeWait;
            self.tell(id, conn, EventKind::Closed(Closing::Done));
        }
        conn.rto_due = None;
        conn.keepalive_due = None;
        conn.end_due = Some(now + self.config.policy.time_wait);
    }
}
