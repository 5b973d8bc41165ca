//! Chunks taken apart before a walk comes to them, by threads beside it.
//!
//! In: a file of strangers; out: its chunks in order, as long as one record follows the other. What lies behind a place
//! that makes no sense is not looked at: there the walk goes on by itself, as it would without. It refuses to say what is
//! damaged.

use super::container::{Bad, FRAME, MAGIC, OP_CHUNK, OP_DATA_END, Unpacker};
use super::format::MAX_CHUNK_BYTES;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Builder, Scope};

/// Threads; each takes every so-manieth chunk.
const HELPERS: usize = 2;

/// A chunk that was taken apart: where its record begins, its bytes, and whether they are right.
struct Unpacked {
    at: u64,
    chunk: Unpacker,
    outcome: Result<(), Bad>,
}

/// One thread: what it has done, and where it gets back what it can use again.
struct Helper {
    done: Receiver<Unpacked>,
    spare: Sender<Unpacker>,
}

/// The threads.
pub struct Ahead {
    helpers: Vec<Helper>,
    /// Whose turn it is, and what it has done if that was not yet asked for.
    turn: usize,
    next: Option<Unpacked>,
}

impl Ahead {
    /// Begins with the first record of a file of this size; `None` where there can be no more threads.
    pub fn start<'scope, 'env>(
        scope: &'scope Scope<'scope, 'env>,
        file: &'env File,
        size: u64,
    ) -> Option<Ahead> {
        let start = |number: usize| {
            // Nobody works on more than one chunk before the last one is taken: memory has an end.
            let (done, is_done) = sync_channel(0);
            let (spare, is_spare) = channel();
            let work = move || unpack_each(file, size, number, &done, &is_spare);
            Builder::new().spawn_scoped(scope, work).ok()?;
            Some(Helper {
                done: is_done,
                spare,
            })
        };
        Some(Ahead {
            helpers: (0..HELPERS).map(start).collect::<Option<_>>()?,
            turn: 0,
            next: None,
        })
    }

    /// Puts the chunk whose record begins at `at` into `chunk`, if it was reached; gives whether its bytes are right.
    pub fn take(&mut self, at: u64, chunk: &mut Unpacker) -> Option<Result<(), Bad>> {
        loop {
            let helper = self.helpers.get(self.turn)?;
            if self.next.is_none() {
                self.next = helper.done.recv().ok();
            }
            let found = self.next.take_if(|next| next.at <= at)?;
            self.turn = (self.turn + 1) % HELPERS;
            // What the walk passed over is of no use, its memory is.
            let mut spare = found.chunk;
            if found.at == at {
                std::mem::swap(chunk, &mut spare);
            }
            // A thread that has come to its end needs none.
            let _ = helper.spare.send(spare);
            if found.at == at {
                return Some(found.outcome);
            }
        }
    }
}

/// Takes apart every [`HELPERS`]th chunk from `number` on, until there is something else than one should be, or no one
/// asks any more.
fn unpack_each(
    file: &File,
    size: u64,
    number: usize,
    done: &SyncSender<Unpacked>,
    spare: &Receiver<Unpacker>,
) {
    let (mut at, mut count) = (MAGIC.len() as u64, 0);
    while let Some((op, len)) = frame(file, at, size) {
        if op == OP_DATA_END || (op == OP_CHUNK && len > MAX_CHUNK_BYTES) {
            return;
        }
        if op == OP_CHUNK {
            if count % HELPERS == number {
                let mut chunk = spare.try_recv().unwrap_or_default();
                let body = chunk.body(len as usize);
                if file.read_exact_at(body, at + FRAME).is_err() {
                    return;
                }
                let outcome = chunk.unpack();
                let unpacked = Unpacked { at, chunk, outcome };
                if done.send(unpacked).is_err() {
                    return;
                }
            }
            count += 1;
        }
        at += FRAME + len;
    }
}

/// The record at `at`: what it is and how long, if the file can hold it.
fn frame(file: &File, at: u64, size: u64) -> Option<(u8, u64)> {
    let left = size.checked_sub(at)?.checked_sub(FRAME)?;
    let mut bytes = [0; FRAME as usize];
    file.read_exact_at(&mut bytes, at).ok()?;
    let [op, length @ ..] = bytes;
    let len = u64::from_le_bytes(length);
    (op != 0 && len <= left).then_some((op, len))
}

#[cfg(test)]
mod tests {
    use crate::trace::Writer;
    use crate::trace::walk::{Found, Head, Walk, Walked};
    use bypassprof_wire::Slot;
    use proptest::prelude::*;
    use std::fs::File;

    /// What a walk finds, chunk by chunk: where, how much, and behind how many damaged places; and what is damaged.
    fn found(file: &File, helped: bool) -> Option<(Vec<[u64; 4]>, Walked)> {
        let walk = Walk::new(file, file.metadata().unwrap().len());
        let mut chunks = Vec::new();
        let take = |found: Found<'_>| {
            if let Found::Chunk {
                at,
                len,
                plain,
                damages,
            } = found
            {
                let sum = u64::from(crc32fast::hash(plain));
                chunks.push([at, len, sum, damages as u64]);
            }
            Ok(())
        };
        let walked = match helped {
            true => walk.helped(Head::Needed, |_| {}, take),
            false => walk.alone(Head::Needed, |_| {}, take),
        };
        Some((chunks, walked.ok()?))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever is changed or cut off: a walk finds the same with helpers as without.
        #[test]
        fn nothing_depends_on_helpers(
            chunks in 0u64..9,
            changed in proptest::collection::vec((0usize..4000, 1u8..), 0..4),
            cut in 0usize..8000,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x.mcap");
            let mut writer = Writer::create(&path).unwrap();
            for chunk in 0..chunks {
                let slot = |n: u64| Slot { word0: (n * 77) << 16 | 3, word1: n * chunk };
                let slots: Vec<_> = (0..64).map(slot).collect();
                writer.slots(1, chunk * 64, &slots).unwrap();
                writer.flush().unwrap();
            }
            writer.finish().unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            for (at, by) in changed {
                let place = 60 + at % (bytes.len() - 60);
                bytes[place] ^= by;
            }
            bytes.truncate(bytes.len().min(100 + cut));
            std::fs::write(&path, bytes).unwrap();
            let file = File::open(&path).unwrap();
            prop_assert_eq!(found(&file, true), found(&file, false));
        }
    }
}
