//! One client of a stack with plain read and write calls: bytes received in, replies written as far as they are taken.
//!
//! In: a connection of some stack as a [`Wire`]; out: whether the connection goes on. A client that does not read its
//! replies is not read from either. It refuses to know which stack it is.

use bypassprof_probe::{self as probe, Flow, points};
use httpjob::{Replies, Session};

/// Bytes that are read and thrown away after the last reply, so that the client sees it before a reset.
const LINGER: usize = 4 << 20;

/// A connection to write to.
pub trait Wire {
    /// Its label in events.
    fn flow(&self) -> Flow;

    /// Takes as many bytes as there is room for; `None` when nothing can be sent any more.
    fn send(&mut self, bytes: &[u8]) -> Option<usize>;

    /// Nothing more will be sent.
    fn end(&mut self);
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Stay,
    Close,
}

/// One accepted connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Client {
    session: Session,
    /// A reply did not fit; the stack tells when there is room again.
    blocked: bool,
    thrown_away: usize,
}

impl Client {
    /// A reply waits for room.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// There may be room again: writes what is owed.
    pub fn go_on(&mut self, replies: &mut Replies, wire: &mut impl Wire) -> Next {
        self.blocked = false;
        self.send_owed(replies, wire).1
    }

    /// Answers the requests that are whole with these bytes; `started` counts them.
    pub fn answer(
        &mut self,
        mut bytes: &[u8],
        replies: &mut Replies,
        started: &mut u32,
        wire: &mut impl Wire,
    ) -> Next {
        if self.session.finished() {
            self.thrown_away += bytes.len();
            return if self.thrown_away > LINGER {
                Next::Close
            } else {
                Next::Stay
            };
        }
        while !bytes.is_empty() {
            let (used, asked) = self.session.receive(bytes);
            bytes = &bytes[used..];
            if !asked {
                continue;
            }
            *started = started.wrapping_add(1);
            probe::emit(points::APP_START, wire.flow(), *started);
            let (sent, next) = self.send_owed(replies, wire);
            probe::emit(points::APP_END, wire.flow(), sent);
            if next == Next::Close {
                return Next::Close;
            }
        }
        Next::Stay
    }

    /// Writes what is owed, as far as there is room; how many bytes there was room for.
    fn send_owed(&mut self, replies: &mut Replies, wire: &mut impl Wire) -> (u32, Next) {
        let mut total = 0u32;
        while !self.blocked && self.session.owes() {
            let unsent = self.session.unsent(replies);
            let asked = unsent.len();
            let Some(taken) = wire.send(unsent) else {
                return (total, Next::Close);
            };
            total = total.saturating_add(taken as u32);
            self.session.sent(taken, replies);
            self.blocked = taken < asked;
            if self.session.finished() {
                wire.end();
            }
        }
        (total, Next::Stay)
    }
}
