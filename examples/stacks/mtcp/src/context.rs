//! The application's side: mTCP's calls, in mTCP's words.
//!
//! In: calls of one application thread; out: events, bytes, and jobs for the stack thread. No call but
//! [`MtcpContext::mtcp_epoll_wait`] blocks. It refuses to touch TCP: all it reaches are buffers and queues.

use crate::epoll::{Entry, Waited};
use crate::jobs::{self, Ask, Job, age, queue};
use crate::shared::Shared;
use crate::stream::{Stream, what};
use bypassprof_probe::{self as probe, Flow, points};
use ringbuf::HeapCons;
use ringbuf::traits::{Consumer, Observer};
use stack_tcp::ConnId;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A stream's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SockId(pub(crate) ConnId);

impl SockId {
    /// A small number, unique among the streams that exist now, below `max_streams`: an index for tables.
    pub fn index(self) -> usize {
        self.0.index()
    }
}

/// A stream that a listener has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its name.
    pub sock: SockId,
    /// The listener's port.
    pub port: u16,
    pub(crate) stamp: u64,
}

/// Whose event it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Listeners have streams to be accepted.
    Listener,
    /// A stream.
    Stream(SockId),
}

/// Something is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpollEvent {
    /// Whose.
    pub source: Source,
    /// There are bytes to read, or their end.
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
    /// The stream is over.
    pub ended: bool,
}

/// What an application wants to hear of a stream. That it is over is always told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Bytes to read.
    pub readable: bool,
    /// Room to write.
    pub writable: bool,
}

/// Why a call did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nothing to read, or no room to write, now.
    #[error("not now: wait for an event")]
    Again,
    /// The peer reset the stream, or it was given up.
    #[error("the stream was reset")]
    Broken,
    /// Nothing can be written to it any more.
    #[error("the stream is closed for writing")]
    Closed,
    /// The name is stale.
    #[error("there is no such stream")]
    NoStream,
}

/// One core's stack as its application thread sees it.
pub struct MtcpContext {
    shared: Arc<Shared>,
    ask: Ask,
    accepts: HeapCons<Accepted>,
    /// Events that the application's own calls made (`usr_shadow_queue`).
    shadow: VecDeque<Entry>,
    batch: Vec<Entry>,
}

impl MtcpContext {
    pub(crate) fn new(shared: Arc<Shared>, ask: Ask, accepts: HeapCons<Accepted>) -> MtcpContext {
        MtcpContext {
            shared,
            ask,
            accepts,
            shadow: VecDeque::new(),
            batch: Vec::new(),
        }
    }

    /// A batch's worth of empty events, to be filled by [`MtcpContext::mtcp_epoll_wait`].
    pub fn batch(size: usize) -> Vec<EpollEvent> {
        let nothing = EpollEvent {
            source: Source::Listener,
            readable: false,
            writable: false,
            ended: false,
        };
        vec![nothing; size]
    }

    /// Fills `events` with what is ready and waits up to `timeout` (none: for ever) if nothing is; how many. `None` when
    /// the stack thread has ended. Events are level-triggered: what a call leaves unread or unwritten is told again.
    #[inline(never)]
    pub fn mtcp_epoll_wait(
        &mut self,
        events: &mut [EpollEvent],
        timeout: Option<Duration>,
    ) -> Option<usize> {
        if !self.accepts.is_empty() && !self.shared.accept_raised.swap(true, Ordering::AcqRel) {
            let what = what::READ;
            self.shadow.push_back(Entry { conn: None, what });
        }
        let ready = !self.shadow.is_empty();
        self.batch.clear();
        let epoll = &self.shared.epoll;
        if epoll.wait(ready, timeout, events.len(), &mut self.batch) == Waited::Ended {
            return None;
        }
        let own = (events.len() - self.batch.len()).min(self.shadow.len());
        self.batch.extend(self.shadow.drain(..own));
        let mut found = 0;
        for entry in &self.batch {
            if let Some(event) = arrived(&self.shared, *entry) {
                events[found] = event;
                found += 1;
            }
        }
        Some(found)
    }

    /// Takes the next stream that a listener has; nothing is told of it until [`MtcpContext::mtcp_epoll_ctl`].
    #[inline(never)]
    pub fn mtcp_accept(&mut self) -> Option<Accepted> {
        let accepted = self.accepts.try_pop()?;
        if accepted.stamp != 0 {
            let more = [self.accepts.occupied_len() as u32, age(accepted.stamp), 0];
            probe::emit_with(
                points::HANDOFF,
                self.flow(accepted.sock),
                queue::ACCEPT,
                more,
            );
        }
        Some(accepted)
    }

    /// Says what is to be told of a stream; what is ready already is told next.
    #[inline(never)]
    pub fn mtcp_epoll_ctl(&mut self, sock: SockId, interest: Interest) {
        let Some(stream) = stream(&self.shared, sock) else {
            return;
        };
        let bit = |wanted, bit| if wanted { bit } else { 0 };
        let bits = bit(interest.readable, what::READ) | bit(interest.writable, what::WRITE);
        // Before the look under the lock: the stack thread looks here after it has put something there.
        stream.interest.store(bits, Ordering::Release);
        let flow = stream.flow();
        let mut ready = 0;
        if interest.readable {
            let receive = stream.receive.lock(flow);
            let something = !receive.bytes.is_empty() || receive.ended || receive.broken;
            ready |= bit(something, what::READ);
        }
        if interest.writable {
            let send = stream.send.lock(flow);
            ready |= bit(send.bytes.len() < self.shared.room.1, what::WRITE);
        }
        self.raise(sock, ready);
    }

    /// Copies received bytes out. `Ok(0)`: the peer sends no more.
    #[inline(never)]
    pub fn mtcp_read(&mut self, sock: SockId, buf: &mut [u8]) -> Result<usize, Refused> {
        let stream = stream(&self.shared, sock).ok_or(Refused::NoStream)?;
        let flow = stream.flow();
        let mut receive = stream.receive.lock(flow);
        if receive.bytes.is_empty() {
            return match (receive.broken, receive.ended) {
                (true, _) => Err(Refused::Broken),
                (_, true) => Ok(0),
                _ => Err(Refused::Again),
            };
        }
        let copied = copy_to_user(&mut receive.bytes, buf);
        let left = !receive.bytes.is_empty() || receive.ended || receive.broken;
        let more = receive.more;
        drop(receive);
        // There is room again for what the engine holds back: its window opens.
        if more && !stream.on_ackq.swap(true, Ordering::AcqRel) {
            let gone = || self.shared.epoll.has_ended();
            jobs::push(&mut self.ask.ack, flow, Job::new(sock.0), gone);
        }
        if left && stream.interest.load(Ordering::Relaxed) & what::READ != 0 {
            self.raise(sock, what::READ);
        }
        Ok(copied)
    }

    /// Copies bytes into the send buffer, from which the stack thread sends them; how many there was room for.
    #[inline(never)]
    pub fn mtcp_write(&mut self, sock: SockId, bytes: &[u8]) -> Result<usize, Refused> {
        let stream = stream(&self.shared, sock).ok_or(Refused::NoStream)?;
        let flow = stream.flow();
        let room = self.shared.room.1;
        let mut send = stream.send.lock(flow);
        if send.closed {
            return Err(Refused::Closed);
        }
        let free = room.saturating_sub(send.bytes.len());
        let accepted = free.min(bytes.len());
        sb_put(&mut send.bytes, &bytes[..accepted]);
        send.wants_room |= accepted < bytes.len();
        drop(send);
        let asleep = self.shared.asleep.load(Ordering::Relaxed);
        let more = [clip(accepted), clip(free), u32::from(asleep)];
        probe::emit_with(points::SEND_CALL, flow, clip(bytes.len()), more);
        if accepted < bytes.len() {
            probe::emit_with(points::FULL, flow, clip(room), [3, 0, 0]);
        }
        // Pairs with the stack thread's store before it looks into the buffer: it sees these bytes, or is asked again.
        if accepted > 0 && !stream.on_sendq.swap(true, Ordering::AcqRel) {
            let gone = || self.shared.epoll.has_ended();
            jobs::push(&mut self.ask.send, flow, Job::new(sock.0), gone);
        }
        if accepted == 0 && !bytes.is_empty() {
            return Err(Refused::Again);
        }
        if accepted < free && stream.interest.load(Ordering::Relaxed) & what::WRITE != 0 {
            self.raise(sock, what::WRITE);
        }
        Ok(accepted)
    }

    /// Sends FIN after what was written; reading goes on. (mTCP itself has no such call.)
    #[inline(never)]
    pub fn mtcp_shutdown(&mut self, sock: SockId) {
        let mut job = Job::new(sock.0);
        job.half = true;
        self.let_go(sock, job, |ask| &mut ask.close);
    }

    /// Gives the stream back: FIN after what was written.
    #[inline(never)]
    pub fn mtcp_close(&mut self, sock: SockId) {
        let Some(stream) = stream(&self.shared, sock) else {
            return;
        };
        stream.interest.store(0, Ordering::Relaxed);
        let broken = stream.receive.lock(stream.flow()).broken;
        let job = Job::new(sock.0);
        self.let_go(sock, job, |ask| {
            if broken {
                &mut ask.destroy
            } else {
                &mut ask.close
            }
        });
    }

    /// Gives the stream back with a RST.
    #[inline(never)]
    pub fn mtcp_abort(&mut self, sock: SockId) {
        if let Some(stream) = stream(&self.shared, sock) {
            stream.interest.store(0, Ordering::Relaxed);
        }
        self.let_go(sock, Job::new(sock.0), |ask| &mut ask.reset);
    }

    /// The stream's label in events.
    pub fn flow(&self, sock: SockId) -> Flow {
        stream(&self.shared, sock).map_or(Flow::NONE, Stream::flow)
    }

    fn let_go(
        &mut self,
        sock: SockId,
        job: Job,
        queue: impl FnOnce(&mut Ask) -> &mut ringbuf::HeapProd<Job>,
    ) {
        if let Some(stream) = stream(&self.shared, sock) {
            let gone = || self.shared.epoll.has_ended();
            jobs::push(queue(&mut self.ask), stream.flow(), job, gone);
        }
    }

    /// Events of the application's own making, told with the next batch.
    fn raise(&mut self, sock: SockId, ready: u32) {
        let Some(stream) = stream(&self.shared, sock) else {
            return;
        };
        for bit in [what::READ, what::WRITE] {
            if ready & bit != 0 && stream.raise(bit) {
                let conn = Some(sock.0);
                self.shadow.push_back(Entry { conn, what: bit });
            }
        }
    }
}

/// The place of a stream, if the name is not stale.
fn stream(shared: &Shared, sock: SockId) -> Option<&Stream> {
    let stream = shared.streams.get(sock.index())?;
    stream.is(sock.0).then_some(stream)
}

/// An entry that has come to the application; `None` if it is of a stream that is gone.
fn arrived(shared: &Shared, entry: Entry) -> Option<EpollEvent> {
    let source = match entry.conn {
        None => {
            // Before the listener is looked at: whoever is queued afterwards is told of.
            shared.accept_raised.store(false, Ordering::Release);
            Source::Listener
        }
        Some(conn) => {
            let place = shared.streams.get(conn.index())?;
            if !place.is(conn) {
                return None;
            }
            place.lower(entry.what);
            Source::Stream(SockId(conn))
        }
    };
    Some(EpollEvent {
        source,
        readable: entry.what & what::READ != 0,
        writable: entry.what & what::WRITE != 0,
        ended: entry.what & what::END != 0,
    })
}

#[inline(never)]
fn copy_to_user(from: &mut VecDeque<u8>, to: &mut [u8]) -> usize {
    let (first, second) = from.as_slices();
    let one = first.len().min(to.len());
    let two = second.len().min(to.len() - one);
    to[..one].copy_from_slice(&first[..one]);
    to[one..one + two].copy_from_slice(&second[..two]);
    from.drain(..one + two);
    one + two
}

#[inline(never)]
fn sb_put(to: &mut VecDeque<u8>, bytes: &[u8]) {
    to.extend(bytes);
}

fn clip(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
