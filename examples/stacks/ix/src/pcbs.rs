//! What the two arrays' sides share about each connection of this core: bytes told, given back, sent and acknowledged.
//!
//! In: connections that knock and close; out: their entries by name. It refuses to know TCP's state.

use crate::net::Piece;
use stack_tcp::{Closing, ConnId};

/// One connection's entry.
#[derive(Debug)]
pub struct Pcb {
    pub conn: ConnId,
    /// The accept call was run: conditions may be told.
    pub accepted: bool,
    /// The peer sends no more; kept for the time before it is accepted.
    pub ended: bool,
    /// It is over; kept for the time before it is accepted.
    pub dead: Option<Closing>,
    /// Received bytes that were told and not given back.
    pub told: usize,
    /// Of those, given back by a call that has not run yet.
    pub done: usize,
    /// Bytes taken by `send` and not acknowledged.
    pub unacked: usize,
    /// Of those, handed to TCP.
    pub in_tcp: usize,
    /// The others, where they lie.
    pub pieces: Vec<Piece>,
    /// The application sends no more: its FIN leaves in the segment that carries its last bytes.
    pub ending: bool,
    /// The application has given it back: it hears of it no more.
    pub closing: bool,
}

impl Pcb {
    fn new(conn: ConnId) -> Pcb {
        Pcb {
            conn,
            accepted: false,
            ended: false,
            dead: None,
            told: 0,
            done: 0,
            unacked: 0,
            in_tcp: 0,
            pieces: Vec::new(),
            ending: false,
            closing: false,
        }
    }
}

/// All entries, by the connection's index.
#[derive(Debug, Default)]
pub struct Pcbs {
    entries: Vec<Option<Pcb>>,
}

impl Pcbs {
    /// Makes an entry. The connection of an earlier entry in its place is returned: TCP has told of its end.
    pub fn insert(&mut self, conn: ConnId) -> Option<ConnId> {
        let index = conn.index();
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, || None);
        }
        self.entries[index]
            .replace(Pcb::new(conn))
            .map(|old| old.conn)
    }

    /// The entry of a connection; `None` for a stale name.
    pub fn get(&self, conn: ConnId) -> Option<&Pcb> {
        let entry = self.entries.get(conn.index())?;
        entry.as_ref().filter(|pcb| pcb.conn == conn)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, conn: ConnId) -> Option<&mut Pcb> {
        let entry = self.entries.get_mut(conn.index())?;
        entry.as_mut().filter(|pcb| pcb.conn == conn)
    }

    /// Forgets a connection.
    pub fn remove(&mut self, conn: ConnId) {
        if let Some(entry) = self.entries.get_mut(conn.index())
            && entry.as_ref().is_some_and(|pcb| pcb.conn == conn)
        {
            *entry = None;
        }
    }
}
