//! Finds the next whole chunk behind a damaged place.
//!
//! In: a file and where it stopped making sense; out: where a chunk lies whose lengths agree and whose checksum is right.
//! A file made to look like a chunk at every byte costs no more than a few times its own size: then it is given up. Holes
//! of a sparse file are passed over, so that its size is what is in it.

use super::container::{CHUNK_HEADER, FRAME, OP_CHUNK, Unpacker};
use super::file::data_from;
use super::format::MAX_CHUNK_BYTES;
use memchr::memmem;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What stands in every chunk of ours: how long the name of its compression is, and the name.
const MARK: &[u8] = b"\x04\0\0\0zstd";
/// From the beginning of a chunk's frame to [`MARK`]: opcode, length, two times, size, checksum.
const MARK_AT: u64 = FRAME + 8 + 8 + 8 + 4;
/// Bytes looked at in one piece.
const PIECE: u64 = 1 << 20;
/// What is read for chunks that turn out to be none, besides twice the file's size.
const PATIENCE: u64 = 256 << 20;

/// Looks for chunks in one file.
pub struct Resync {
    size: u64,
    patience: u64,
}

impl Resync {
    /// For a file of this size.
    pub fn new(size: u64) -> Resync {
        Resync {
            size,
            patience: size.saturating_mul(2).saturating_add(PATIENCE),
        }
    }

    /// Where the next whole chunk begins, from `from` on, and the length of its record.
    pub fn next(
        &mut self,
        file: &File,
        from: u64,
        chunk: &mut Unpacker,
    ) -> io::Result<Option<u64>> {
        let mut at = from.saturating_add(MARK_AT);
        let mut piece = Vec::new();
        while at < self.size {
            // A mark begins with a byte that is not zero.
            match data_from(file, at) {
                Some(data) if data < self.size => at = data,
                _ => break,
            }
            let len = (self.size - at).min(PIECE + MARK.len() as u64 - 1);
            piece.resize(len as usize, 0);
            file.read_exact_at(&mut piece, at)?;
            for found in memmem::find_iter(&piece, MARK) {
                let begin = at + found as u64 - MARK_AT;
                if self.is_chunk(file, begin, chunk)? {
                    return Ok(Some(begin));
                }
                if self.patience == 0 {
                    return Ok(None);
                }
            }
            at += PIECE;
        }
        Ok(None)
    }

    fn is_chunk(&mut self, file: &File, begin: u64, chunk: &mut Unpacker) -> io::Result<bool> {
        let mut head = [0; (FRAME + CHUNK_HEADER) as usize];
        if self.size - begin < head.len() as u64 {
            return Ok(false);
        }
        file.read_exact_at(&mut head, begin)?;
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&head[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let (len, data) = (word(1), word((FRAME + CHUNK_HEADER) as usize - 8));
        let fits = head[0] == OP_CHUNK
            && len <= MAX_CHUNK_BYTES
            && len <= self.size - begin - FRAME
            && data.checked_add(CHUNK_HEADER) == Some(len);
        if !fits {
            return Ok(false);
        }
        file.read_exact_at(chunk.body(len as usize), begin + FRAME)?;
        let whole = chunk.unpack().is_ok();
        if !whole {
            self.patience = self.patience.saturating_sub(len.max(1 << 12));
        }
        Ok(whole)
    }
}
