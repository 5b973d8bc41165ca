//! A connection as its application has it: rings, positions of its own counting, news that were not told yet.
//!
//! In: entries of the service, which may be anything; out: bytes, bumps to be published. It refuses to know queues.

use super::context::Nonsense;
use crate::entry::{Arx, Atx, FlowId, Opaque};
use crate::shm::{ByteRing, Region};
use bypassprof_probe::Flow as Label;

/// A connection's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConnId(pub(super) Opaque);

impl ConnId {
    /// A small number, unique among the connections of its context that exist now: an index for tables.
    pub fn index(self) -> usize {
        self.0.index as usize
    }
}

/// What is new on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Which.
    pub conn: ConnId,
    /// It is new, and the application's to close.
    pub accepted: bool,
    /// There is data to read.
    pub readable: bool,
    /// There is room again after a write that took less than offered.
    pub writable: bool,
    /// The peer sends no more.
    pub ended: bool,
    /// The connection is over before its time.
    pub failed: bool,
}

/// The connection takes no more data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this connection is closed for writing")]
pub struct NotOpen;

/// A connection that the service has given us.
#[derive(Debug)]
pub struct Conn {
    /// Its name in the service.
    pub flow: FlowId,
    /// The core that serves it.
    pub core: usize,
    /// Its label in events.
    pub label: Label,
    rx: ByteRing,
    tx: ByteRing,
    rx_pos: u32,
    /// Bytes that can be read.
    rx_avail: u32,
    /// Bytes that were read and not given back.
    rx_bump: u32,
    tx_pos: u32,
    /// Bytes that were written and not acknowledged.
    tx_used: u32,
    /// Of those, bytes that the service does not know of.
    tx_bump: u32,
    /// Counter at the oldest write that the service does not know of; 0: not known.
    written: u64,
    wants_room: bool,
    done: bool,
    done_told: bool,
    /// It is over.
    pub failed: bool,
    /// The application has closed it.
    pub closed: bool,
    /// It waits to be published.
    pub dirty: bool,
    /// News; `Some` while they wait to be told.
    pub news: Option<Event>,
}

impl Conn {
    /// A new one.
    pub fn new(flow: FlowId, core: usize, label: Label, (rx, tx): (ByteRing, ByteRing)) -> Conn {
        Conn {
            flow,
            core,
            label,
            rx,
            tx,
            rx_pos: 0,
            rx_avail: 0,
            rx_bump: 0,
            tx_pos: 0,
            tx_used: 0,
            tx_bump: 0,
            written: 0,
            wants_room: false,
            done: false,
            done_told: false,
            failed: false,
            closed: false,
            dirty: false,
            news: None,
        }
    }

    /// Takes an entry in; what is new by it. Bumps that cannot be are an error and change nothing.
    pub fn update(&mut self, arx: &Arx) -> Result<Event, Nonsense> {
        let room = self.rx.bytes() - self.rx_avail - self.rx_bump;
        let known = self.tx_used - self.tx_bump;
        if arx.rx_bump > room || arx.tx_bump > known {
            return Err(Nonsense);
        }
        self.rx_avail += arx.rx_bump;
        self.tx_used -= arx.tx_bump;
        let writable = arx.tx_bump > 0 && std::mem::take(&mut self.wants_room);
        Ok(Event {
            readable: arx.rx_bump > 0,
            writable,
            ended: arx.fin,
            ..Event::default()
        })
    }

    /// Copies received bytes out; 0 when there are none now.
    pub fn recv_simple(&mut self, region: &Region, out: &mut [u8]) -> usize {
        let n = out.len().min(self.rx_avail as usize);
        self.rx.read(region, self.rx_pos, &mut out[..n]);
        self.rx_pos = self.rx_pos.wrapping_add(n as u32);
        self.rx_avail -= n as u32;
        self.rx_bump += n as u32;
        n
    }

    /// Room in the transmit ring.
    pub fn room(&self) -> u32 {
        self.tx.bytes() - self.tx_used
    }

    /// Copies bytes in as far as there is room, at a reading of the counter.
    pub fn send_simple(
        &mut self,
        region: &Region,
        bytes: &[u8],
        now: u64,
    ) -> Result<usize, NotOpen> {
        if self.failed || self.done {
            return Err(NotOpen);
        }
        let n = bytes.len().min(self.room() as usize);
        self.tx.write(region, self.tx_pos, &bytes[..n]);
        self.tx_pos = self.tx_pos.wrapping_add(n as u32);
        self.tx_used += n as u32;
        if self.tx_bump == 0 {
            self.written = now;
        }
        self.tx_bump += n as u32;
        self.wants_room = n < bytes.len();
        Ok(n)
    }

    /// Nothing more will be written.
    pub fn finish(&mut self) {
        self.done = true;
    }

    /// What the service does not know yet, with the counter at the oldest write in it; `None`: it knows all.
    pub fn unpublished(&self) -> Option<(Atx, u64)> {
        let done = self.done && !self.done_told;
        if self.failed || (self.rx_bump == 0 && self.tx_bump == 0 && !done) {
            return None;
        }
        let atx = Atx {
            flow: self.flow,
            rx_bump: self.rx_bump,
            tx_bump: self.tx_bump,
            done: self.done,
        };
        Some((atx, self.written))
    }

    /// The service knows all.
    pub fn published(&mut self) {
        self.rx_bump = 0;
        self.tx_bump = 0;
        self.done_told = self.done;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn conn() -> (Conn, Region) {
        let (region, _file) = Region::create(8192).unwrap();
        let rings = (ByteRing::new(0, 1024), ByteRing::new(4096, 1024));
        (Conn::new(FlowId::default(), 0, Label::NONE, rings), region)
    }

    proptest! {
        /// Any entries of the service leave the sums in order, and no read or write is larger than its ring.
        #[test]
        fn any_entries_keep_the_sums(steps in prop::collection::vec((any::<u32>(), 0u32..700, 0usize..1500, any::<bool>()), 0..60)) {
            let (mut conn, region) = conn();
            let mut buffer = [0; 1500];
            for (wild, bump, len, publish) in steps {
                for (rx_bump, tx_bump) in [(bump, bump / 2), (wild, bump), (bump, wild)] {
                    let _ = conn.update(&Arx { rx_bump, tx_bump, ..Arx::default() });
                }
                let read = conn.recv_simple(&region, &mut buffer[..len]);
                prop_assert!(read <= 1024);
                let _ = conn.send_simple(&region, &buffer[..len], 1);
                if publish {
                    conn.published();
                }
                prop_assert!(conn.rx_avail + conn.rx_bump <= 1024);
                prop_assert!(conn.tx_bump <= conn.tx_used && conn.tx_used <= 1024);
            }
        }
    }

    /// What was not published cannot have been acknowledged.
    #[test]
    fn unpublished_bytes_are_not_acknowledged() {
        let (mut conn, region) = conn();
        assert_eq!(conn.send_simple(&region, b"reply", 9), Ok(5));
        let arx = Arx {
            tx_bump: 5,
            ..Arx::default()
        };
        assert!(conn.update(&arx).is_err());
        let (atx, written) = conn.unpublished().unwrap();
        assert_eq!((atx.tx_bump, written), (5, 9));
        conn.published();
        assert!(conn.update(&arx).is_ok() && conn.unpublished().is_none());
    }
}
