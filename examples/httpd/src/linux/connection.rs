//! One accepted connection: requests read, replies written as far as the socket takes them.

use crate::planted::Planted;
use bypassprof_probe::{self as probe, Flow, points};
use httpjob::{LINGER, Replies, Session};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown};
use std::os::fd::OwnedFd;

/// What a connection waits for next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// Requests.
    Read,
    /// Room for the rest of a reply.
    Write,
    /// Nothing any more: it is over.
    Close,
}

/// One accepted connection.
#[derive(Debug)]
pub struct Connection {
    pub socket: OwnedFd,
    pub wants: Wants,
    flow: Flow,
    session: Session,
    thrown_away: usize,
}

impl Connection {
    /// Before the first request.
    pub fn new(socket: OwnedFd, flow: Flow) -> Connection {
        Connection {
            socket,
            wants: Wants::Read,
            flow,
            session: Session::new(),
            thrown_away: 0,
        }
    }

    /// Reads once and answers what is whole. `depth` is how many events wait behind this one.
    #[inline(never)]
    pub fn readable(
        &mut self,
        buffer: &mut [u8],
        replies: &mut Replies,
        planted: &mut Planted,
        requests: &mut u32,
        depth: usize,
    ) -> Wants {
        let n = match rustix::io::read(&self.socket, &mut *buffer) {
            Ok(0) => return self.wait_for(Wants::Close),
            Ok(n) => n,
            Err(Errno::AGAIN | Errno::INTR) => return self.wants,
            Err(_) => return self.wait_for(Wants::Close),
        };
        probe::count_rx_bytes(n as u64);
        probe::emit_with(points::DELIVER, self.flow, n as u32, [depth as u32, 0, 0]);
        if self.session.finished() {
            self.thrown_away += n;
            let enough = self.thrown_away > LINGER;
            return self.wait_for(if enough { Wants::Close } else { Wants::Read });
        }
        let mut rest = &buffer[..n];
        let mut wants = Wants::Read;
        while !rest.is_empty() {
            let (used, asked) = self.session.receive(rest);
            rest = &rest[used..];
            if asked && wants == Wants::Read {
                *requests = requests.wrapping_add(1);
                probe::emit(points::APP_START, self.flow, *requests);
                let reply = replies.length(self.session.newest());
                wants = self.send(replies, planted);
                probe::emit(points::APP_END, self.flow, reply as u32);
            }
        }
        self.wait_for(wants)
    }

    /// Goes on with replies that did not fit.
    #[inline(never)]
    pub fn writable(&mut self, replies: &mut Replies, planted: &mut Planted) -> Wants {
        let wants = self.send(replies, planted);
        self.wait_for(wants)
    }

    /// Sends what is owed; what to wait for.
    fn send(&mut self, replies: &mut Replies, planted: &mut Planted) -> Wants {
        while self.session.owes() {
            let unsent = self.session.unsent(replies);
            let asked = unsent.len();
            planted.before_reply(self.flow, unsent);
            let taken = match rustix::net::send(&self.socket, unsent, SendFlags::NOSIGNAL) {
                Ok(n) => n,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => 0,
                Err(_) => return Wants::Close,
            };
            probe::emit_with(
                points::SEND_CALL,
                self.flow,
                asked as u32,
                [taken as u32, 0, 0],
            );
            if taken == 0 {
                return Wants::Write;
            }
            probe::count_tx_bytes(taken as u64);
            self.session.sent(taken, replies);
        }
        if self.session.finished() && rustix::net::shutdown(&self.socket, Shutdown::Write).is_err()
        {
            return Wants::Close;
        }
        Wants::Read
    }

    fn wait_for(&mut self, wants: Wants) -> Wants {
        self.wants = wants;
        wants
    }
}
