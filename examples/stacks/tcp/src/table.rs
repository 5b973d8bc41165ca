//! Connections by name and by what is in a segment's header.
//!
//! In: addresses and ports; out: connections. One word names a connection among those to one local address; words are
//! hashed with a secret, so that strangers cannot choose collisions.

use crate::conn::Conn;
use crate::event::ConnId;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

/// The peer's address and port, and our port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(u64);

impl Key {
    /// Of a connection.
    pub fn new(peer: u32, peer_port: u16, local_port: u16) -> Key {
        Key((u64::from(peer) << 32) | (u64::from(peer_port) << 16) | u64::from(local_port))
    }

    /// All of it.
    pub fn word(self) -> u64 {
        self.0
    }
}

#[derive(Clone, Copy, Debug)]
struct Keyed(u64);

struct KeyedHasher(u64);

impl Hasher for KeyedHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&b| self.write_u64(u64::from(b)));
    }
    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl BuildHasher for Keyed {
    type Hasher = KeyedHasher;
    fn build_hasher(&self) -> KeyedHasher {
        KeyedHasher(self.0)
    }
}

#[derive(Debug, Default)]
struct Place {
    generation: u32,
    conn: Option<Box<Conn>>,
}

/// Connections that room is made for at the start.
pub(crate) const AT_ONCE: usize = 1 << 20;

/// All connections of an engine.
#[derive(Debug)]
pub(crate) struct Table {
    places: Vec<Place>,
    free: Vec<u32>,
    index: HashMap<Key, u32, Keyed>,
    most: usize,
}

impl Table {
    /// Room for `most` connections; the secret is for the hash.
    pub fn new(most: usize, secret: u64) -> Table {
        Table {
            // All at once: a table that grows makes one packet wait for all connections. Memory is touched as needed.
            places: Vec::with_capacity(most.min(AT_ONCE)),
            free: Vec::with_capacity(most.min(AT_ONCE)),
            index: HashMap::with_capacity_and_hasher(most.min(AT_ONCE), Keyed(secret)),
            most,
        }
    }

    /// Connections that exist.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether no more can be made.
    pub fn is_full(&self) -> bool {
        self.len() >= self.most
    }

    /// The name of the connection with this key.
    pub fn find(&self, key: Key) -> Option<ConnId> {
        let &index = self.index.get(&key)?;
        let generation = self.places[index as usize].generation;
        Some(ConnId { index, generation })
    }

    /// Adds a connection; the caller knows that there is room and none with its key.
    pub fn insert(&mut self, conn: Box<Conn>) -> ConnId {
        let key = conn.key();
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            self.places.len() as u32 - 1
        });
        let place = &mut self.places[index as usize];
        place.conn = Some(conn);
        self.index.insert(key, index);
        ConnId {
            index,
            generation: place.generation,
        }
    }

    /// The connection of this name.
    pub fn get(&self, id: ConnId) -> Option<&Conn> {
        let place = self.places.get(id.index as usize)?;
        (place.generation == id.generation).then_some(())?;
        place.conn.as_deref()
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        let place = self.places.get_mut(id.index as usize)?;
        (place.generation == id.generation).then_some(())?;
        place.conn.as_deref_mut()
    }

    /// Forgets a connection; its name is stale from here on.
    pub fn remove(&mut self, id: ConnId) {
        let Some(place) = self.places.get_mut(id.index as usize) else {
            return;
        };
        if place.generation == id.generation
            && let Some(conn) = place.conn.take()
        {
            place.generation = place.generation.wrapping_add(1);
            self.index.remove(&conn.key());
            self.free.push(id.index);
        }
    }
}
