//! One walk over the container's frames, from the beginning of a file to its end, over what is damaged.
//!
//! In: a file of strangers; out: its whole chunks in order, and every place where there should have been something and
//! was not. Whoever walks is told the plain records of each chunk and says whether they make sense.

use super::ahead::Ahead;
use super::container::{
    Bad, FRAME, Fields, MAGIC, OP_ATTACHMENT, OP_CHANNEL, OP_CHUNK, OP_DATA_END, OP_HEADER,
    OP_MESSAGE_INDEX, OP_METADATA, OP_SCHEMA, Unpacker, is_message_index,
};
use super::format::{self, MAX_CHUNK_BYTES};
use super::record::Damage;
use super::resync::Resync;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::thread;

/// Something whole.
pub enum Found<'a> {
    /// A chunk: where its body lies, how long it is, its plain records, and how many damaged places lie before it.
    Chunk {
        at: u64,
        len: u64,
        plain: &'a [u8],
        damages: usize,
    },
    /// A channel outside of any chunk.
    Channel(&'a [u8]),
}

/// Why there is nothing to walk over.
pub enum Stop {
    Io(io::Error),
    Not(String),
    Version(u32, u32),
    Changed(u64),
}

/// What a walk found besides chunks.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// In the order of the file.
    pub damage: Vec<Damage>,
    /// The writer came to its end.
    pub finished: bool,
}

/// Whether a file that does not begin as it should is read all the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Head {
    Needed,
    Wanted,
}

/// From this size on threads help with a file: starting them takes longer than a walk over a short one.
const LONG: u64 = 8 << 20;

/// The frame of one record.
#[derive(Clone, Copy)]
struct Frame {
    op: u8,
    len: u64,
}

/// The walk.
pub struct Walk<'a> {
    file: &'a File,
    size: u64,
    chunk: Unpacker,
    /// Who takes chunks apart before they are come to.
    ahead: Option<Ahead>,
    resync: Resync,
    /// Of everything up to `hashed`.
    hash: crc32fast::Hasher,
    hashed: u64,
    walked: Walked,
}

impl<'a> Walk<'a> {
    /// Over a file of this size.
    pub fn new(file: &'a File, size: u64) -> Walk<'a> {
        Walk {
            file,
            size,
            chunk: Unpacker::default(),
            ahead: None,
            resync: Resync::new(size),
            hash: crc32fast::Hasher::new(),
            hashed: 0,
            walked: Walked::default(),
        }
    }

    /// Walks. `watch` is told how many bytes are done, `take` what is found.
    pub fn run(
        self,
        head: Head,
        watch: impl FnMut(u64),
        take: impl FnMut(Found<'_>) -> Result<(), Bad>,
    ) -> Result<Walked, Stop> {
        if self.size < LONG {
            self.alone(head, watch, take)
        } else {
            self.helped(head, watch, take)
        }
    }

    /// With threads beside this one that take chunks apart: what is found is the same.
    pub(super) fn helped(
        mut self,
        head: Head,
        watch: impl FnMut(u64),
        take: impl FnMut(Found<'_>) -> Result<(), Bad>,
    ) -> Result<Walked, Stop> {
        thread::scope(|scope| {
            self.ahead = Ahead::start(scope, self.file, self.size);
            self.alone(head, watch, take)
        })
    }

    /// On this thread.
    pub(super) fn alone(
        mut self,
        head: Head,
        mut watch: impl FnMut(u64),
        mut take: impl FnMut(Found<'_>) -> Result<(), Bad>,
    ) -> Result<Walked, Stop> {
        let mut at = match (self.head(), head) {
            (Ok(at), _) => at,
            (Err(Stop::Not(why)), Head::Wanted) => self.pass_over(0, None, &why)?,
            (Err(stop), _) => return Err(stop),
        };
        while at < self.size {
            let frame = self.frame(at)?;
            let next = frame.as_ref().ok().map(|f| at + FRAME + f.len);
            let outcome = match frame {
                Ok(frame) => self.record(at, frame, &mut take)?,
                Err(why) => Err(why),
            };
            at = match outcome {
                Ok(Some(next)) => next,
                Ok(None) => {
                    self.walked.finished = true;
                    break;
                }
                Err(why) => self.pass_over(at, next, &why)?,
            };
            watch(at);
        }
        Ok(self.walked)
    }

    /// Checks how the file begins; gives where its second record begins.
    fn head(&mut self) -> Result<u64, Stop> {
        let not = |why: &str| Stop::Not(why.to_string());
        let mut magic = [0; MAGIC.len()];
        if self.size < MAGIC.len() as u64 {
            return Err(not("it is too short to be one"));
        }
        self.read(&mut magic, 0)?;
        if magic != MAGIC {
            return Err(not("it does not begin like an MCAP file"));
        }
        let at = MAGIC.len() as u64;
        let frame = self.frame(at)?;
        let frame = frame.map_err(|_| not("it ends before its header"))?;
        if frame.op != OP_HEADER || frame.len > 4096 {
            return Err(not("its first record is not a header"));
        }
        let mut body = vec![0; frame.len as usize];
        self.read(&mut body, at + FRAME)?;
        let mut fields = Fields(&body);
        let profile = fields.text();
        let profile = profile.ok_or_else(|| not("its header is damaged"))?;
        let whole = fields.text().is_some() && fields.0.is_empty();
        match format::version_of(profile) {
            None => Err(Stop::Not(format!(
                "it is an MCAP file with the profile {profile:?}, made by another program"
            ))),
            Some((major, minor)) if major != format::MAJOR => Err(Stop::Version(major, minor)),
            Some(_) if whole => Ok(at + FRAME + frame.len),
            Some(_) => self.pass_over(at, None, "the header has another length than it says"),
        }
    }

    /// The frame at `at`; the inner error says why there is none.
    fn frame(&self, at: u64) -> Result<Result<Frame, Bad>, Stop> {
        let ends = || Err("the file ends inside a record".to_string());
        if self.size - at < FRAME {
            return Ok(ends());
        }
        let mut bytes = [0; FRAME as usize];
        self.read(&mut bytes, at)?;
        let [op, a, b, c, d, e, f, g, h] = bytes;
        let len = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        Ok(if op == 0 {
            Err("there is no record where one should begin".to_string())
        } else if len > self.size - at - FRAME {
            ends()
        } else {
            Ok(Frame { op, len })
        })
    }

    /// Takes one record; gives where the next one begins, `None` behind the last. The inner error is damage.
    fn record(
        &mut self,
        at: u64,
        frame: Frame,
        take: &mut impl FnMut(Found<'_>) -> Result<(), Bad>,
    ) -> Result<Result<Option<u64>, Bad>, Stop> {
        let Frame { op, len } = frame;
        let taken = match op {
            _ if len > MAX_CHUNK_BYTES => Err("a record is larger than any we write".to_string()),
            OP_CHUNK => {
                self.hash_to(at + FRAME)?;
                let ahead = self.ahead.as_mut();
                let unpacked = match ahead.and_then(|a| a.take(at, &mut self.chunk)) {
                    Some(unpacked) => unpacked,
                    None => {
                        let body = self.chunk.body(len as usize);
                        read(self.file, body, at + FRAME)?;
                        self.chunk.unpack()
                    }
                };
                self.hash.update(self.chunk.packed());
                self.hashed = at + FRAME + len;
                let found = |plain| Found::Chunk {
                    at: at + FRAME,
                    len,
                    plain,
                    damages: self.walked.damage.len(),
                };
                unpacked.and_then(|()| take(found(self.chunk.plain())))
            }
            // A channel may stand outside of chunks too.
            OP_CHANNEL => {
                let mut body = vec![0; len as usize];
                self.read(&mut body, at + FRAME)?;
                take(Found::Channel(&body))
            }
            OP_MESSAGE_INDEX => {
                let mut head = [0; 6];
                let there = len >= head.len() as u64;
                if there {
                    self.read(&mut head, at + FRAME)?;
                }
                match there && is_message_index(&head, len) {
                    true => Ok(()),
                    false => Err("an index is damaged".to_string()),
                }
            }
            OP_DATA_END if len == 4 => {
                self.end(at)?;
                return Ok(Ok(None));
            }
            OP_SCHEMA | OP_ATTACHMENT | OP_METADATA => Ok(()),
            _ => Err("there is a record that does not belong here".to_string()),
        };
        Ok(taken.map(|()| Some(at + FRAME + len)))
    }

    /// All records have been seen: the checksum of everything tells whether something between chunks was changed.
    fn end(&mut self, at: u64) -> Result<(), Stop> {
        self.hash_to(at)?;
        let mut wanted = [0; 4];
        self.read(&mut wanted, at + FRAME)?;
        let wanted = u32::from_le_bytes(wanted);
        if self.walked.damage.is_empty() && wanted != 0 && self.hash.clone().finalize() != wanted {
            self.walked.damage.push(Damage {
                why: "the file is not as it was written: its checksum is wrong, though those of its chunks are right"
                    .to_string(),
                ..Damage::default()
            });
        }
        Ok(())
    }

    /// Notes a damaged place that begins at `at`, and gives where to go on: at `next` if a record begins there, else at
    /// the next whole chunk, else at the file's end.
    fn pass_over(&mut self, at: u64, next: Option<u64>, why: &str) -> Result<u64, Stop> {
        let to = match next {
            Some(next) if self.may_begin(next)? => next,
            _ => {
                let found = self.resync.next(self.file, at + 1, &mut self.chunk);
                found.map_err(Stop::Io)?.unwrap_or(self.size)
            }
        };
        self.walked.damage.push(Damage {
            offset: at,
            bytes: to - at,
            why: why.to_string(),
            ..Damage::default()
        });
        Ok(to)
    }

    /// Whether what lies at `at` looks like a record of ours.
    fn may_begin(&self, at: u64) -> Result<bool, Stop> {
        if at >= self.size {
            return Ok(false);
        }
        let known = |f: Frame| match f.op {
            OP_DATA_END => f.len == 4,
            OP_CHUNK | OP_CHANNEL | OP_MESSAGE_INDEX => f.len <= MAX_CHUNK_BYTES,
            _ => false,
        };
        Ok(self.frame(at)?.is_ok_and(known))
    }

    fn hash_to(&mut self, to: u64) -> Result<(), Stop> {
        if !self.walked.damage.is_empty() {
            // No one asks for it any more.
            return Ok(());
        }
        let mut piece = [0; 1 << 14];
        while self.hashed < to {
            let len = (to - self.hashed).min(piece.len() as u64) as usize;
            self.read(&mut piece[..len], self.hashed)?;
            self.hash.update(&piece[..len]);
            self.hashed += len as u64;
        }
        Ok(())
    }

    fn read(&self, bytes: &mut [u8], at: u64) -> Result<(), Stop> {
        read(self.file, bytes, at)
    }
}

fn read(file: &File, bytes: &mut [u8], at: u64) -> Result<(), Stop> {
    file.read_exact_at(bytes, at).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => Stop::Changed(at),
        _ => Stop::Io(e),
    })
}
