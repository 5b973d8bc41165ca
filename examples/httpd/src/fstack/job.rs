//! The callback: a batch of events, each connection read and answered in turn.
//!
//! In: events; out: the job's calls on F-Stack's sockets. An event tells of data once: it is read until there is none.

use crate::planted::Planted;
use bypassprof_probe::Flow;
use httpjob::{Next, Stream};
use stack_fstack::{App, Kevent, Kqueue, Sockets};
use stack_netio::Device;
use stack_tcp::ConnId;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Most events of one callback.
const EVENTS: usize = 2048;

/// The HTTP job of one stack.
pub struct Job {
    job: httpjob::Job<ConnId>,
    events: Vec<Kevent>,
    planted: Planted,
}

impl Job {
    /// A job whose replies have `body` letters, with what is planted into it.
    pub fn new(body: usize, planted: Planted) -> Job {
        Job {
            job: httpjob::Job::new(body),
            events: Kqueue::batch(EVENTS),
            planted,
        }
    }

    /// The number of requests answered, to look at from another thread.
    pub fn requests(&self) -> Arc<AtomicU64> {
        self.job.requests()
    }

    fn serve<D: Device>(&mut self, event: Kevent, sockets: &mut Sockets<'_, D>) {
        let (conn, index) = (event.conn, event.conn.index());
        if event.accepted {
            self.job.accept(conn, index);
        }
        let room = event.writable || event.ended;
        let mut stream = Turn {
            event,
            sockets,
            planted: &mut self.planted,
        };
        if self.job.turn(conn, index, room, &mut stream) == Next::Close {
            sockets.ff_close(conn);
        }
    }
}

impl App for Job {
    fn turn<D: Device>(&mut self, sockets: &mut Sockets<'_, D>) {
        for index in 0..sockets.ff_kevent(&mut self.events) {
            self.serve(self.events[index], sockets);
        }
    }
}

struct Turn<'a, 's, D> {
    event: Kevent,
    sockets: &'a mut Sockets<'s, D>,
    planted: &'a mut Planted,
}

impl<D: Device> Stream for Turn<'_, '_, D> {
    fn flow(&self) -> Flow {
        self.sockets.flow(self.event.conn)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        Some(self.sockets.ff_read(self.event.conn, buffer))
    }

    fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        let flow = self.flow();
        self.planted.before_reply(flow, bytes);
        self.sockets.ff_write(self.event.conn, bytes).ok()
    }

    fn shutdown(&mut self) {
        self.sockets.ff_shutdown(self.event.conn);
    }

    fn has_ended(&self) -> bool {
        self.event.ended
    }
}
