//! What the application's callback may do: take events, read, write, close, in F-Stack's own words.
//!
//! In: calls from inside the callback; out: TCP segments at once, run to completion. It refuses to block.

use crate::kqueue::{Kevent, Kqueue};
use bypassprof_probe::Flow;
use stack_netio::Device;
use stack_port::Port;
use stack_tcp::{ConnId, Engine, TcpError, Time};

/// The stack as its application sees it, for the length of one callback.
pub struct Sockets<'a, D> {
    pub(crate) engine: &'a mut Engine,
    pub(crate) port: &'a mut Port<D>,
    pub(crate) kqueue: &'a mut Kqueue,
    pub(crate) now: Time,
    pub(crate) taken: u32,
}

impl<D: Device> Sockets<'_, D> {
    /// Fills `events` with what is new, without waiting; how many.
    #[inline(never)]
    pub fn ff_kevent(&mut self, events: &mut [Kevent]) -> usize {
        let found = self.kqueue.kqueue_scan(events);
        self.taken += found as u32;
        found
    }

    /// Copies received bytes out; 0 when there are none now.
    #[inline(never)]
    pub fn ff_read(&mut self, conn: ConnId, buf: &mut [u8]) -> usize {
        self.engine.read(conn, buf, self.now, self.port)
    }

    /// Copies bytes into the send buffer and sends what windows allow. Fewer than offered: the buffer is full, and a
    /// writable event follows.
    #[inline(never)]
    pub fn ff_write(&mut self, conn: ConnId, bytes: &[u8]) -> Result<usize, TcpError> {
        let accepted = self.engine.write(conn, bytes)?;
        if accepted > 0 {
            self.engine.output(conn, self.now, self.port);
        }
        Ok(accepted)
    }

    /// Sends FIN after what was written; reading goes on.
    #[inline(never)]
    pub fn ff_shutdown(&mut self, conn: ConnId) {
        self.engine.shutdown(conn, self.now, self.port);
    }

    /// Gives the connection back: FIN after what was written.
    #[inline(never)]
    pub fn ff_close(&mut self, conn: ConnId) {
        self.kqueue.forget(conn);
        self.engine.close(conn, self.now, self.port);
    }

    /// The connection's label in events.
    pub fn flow(&self, conn: ConnId) -> Flow {
        self.engine.flow(conn)
    }
}
