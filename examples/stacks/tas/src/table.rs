//! All flows of a service: by place, and by what is in a segment's header.
//!
//! In: keys; out: places. The slow path alone adds and removes; fast-path threads look up without a lock and check the
//! record they find under its own. Keys are hashed with a secret, so that strangers cannot choose collisions; a bucket
//! is a cache line of eight, and a flow whose bucket is full is refused, as TAS refuses it.

use crate::flow::{Flow, Key};
use bypassprof_probe::{self as probe, Flow as Label, points};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, TryLockError};

const BUCKET: usize = 8;
/// Flows whose records are made together when the first of them is needed.
const CHUNK: usize = 1024;
/// Most flows: TAS's own limit.
pub const MAX_FLOWS: u32 = crate::shm::MAX_SLOTS;

#[repr(align(64))]
#[derive(Default)]
struct Bucket([AtomicU64; BUCKET]);

/// Records that are made when the first of them is needed.
type Chunk = OnceLock<Box<[Mutex<Flow>]>>;

/// The flows.
pub struct Table {
    buckets: Box<[Bucket]>,
    chunks: Box<[Chunk]>,
    seed: u64,
}

impl Table {
    /// A table of [`MAX_FLOWS`] places.
    pub fn new(seed: u64) -> Table {
        Table {
            buckets: (0..MAX_FLOWS as usize / 2)
                .map(|_| Bucket::default())
                .collect(),
            chunks: (0..MAX_FLOWS as usize / CHUNK)
                .map(|_| OnceLock::new())
                .collect(),
            seed,
        }
    }

    /// The key mixed with the secret (multiply and fold).
    pub fn hash(&self, key: Key) -> u64 {
        let ports = (u64::from(key.peer_port) << 16) | u64::from(key.port);
        let word = (u64::from(key.peer) << 32) | ports;
        let mut hash = self.seed ^ 0x2d35_8dcc_aa6c_78a5;
        for secret in [0x8bb8_4b93_962e_acc9, 0x9e37_79b9_7f4a_7c15_u64] {
            let product = u128::from(hash ^ word) * u128::from(secret);
            hash = (product as u64) ^ ((product >> 64) as u64);
        }
        hash
    }

    fn bucket(&self, hash: u64) -> &Bucket {
        &self.buckets[hash as usize % self.buckets.len()]
    }

    /// Words of a bucket: the hash's high half, and the place plus one.
    fn word(hash: u64, index: u32) -> u64 {
        (hash & (u64::MAX << 32)) | (u64::from(index) + 1)
    }

    /// Adds a flow that is in its place already; `false` when its bucket is full. For the slow path alone.
    pub fn insert(&self, key: Key, index: u32) -> bool {
        let hash = self.hash(key);
        let bucket = self.bucket(hash);
        let free = bucket.0.iter().find(|w| w.load(Ordering::Relaxed) == 0);
        if let Some(free) = free {
            // Relaxed: the record is read under its lock, which orders it.
            free.store(Table::word(hash, index), Ordering::Relaxed);
        }
        free.is_some()
    }

    /// Takes a flow out. For the slow path alone.
    pub fn remove(&self, key: Key, index: u32) {
        let hash = self.hash(key);
        for word in &self.bucket(hash).0 {
            if word.load(Ordering::Relaxed) == Table::word(hash, index) {
                word.store(0, Ordering::Relaxed);
            }
        }
    }

    /// The open flow of this key, locked.
    #[inline]
    pub fn find(&self, key: Key) -> Option<(u32, MutexGuard<'_, Flow>)> {
        let hash = self.hash(key);
        for word in &self.bucket(hash).0 {
            let word = word.load(Ordering::Relaxed);
            if word == 0 || (word ^ hash) >> 32 != 0 {
                continue;
            }
            let index = (word as u32) - 1;
            if let Some(flow) = self.lock(index)
                && flow.open
                && flow.key == key
            {
                return Some((index, flow));
            }
        }
        None
    }

    /// The record at a place, locked by spinning; `None` for places that were never used.
    #[inline]
    pub fn lock(&self, index: u32) -> Option<MutexGuard<'_, Flow>> {
        let chunk = self.chunks.get(index as usize / CHUNK)?.get()?;
        Some(spin(chunk.get(index as usize % CHUNK)?))
    }

    /// Makes the place there. For the slow path alone.
    pub fn reserve(&self, index: u32) {
        if let Some(chunk) = self.chunks.get(index as usize / CHUNK) {
            chunk.get_or_init(|| (0..CHUNK).map(|_| Mutex::default()).collect());
        }
    }
}

/// TAS's per-flow spin lock; spinning is told.
#[inline]
fn spin(flow: &Mutex<Flow>) -> MutexGuard<'_, Flow> {
    match flow.try_lock() {
        Ok(guard) => guard,
        _ => util_spin_lock(flow),
    }
}

#[cold]
#[inline(never)]
fn util_spin_lock(flow: &Mutex<Flow>) -> MutexGuard<'_, Flow> {
    let start = probe::now();
    let mut spins = 0u32;
    let guard = loop {
        match flow.try_lock() {
            Ok(guard) => break guard,
            // A holder that panicked has ended its thread; the record's sums are kept at every step.
            Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
        }
        spins += 1;
        // The holder may be waiting for this very CPU.
        if spins.is_multiple_of(1024) {
            std::thread::yield_now();
        }
    };
    let waited = probe::now().since(start).ticks().min(u64::from(u32::MAX));
    let label: Label = guard.label;
    probe::emit(points::LOCK_WAIT, label, waited as u32);
    guard
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> Key {
        Key {
            peer: 0x0a7b_0001,
            peer_port: n as u16,
            port: 8080,
        }
    }

    fn put(table: &Table, n: u32) -> bool {
        table.reserve(n);
        let mut flow = table.lock(n).unwrap();
        (flow.open, flow.key) = (true, key(n));
        drop(flow);
        table.insert(key(n), n)
    }

    /// 50,000 flows are found by their keys, and not any more once they are taken out.
    #[test]
    fn flows_are_found_by_their_keys() {
        let table = Table::new(7);
        let refused = (0..50_000).filter(|&n| !put(&table, n)).count();
        assert!(refused < 10, "{refused} refused");
        let found = |n| table.find(key(n)).is_some_and(|(index, _)| index == n);
        assert_eq!((0..50_000).filter(|&n| found(n)).count(), 50_000 - refused);
        table.remove(key(5), 5);
        assert!(table.find(key(5)).is_none() && table.find(key(50_001)).is_none());
    }

    /// A record that was closed, or belongs to another key by now, is not found.
    #[test]
    fn stale_places_are_not_found() {
        let table = Table::new(7);
        assert!(put(&table, 3));
        table.lock(3).unwrap().open = false;
        assert!(table.find(key(3)).is_none());
        assert!(table.lock(MAX_FLOWS).is_none() && table.lock(5000).is_none());
    }
}
