//! What all connections of an engine share: configuration, totals, events, timers, lists, limits.
//!
//! In and out: plain state. [`crate::input`] and [`crate::output`] work on it together with one connection at a time.

use crate::config::Config;
use crate::conn::{Conn, State};
use crate::event::{Closing, ConnId, Counters, Event, EventKind};
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
    pub refused: Vec<ConnId>,
    /// Bytes in all buffers.
    pub buffered: usize,
    pub packet_id: u16,
    strangers: Budget,
    challenges: Budget,
}

/// So many a second.
#[derive(Clone, Copy, Debug, Default)]
struct Budget {
    second: u64,
    used: u32,
}

/// Resets and echoes to strangers, and challenge acknowledgements (RFC 5961 7), each second.
const REPLIES_PER_SECOND: u32 = 1000;

impl Budget {
    fn take(&mut self, now: Time) -> bool {
        let second = now.as_nanos() / 1_000_000_000;
        if second != self.second {
            *self = Budget { second, used: 0 };
        }
        self.used += 1;
        self.used <= REPLIES_PER_SECOND
    }
}

impl Core {
    pub fn new(config: Config) -> Core {
        Core {
            ip: u32::from(config.ip),
            config,
            counters: Counters::default(),
            events: VecDeque::new(),
            timers: Timers::default(),
            acks: VecDeque::new(),
            data: VecDeque::new(),
            refused: Vec::new(),
            buffered: 0,
            packet_id: 0,
            strangers: Budget::default(),
            challenges: Budget::default(),
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
            conn.state = State::Closed;
            conn.stop();
            conn.end_due = None;
            self.tell(id, conn, EventKind::Closed(why));
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
