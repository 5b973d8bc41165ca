//! What goes from stack to application and back, by stream.
//!
//! In: the engine's events, and jobs; out: bytes moved between the engine and the streams' buffers, events raised. Bytes
//! are copied once more than in mTCP on each way, since the engine's own buffers belong to the stack thread alone.

use crate::context::{Accepted, SockId};
use crate::epoll::Entry;
use crate::jobs::{self, queue, stamp};
use crate::stack::{Own, Stack};
use crate::stream::{Stream, what};
use bypassprof_probe::{self as probe, Flow, points};
use ringbuf::traits::{Observer, Producer};
use stack_netio::Device;
use stack_tcp::{Closing, ConnId, EventKind, ListenerId, Time};
use std::cmp::Reverse;
use std::sync::atomic::Ordering;

impl<D: Device> Stack<D> {
    /// Takes the engine's news.
    #[inline(never)]
    pub(crate) fn take_news(&mut self, now: Time) {
        while let Some(event) = self.engine.pop_event() {
            let conn = event.conn;
            if let EventKind::Accepted(listener) = event.kind {
                self.accepted(conn, listener, now);
                continue;
            }
            let Some(own) = self.own_mut(conn) else {
                continue;
            };
            own.active = now;
            match event.kind {
                EventKind::Readable => self.rb_put(conn, now),
                EventKind::PeerClosed => {
                    own.fin = true;
                    self.rb_put(conn, now);
                }
                EventKind::Connected | EventKind::Writable => self.feed(conn, now),
                EventKind::Closed(why) => self.ended(conn, why, now),
                EventKind::Accepted(_) => {}
            }
        }
    }

    fn own_mut(&mut self, conn: ConnId) -> Option<&mut Own> {
        let own = self.own.get_mut(conn.index())?.as_mut()?;
        (own.conn == conn).then_some(own)
    }

    /// A listener has a new stream, which gets its place, and the application the news.
    #[inline(never)]
    fn accepted(&mut self, conn: ConnId, listener: ListenerId, now: Time) {
        let (index, flow) = (conn.index(), self.engine.flow(conn));
        let accepted = Accepted {
            sock: SockId(conn),
            port: listener.port(),
            stamp: stamp(),
        };
        if self.accepts.is_full() {
            let capacity = self.accepts.capacity().get() as u32;
            probe::emit_with(points::FULL, flow, capacity, [3, 0, 0]);
            self.engine.abort(conn, now, &mut self.port);
            return;
        }
        if self.own.len() <= index {
            self.own.resize(index + 1, None);
        }
        self.own[index] = Some(Own {
            conn,
            half: false,
            closing: false,
            fin: false,
            active: now,
        });
        self.shared.streams[index].open(conn, flow);
        if let Some(longest) = self.config.idle_timeout {
            self.idle_checks.push(Reverse((now + longest, conn)));
        }
        // There was room, and no one else fills it.
        let _ = self.accepts.try_push(accepted);
        // After the push: whoever takes the event down looks into the queue afterwards.
        if !self.shared.accept_raised.swap(true, Ordering::AcqRel) {
            let (conn, what) = (None, what::READ);
            self.news.push_back(Entry { conn, what });
        }
    }

    /// Moves what the engine has received to where the application reads, as far as there is room.
    #[inline(never)]
    fn rb_put(&mut self, conn: ConnId, now: Time) {
        let shared = self.shared.clone();
        let stream = &shared.streams[conn.index()];
        let Some(own) = self.own_mut(conn) else {
            return;
        };
        let (fin, closing) = (own.fin, own.closing);
        if closing {
            // Nobody reads it any more. What is not taken closes the window.
            return;
        }
        let mut receive = stream.receive.lock(stream.flow());
        let mut moved = 0;
        while let room = shared.room.0.saturating_sub(receive.bytes.len())
            && room > 0
            && let Some(bytes) = self.engine.peek(conn)
        {
            let n = room.min(bytes.len());
            receive.bytes.extend(&bytes[..n]);
            moved += n;
            self.engine.consume(conn, n, now, &mut self.port);
        }
        receive.more = self.engine.peek(conn).is_some();
        let end = fin && !receive.more && !receive.ended;
        receive.ended |= end;
        drop(receive);
        if moved > 0 || end {
            self.raise(stream, conn, what::READ);
        }
    }

    /// Moves what the application has written to the engine, as far as there is room; then does what waited for that.
    #[inline(never)]
    fn feed(&mut self, conn: ConnId, now: Time) {
        let shared = self.shared.clone();
        let stream = &shared.streams[conn.index()];
        if !stream.is(conn) {
            return;
        }
        let mut send = stream.send.lock(stream.flow());
        let (first, second) = send.bytes.as_slices();
        let taken = self.engine.append(conn, first).and_then(|one| {
            let two = if one == first.len() && !second.is_empty() {
                self.engine.append(conn, second)?
            } else {
                0
            };
            Ok(one + two)
        });
        match taken {
            Ok(taken) => drop(send.bytes.drain(..taken)),
            Err(_) => {
                send.bytes.clear();
                send.closed = true;
            }
        }
        let room = send.wants_room && send.bytes.len() < shared.room.1;
        send.wants_room &= !room;
        let empty = send.bytes.is_empty();
        drop(send);
        if room {
            self.raise(stream, conn, what::WRITE);
        }
        if empty {
            self.all_taken(conn, now);
        }
    }

    /// The send buffer is empty: FIN follows if it is due.
    fn all_taken(&mut self, conn: ConnId, now: Time) {
        let Some(own) = self.own_mut(conn) else {
            return;
        };
        if own.closing {
            self.let_go(conn, now);
        } else if std::mem::take(&mut own.half) {
            self.engine.shutdown(conn, now, &mut self.port);
        }
    }

    /// The application has let go, and nothing of the connection is kept here any more.
    fn let_go(&mut self, conn: ConnId, now: Time) {
        if self.own_mut(conn).is_some() {
            self.own[conn.index()] = None;
            self.shared.streams[conn.index()].empty();
        }
        self.engine.close(conn, now, &mut self.port);
    }

    /// The connection is over.
    #[inline(never)]
    fn ended(&mut self, conn: ConnId, why: Closing, now: Time) {
        self.rb_put(conn, now);
        if self.own_mut(conn).is_some_and(|own| own.closing) {
            self.let_go(conn, now);
            return;
        }
        self.tell_end(conn, why != Closing::Done);
    }

    fn tell_end(&mut self, conn: ConnId, broken: bool) {
        let shared = self.shared.clone();
        let stream = &shared.streams[conn.index()];
        let flow = stream.flow();
        let mut receive = stream.receive.lock(flow);
        receive.ended = true;
        receive.broken |= broken;
        drop(receive);
        stream.send.lock(flow).closed = true;
        self.raise(stream, conn, what::END);
    }

    /// Queues an event for the application, unless it did not ask for it or the same one waits already.
    fn raise(&mut self, stream: &Stream, conn: ConnId, event: u32) {
        // After the lock under which the reason was put there: see `mtcp_epoll_ctl`.
        let wanted = stream.interest.load(Ordering::Acquire) | what::END;
        if event & wanted != 0 && stream.raise(event) {
            let conn = Some(conn);
            self.news.push_back(Entry { conn, what: event });
        }
    }

    /// Takes the application's calls, kind by kind; how many.
    #[inline(never)]
    pub(crate) fn handle_application_calls(&mut self, now: Time) -> usize {
        let mut jobs = 0;
        // What is queued meanwhile waits for the next round.
        for _ in 0..self.take.send.occupied_len() {
            let Some(job) = jobs::pop(&mut self.take.send, queue::SEND, flow(&self.engine)) else {
                break;
            };
            jobs += 1;
            let stream = &self.shared.streams[job.conn.index()];
            if stream.is(job.conn) {
                // Before the look into the buffer; pairs with the swap in `mtcp_write`.
                stream.on_sendq.swap(false, Ordering::AcqRel);
                self.feed(job.conn, now);
            }
        }
        for _ in 0..self.take.ack.occupied_len() {
            let Some(job) = jobs::pop(&mut self.take.ack, queue::ACK, flow(&self.engine)) else {
                break;
            };
            jobs += 1;
            let stream = &self.shared.streams[job.conn.index()];
            if stream.is(job.conn) {
                // Before the look into the buffer; pairs with the swap in `mtcp_read`.
                stream.on_ackq.swap(false, Ordering::AcqRel);
                self.rb_put(job.conn, now);
            }
        }
        jobs + self.handle_closes(now)
    }

    /// Takes the calls by which the application lets streams go; how many.
    fn handle_closes(&mut self, now: Time) -> usize {
        let mut jobs = 0;
        for _ in 0..self.take.close.occupied_len() {
            let Some(job) = jobs::pop(&mut self.take.close, queue::CLOSE, flow(&self.engine))
            else {
                break;
            };
            jobs += 1;
            if let Some(own) = self.own_mut(job.conn) {
                own.half |= job.half;
                own.closing |= !job.half;
                self.feed(job.conn, now);
            }
        }
        for _ in 0..self.take.reset.occupied_len() {
            let Some(job) = jobs::pop(&mut self.take.reset, queue::RESET, flow(&self.engine))
            else {
                break;
            };
            jobs += 1;
            self.engine.abort(job.conn, now, &mut self.port);
            self.let_go(job.conn, now);
        }
        for _ in 0..self.take.destroy.occupied_len() {
            let Some(job) = jobs::pop(&mut self.take.destroy, queue::DESTROY, flow(&self.engine))
            else {
                break;
            };
            jobs += 1;
            self.let_go(job.conn, now);
        }
        jobs
    }

    /// Ends streams that have done nothing for too long; how many.
    #[inline(never)]
    pub(crate) fn check_connection_timeout(&mut self, now: Time) -> u32 {
        let Some(longest) = self.config.idle_timeout else {
            return 0;
        };
        let mut ended = 0;
        while let Some(&Reverse((due, conn))) = self.idle_checks.peek()
            && due <= now
        {
            self.idle_checks.pop();
            let owes = |info: stack_tcp::ConnInfo| info.inflight + info.unsent > 0;
            let owes = self.engine.info(conn).is_some_and(owes);
            let Some(own) = self.own_mut(conn) else {
                continue;
            };
            // Whoever has bytes on their way is not idle: the retransmission timer looks after it.
            if owes {
                own.active = now;
            }
            let due = own.active + longest;
            if due > now {
                self.idle_checks.push(Reverse((due, conn)));
                continue;
            }
            let closing = own.closing;
            ended += 1;
            self.engine.abort(conn, now, &mut self.port);
            self.own[conn.index()] = None;
            if !closing {
                self.tell_end(conn, true);
            }
        }
        ended
    }
}

/// The label of a job's stream.
fn flow(engine: &stack_tcp::Engine) -> impl FnOnce(ConnId) -> Flow + '_ {
    |conn| engine.flow(conn)
}
