//! Connections as the slow path knows them, and the places they have.
//!
//! In: keys; out: places that are the flow table's own, so that one number names a connection in both. It refuses to
//! know packets.

use super::rate::Rate;
use crate::entry::Opaque;
use crate::flow::Key;
use crate::table::MAX_FLOWS;
use stack_tcp::seq::Seq;
use std::collections::HashMap;

/// What a SYN says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syn {
    /// Who.
    pub key: Key,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// The core it came to, and will stay on.
    pub core: u8,
    /// Its first number.
    pub irs: Seq,
    /// Its largest payload, options not counted.
    pub mss: u16,
    /// Its window's scale, if it scales.
    pub scale: Option<u8>,
    /// Its clock, if it keeps timestamps.
    pub clock: Option<u32>,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// SYN-ACK was sent so many times.
    SynReceived {
        /// Times.
        tries: u32,
    },
    /// The fast path has it.
    Open,
    /// The fast path has it, and its application is through with it.
    Closing,
    /// It has ended before its time, and its application has not closed it yet.
    Dead,
}

/// One connection.
#[derive(Debug)]
pub struct Conn {
    /// What began it.
    pub syn: Syn,
    /// Our first number.
    pub iss: Seq,
    /// How far it is.
    pub state: State,
    /// Which of those that had the place.
    pub generation: u16,
    /// Whose it is.
    pub context: u8,
    /// The application's name for it.
    pub opaque: Opaque,
    /// Its rings in the context's memory.
    pub slot: u32,
    /// How fast it may send.
    pub rate: Rate,
    /// When congestion control looked last, in ns.
    pub looked: u64,
    /// When something was acknowledged last, or there was nothing to acknowledge.
    pub progress: u64,
    /// Times that it was sent again since.
    pub again: u32,
    /// Of those, the last ones that nothing at all was heard after.
    pub unheard: u32,
}

/// All connections of a service.
#[derive(Debug, Default)]
pub struct Conns {
    places: Vec<Option<Conn>>,
    free: Vec<u32>,
    by_key: HashMap<Key, u32>,
    /// Those that congestion control visits.
    visited: Vec<u32>,
    /// By place: it is among those.
    listed: Vec<bool>,
    cursor: usize,
}

impl Conns {
    /// Connections there are, those that have ended and are not closed included.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// The place that the next connection gets; `None` when there is none left.
    pub fn next_place(&self) -> Option<u32> {
        let index = match self.free.last() {
            Some(&index) => index,
            None => self.places.len() as u32,
        };
        (index < MAX_FLOWS).then_some(index)
    }

    /// Puts a connection into [`Conns::next_place`].
    pub fn insert(&mut self, conn: Conn) -> Option<u32> {
        let index = self.next_place()?;
        self.by_key.insert(conn.syn.key, index);
        if self.free.pop().is_some() {
            self.places[index as usize] = Some(conn);
        } else {
            self.places.push(Some(conn));
        }
        Some(index)
    }

    /// The connection at a place.
    pub fn get(&self, index: u32) -> Option<&Conn> {
        self.places.get(index as usize)?.as_ref()
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut Conn> {
        self.places.get_mut(index as usize)?.as_mut()
    }

    /// The place of the connection with this key, unless it is dead.
    pub fn find(&self, key: Key) -> Option<u32> {
        self.by_key.get(&key).copied()
    }

    /// The key is free for another connection; the place is not.
    pub fn forget_key(&mut self, key: Key) {
        self.by_key.remove(&key);
    }

    /// Takes a connection out of its place.
    pub fn remove(&mut self, index: u32) -> Option<Conn> {
        let conn = self.places.get_mut(index as usize)?.take()?;
        if self.by_key.get(&conn.syn.key) == Some(&index) {
            self.by_key.remove(&conn.syn.key);
        }
        self.free.push(index);
        Some(conn)
    }

    /// Congestion control visits the connection from here on, until it is no more.
    pub fn visit(&mut self, index: u32) {
        let at = index as usize;
        if self.listed.len() <= at {
            self.listed.resize(at + 1, false);
        }
        // A predecessor in this place may not have been noticed to be gone yet.
        if !std::mem::replace(&mut self.listed[at], true) {
            self.visited.push(index);
        }
    }

    /// The next one to visit, each in its turn; `None` when there is none.
    pub fn next_visit(&mut self) -> Option<u32> {
        loop {
            if self.cursor >= self.visited.len() {
                self.cursor = 0;
            }
            let index = *self.visited.get(self.cursor)?;
            let open = |c: &Conn| matches!(c.state, State::Open | State::Closing);
            if self.get(index).is_some_and(open) {
                self.cursor += 1;
                return Some(index);
            }
            self.visited.swap_remove(self.cursor);
            self.listed[index as usize] = false;
        }
    }

    /// Connections that congestion control visits.
    pub fn visits(&self) -> usize {
        self.visited.len()
    }

    /// Places of a context's connections.
    pub fn of_context(&self, context: u8) -> Vec<u32> {
        let places = self.places.iter().enumerate();
        let ours = places.filter(|(_, c)| c.as_ref().is_some_and(|c| c.context == context));
        ours.map(|(index, _)| index as u32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RateControl;

    fn conn(peer_port: u16) -> Conn {
        let key = Key {
            peer_port,
            ..Key::default()
        };
        Conn {
            syn: Syn {
                key,
                mac: [0; 6],
                core: 0,
                irs: Seq(0),
                mss: 1448,
                scale: None,
                clock: None,
            },
            iss: Seq(0),
            state: State::Open,
            generation: 0,
            context: 0,
            opaque: Opaque::default(),
            slot: 0,
            rate: Rate::new(RateControl::Dctcp),
            looked: 0,
            progress: 0,
            again: 0,
            unheard: 0,
        }
    }

    /// As many visits as there are connections visit each once, wherever they begin and whoever has come in between.
    #[test]
    fn all_are_visited_in_turn() {
        let mut conns = Conns::default();
        for n in 0..7 {
            let index = conns.insert(conn(n)).unwrap();
            conns.visit(index);
            // One visit more than before, so that rounds begin anywhere.
            assert!(conns.next_visit().is_some());
            let mut round: Vec<_> = (0..conns.visits())
                .filter_map(|_| conns.next_visit())
                .collect();
            round.sort_unstable();
            assert_eq!(round, (0..=u32::from(n)).collect::<Vec<_>>());
        }
    }
}
