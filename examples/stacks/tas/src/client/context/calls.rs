//! An application's calls on its connections: read, write, end, close.
//!
//! In: bytes; out: bytes in the rings, published by the next poll. It refuses to wait.

use super::{Context, Is, Place, open};
use crate::client::conn::{ConnId, NotOpen};
use bypassprof_probe::{self as probe, Flow as Label, points};

impl Context {
    /// Copies received bytes out; 0 when there are none now.
    #[inline(never)]
    pub fn tas_read(&mut self, conn: ConnId, out: &mut [u8]) -> usize {
        let Some(it) = open(&mut self.places, conn.0) else {
            return 0;
        };
        let n = it.recv_simple(&self.region, out);
        if n > 0 {
            self.soil(conn);
        }
        n
    }

    /// Copies bytes into the transmit ring; the service sees them with the next poll. Fewer than offered: the ring is
    /// full, and a writable event follows.
    #[inline(never)]
    pub fn tas_write(&mut self, conn: ConnId, bytes: &[u8]) -> Result<usize, NotOpen> {
        let it = open(&mut self.places, conn.0).ok_or(NotOpen)?;
        let room = it.room();
        let now = if probe::enabled() {
            probe::now().raw()
        } else {
            0
        };
        let n = it.send_simple(&self.region, bytes, now)?;
        let asked = bytes.len().min(u32::MAX as usize) as u32;
        probe::emit_with(points::SEND_CALL, it.label, asked, [n as u32, room, 0]);
        if n > 0 {
            self.soil(conn);
        }
        Ok(n)
    }

    /// Sends FIN after what was written; reading goes on.
    pub fn tas_shutdown(&mut self, conn: ConnId) {
        if let Some(it) = open(&mut self.places, conn.0) {
            it.finish();
            self.soil(conn);
        }
    }

    /// Gives the connection back: FIN after what was written.
    pub fn tas_close(&mut self, conn: ConnId) {
        if let Some(it) = open(&mut self.places, conn.0) {
            it.finish();
            it.closed = true;
            it.news = None;
            self.soil(conn);
        }
    }

    /// The connection's label in events.
    pub fn flow(&self, conn: ConnId) -> Label {
        match self.places.get(conn.index()) {
            Some(Place {
                generation,
                is: Is::Open(it),
            }) if *generation == conn.0.generation => it.label,
            _ => Label::NONE,
        }
    }

    pub(super) fn soil(&mut self, conn: ConnId) {
        if let Some(it) = open(&mut self.places, conn.0)
            && !std::mem::replace(&mut it.dirty, true)
        {
            self.dirty.push_back(conn.0);
        }
    }
}
