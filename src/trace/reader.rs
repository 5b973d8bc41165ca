//! Reads a recording back from untrusted bytes: one walk over the file when it is opened, then passes over
//! its records or the slots of one ring, a chunk in memory at a time.
//!
//! In: a file; out: [`Summary`], records, and what is [`Damage`]d. A torn file is read as far as its last whole chunk.
//! It walks the container's frames itself, so that no length in the file decides how much is allocated.

use super::block::{self, BlockError};
use super::container::{
    self, Bad, FRAME, Fields, MAGIC, OP_CHANNEL, OP_CHUNK, OP_DATA_END, OP_FOOTER, OP_HEADER,
    OP_MESSAGE, Records, Unpacker,
};
use super::format::{self, MAX_CHUNK_BYTES};
use super::record::*;
use super::summary::{Damage, Summary};
use bypassprof_wire::Slot;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be opened or read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is something else.
    #[error("{path} is not a recording: {why}")]
    NotRecording {
        /// The file.
        path: PathBuf,
        /// How we know.
        why: String,
    },
    /// It is of another major version.
    #[error(
        "{path} is a recording of format {major}.{minor}; this program reads format {}",
        format::MAJOR
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The file's major version.
        major: u32,
        /// The file's minor version.
        minor: u32,
    },
    /// A block inside a whole chunk is not what it should be.
    #[error("{path}: the chunk at byte {offset} holds a damaged block: {source}")]
    Block {
        /// The file.
        path: PathBuf,
        /// Where the chunk starts.
        offset: u64,
        /// What is wrong with the block.
        source: BlockError,
    },
    /// The file is not what it was when it was opened.
    #[error("{path} changed while it was read, at byte {offset}")]
    Changed {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
    },
}

/// Slots of a ring, in order, without a gap inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotBlock {
    /// Position of the first slot; a gap to the block before means loss.
    pub first: u64,
    /// The slots.
    pub slots: Vec<Slot>,
}

/// A record of high rate, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A perf sample.
    Sample(Sample),
    /// A thread left or entered a CPU.
    Switch(Switch),
    /// Slots of the ring with this number.
    Slots(u32, SlotBlock),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Meta,
    Samples,
    Switches,
    Slots,
    Other,
}

/// A whole chunk, and what is in it.
#[derive(Clone, Debug)]
struct ChunkInfo {
    offset: u64,
    len: u64,
    meta: bool,
    samples: bool,
    switches: bool,
    /// Rings with slots here; `None`: too many to list.
    rings: Option<Vec<u32>>,
}

/// An open recording.
pub struct Reader {
    path: PathBuf,
    file: File,
    summary: Summary,
    channels: BTreeMap<u16, Kind>,
    chunks: Vec<ChunkInfo>,
}

impl Reader {
    /// Opens a recording and walks over all of it once.
    pub fn open(path: &Path) -> Result<Reader, ReadError> {
        Self::open_watched(path, |_, _| ())
    }

    /// The same; `watch` is told how many bytes of how many are done.
    pub fn open_watched(path: &Path, watch: impl FnMut(u64, u64)) -> Result<Reader, ReadError> {
        let io = |source| ReadError::Io {
            path: path.to_path_buf(),
            source,
        };
        // Opening a FIFO would wait for its writer; files of other kinds do not mind.
        let mut options = File::options();
        options.read(true).custom_flags(libc::O_NONBLOCK);
        let file = options.open(path).map_err(io)?;
        let meta = file.metadata().map_err(io)?;
        let not = |why: &str| ReadError::NotRecording {
            path: path.to_path_buf(),
            why: why.to_string(),
        };
        if !meta.is_file() {
            return Err(not("it is not a regular file"));
        }
        let size = meta.len();
        let mut magic = [0; MAGIC.len()];
        let whole = size >= MAGIC.len() as u64;
        if !whole {
            return Err(not("it is too short to be one"));
        }
        file.read_exact_at(&mut magic, 0).map_err(io)?;
        if magic != MAGIC {
            return Err(not("it does not begin like an MCAP file"));
        }
        let mut reader = Reader {
            path: path.to_path_buf(),
            file,
            summary: Summary::default(),
            channels: BTreeMap::new(),
            chunks: Vec::new(),
        };
        reader.walk(size, watch)?;
        Ok(reader)
    }

    /// The low-rate records and the counts.
    pub fn meta(&self) -> &Summary {
        &self.summary
    }

    /// The file's name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn io(&self, source: io::Error) -> ReadError {
        ReadError::Io {
            path: self.path.clone(),
            source,
        }
    }

    fn walk(&mut self, size: u64, mut watch: impl FnMut(u64, u64)) -> Result<(), ReadError> {
        let mut at = MAGIC.len() as u64;
        let mut damage = None;
        let mut meta_bytes = 0;
        let mut finished = false;
        let mut first = true;
        let mut chunk = Unpacker::default();
        while at < size {
            let torn = |why: &str| {
                Some(Damage {
                    offset: at,
                    bytes: size - at,
                    why: why.to_string(),
                })
            };
            if size - at < FRAME {
                damage = torn("the file ends inside a record");
                break;
            }
            let mut frame = [0; FRAME as usize];
            self.file
                .read_exact_at(&mut frame, at)
                .map_err(|e| self.io(e))?;
            let op = frame[0];
            let len = u64::from_le_bytes([
                frame[1], frame[2], frame[3], frame[4], frame[5], frame[6], frame[7], frame[8],
            ]);
            if len > size - at - FRAME {
                damage = torn("the file ends inside a record");
                break;
            }
            if first {
                self.check_header(op, at + FRAME, len)?;
                first = false;
            } else if op == OP_CHUNK {
                match self.load(at + FRAME, len, &mut chunk)? {
                    Ok(()) => match self.index(at, len, chunk.plain(), &mut meta_bytes) {
                        Ok(()) => {}
                        Err(why) => damage = torn(&why),
                    },
                    Err(why) => damage = torn(&why),
                }
                if damage.is_some() {
                    break;
                }
            } else if op == OP_CHANNEL {
                // A channel may stand outside of chunks too.
                if let Err(why) = self.channel_at(at + FRAME, len)? {
                    damage = torn(&why);
                    break;
                }
            } else if op == OP_DATA_END || op == OP_FOOTER {
                finished = true;
                break;
            } else if op == 0 {
                damage = torn("there is no record where one should begin");
                break;
            }
            at += FRAME + len;
            watch(at, size);
        }
        if first {
            return Err(ReadError::NotRecording {
                path: self.path.clone(),
                why: "it ends before its header".to_string(),
            });
        }
        if damage.is_none() && (!finished || self.summary.end.is_none()) {
            damage = Some(Damage {
                offset: at,
                bytes: size - at,
                why: "the recorder was stopped before it could finish the file".to_string(),
            });
        }
        self.summary.damage = damage;
        Ok(())
    }

    fn check_header(&self, op: u8, at: u64, len: u64) -> Result<(), ReadError> {
        let not = |why: String| ReadError::NotRecording {
            path: self.path.clone(),
            why,
        };
        if op != OP_HEADER || len > 4096 {
            return Err(not("its first record is not a header".to_string()));
        }
        let mut body = vec![0; len as usize];
        self.file
            .read_exact_at(&mut body, at)
            .map_err(|e| self.io(e))?;
        let profile = Fields(&body)
            .text()
            .ok_or_else(|| not("its header is damaged".to_string()))?;
        match format::version_of(profile) {
            None => Err(not(format!(
                "it is an MCAP file with the profile {profile:?}, made by another program"
            ))),
            Some((major, minor)) if major != format::MAJOR => Err(ReadError::Version {
                path: self.path.clone(),
                major,
                minor,
            }),
            Some(_) => Ok(()),
        }
    }

    fn channel_at(&mut self, at: u64, len: u64) -> Result<Result<(), Bad>, ReadError> {
        if len > MAX_CHUNK_BYTES {
            return Ok(Err(
                "a channel record is larger than any we write".to_string()
            ));
        }
        let mut body = vec![0; len as usize];
        self.file
            .read_exact_at(&mut body, at)
            .map_err(|e| self.io(e))?;
        Ok(self.add_channel(&body))
    }

    fn add_channel(&mut self, body: &[u8]) -> Result<(), Bad> {
        let mut fields = Fields(body);
        let (Some(id), Some(_), Some(topic)) = (fields.u16(), fields.u16(), fields.text()) else {
            return Err("a channel record is damaged".to_string());
        };
        let kind = match topic {
            format::META => Kind::Meta,
            format::SAMPLES => Kind::Samples,
            format::SWITCHES => Kind::Switches,
            t if t.starts_with(format::RING) => Kind::Slots,
            _ => Kind::Other,
        };
        self.channels.insert(id, kind);
        Ok(())
    }

    /// Reads the chunk at `at` and takes it apart into plain records. The inner error is damage of the chunk.
    fn load(&self, at: u64, len: u64, chunk: &mut Unpacker) -> Result<Result<(), Bad>, ReadError> {
        if len > MAX_CHUNK_BYTES {
            return Ok(Err("a chunk is larger than any we write".to_string()));
        }
        match self.file.read_exact_at(chunk.body(len as usize), at) {
            Ok(()) => Ok(chunk.unpack()),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(ReadError::Changed {
                path: self.path.clone(),
                offset: at,
            }),
            Err(e) => Err(self.io(e)),
        }
    }

    fn index(&mut self, at: u64, len: u64, plain: &[u8], meta_bytes: &mut u64) -> Result<(), Bad> {
        let mut rings = BTreeSet::new();
        let mut info = ChunkInfo {
            offset: at + FRAME,
            len,
            meta: false,
            samples: false,
            switches: false,
            rings: None,
        };
        // A first look at all of it, so that a damaged chunk adds nothing.
        let mut metas = Vec::new();
        let mut counts = (0u64, 0u64);
        let mut slots: BTreeMap<u32, u64> = BTreeMap::new();
        for record in Records(plain) {
            let (op, body) = record?;
            if op == OP_CHANNEL {
                self.add_channel(body)?;
            }
            if op != OP_MESSAGE {
                continue;
            }
            let (channel, data) = container::message(body)?;
            let bad = |e: BlockError| e.to_string();
            match self.channels.get(&channel) {
                Some(Kind::Meta) => {
                    info.meta = true;
                    *meta_bytes += data.len() as u64;
                    if *meta_bytes > format::MAX_META_BYTES {
                        return Err("there is more metadata than any recording has".to_string());
                    }
                    // A kind of record that a later minor version added is passed over.
                    match serde_json::from_slice(data) {
                        Ok(meta) => metas.push(meta),
                        Err(e) if e.is_data() => {}
                        Err(e) => return Err(format!("a metadata record is not JSON: {e}")),
                    }
                }
                Some(Kind::Samples) => {
                    info.samples = true;
                    counts.0 += block::peek_count(data).map_err(bad)? as u64;
                }
                Some(Kind::Switches) => {
                    info.switches = true;
                    counts.1 += block::peek_count(data).map_err(bad)? as u64;
                }
                Some(Kind::Slots) => {
                    let header = block::peek_slots(data).map_err(bad)?;
                    rings.insert(header.ring);
                    *slots.entry(header.ring).or_default() += header.count as u64;
                }
                Some(Kind::Other) => {}
                None => return Err("a message belongs to no channel".to_string()),
            }
        }
        const LISTED: usize = 256;
        info.rings = (rings.len() <= LISTED).then(|| rings.into_iter().collect());
        metas.into_iter().for_each(|m| self.summary.add(m));
        self.summary.sample_count += counts.0;
        self.summary.switch_count += counts.1;
        for (ring, count) in slots {
            *self.summary.slot_counts.entry(ring).or_default() += count;
        }
        self.chunks.push(info);
        Ok(())
    }

    /// All low-rate records in the order they were written: series of counters and totals, for example.
    pub fn metas(&self) -> impl Iterator<Item = Result<Meta, ReadError>> + '_ {
        self.pass(
            |c| c.meta,
            |kind, data, out| {
                if kind == Kind::Meta
                    && let Ok(meta) = serde_json::from_slice(data)
                {
                    out.push_back(meta);
                }
                Ok(())
            },
        )
    }

    /// All records of high rate in the order they were written: one pass over the file, whatever its length.
    pub fn records(&self) -> impl Iterator<Item = Result<Record, ReadError>> + '_ {
        let (mut samples, mut switches) = (Vec::new(), Vec::new());
        self.pass(
            |c| c.samples || c.switches || c.rings.as_ref().is_none_or(|r| !r.is_empty()),
            move |kind, data, out| {
                match kind {
                    Kind::Samples => {
                        block::decode_samples(data, &mut samples)?;
                        out.extend(samples.drain(..).map(Record::Sample));
                    }
                    Kind::Switches => {
                        block::decode_switches(data, &mut switches)?;
                        out.extend(switches.drain(..).map(Record::Switch));
                    }
                    Kind::Slots => {
                        let mut slots = Vec::new();
                        let header = block::decode_slots(data, &mut slots)?;
                        let first = header.first;
                        out.push_back(Record::Slots(header.ring, SlotBlock { first, slots }));
                    }
                    Kind::Meta | Kind::Other => {}
                }
                Ok(())
            },
        )
    }

    /// The slots of one ring, in order.
    pub fn slots(&self, ring: u32) -> impl Iterator<Item = Result<SlotBlock, ReadError>> + '_ {
        let here = move |c: &ChunkInfo| c.rings.as_ref().is_none_or(|r| r.contains(&ring));
        self.pass(here, move |kind, data, out| {
            if kind == Kind::Slots && block::peek_slots(data)?.ring == ring {
                let mut slots = Vec::new();
                let header = block::decode_slots(data, &mut slots)?;
                let first = header.first;
                out.push_back(SlotBlock { first, slots });
            }
            Ok(())
        })
    }

    /// Goes over the chunks that `wanted` picks and takes their messages apart. What is held at a time is a chunk and
    /// the records of one message.
    fn pass<'a, T: 'a>(
        &'a self,
        wanted: impl Fn(&ChunkInfo) -> bool + 'a,
        mut decode: impl FnMut(Kind, &[u8], &mut VecDeque<T>) -> Result<(), BlockError> + 'a,
    ) -> impl Iterator<Item = Result<T, ReadError>> + 'a {
        let mut chunks = self.chunks.iter().filter(move |c| wanted(c));
        let (mut chunk, mut at) = (Unpacker::default(), 0);
        let mut ready = VecDeque::new();
        let mut offset = 0;
        let mut failed = false;
        std::iter::from_fn(move || {
            loop {
                if failed {
                    return None;
                }
                if let Some(item) = ready.pop_front() {
                    return Some(Ok(item));
                }
                let outcome = match container::next_record(chunk.plain(), &mut at) {
                    Some(Ok((OP_MESSAGE, body))) => self
                        .kind_of(body)
                        .map_or(Ok(()), |(kind, data)| decode(kind, data, &mut ready))
                        .map_err(|source| ReadError::Block {
                            path: self.path.clone(),
                            offset,
                            source,
                        }),
                    Some(Ok(_)) => Ok(()),
                    Some(Err(_)) => Err(self.changed(offset)),
                    None => {
                        let next = chunks.next()?;
                        (offset, at) = (next.offset - FRAME, 0);
                        let loaded = self.load(next.offset, next.len, &mut chunk);
                        loaded.and_then(|ok| ok.map_err(|_| self.changed(offset)))
                    }
                };
                if let Err(e) = outcome {
                    failed = true;
                    return Some(Err(e));
                }
            }
        })
    }

    fn changed(&self, offset: u64) -> ReadError {
        ReadError::Changed {
            path: self.path.clone(),
            offset,
        }
    }

    /// What a message is, and its payload.
    fn kind_of<'b>(&self, body: &'b [u8]) -> Option<(Kind, &'b [u8])> {
        let (channel, data) = container::message(body).ok()?;
        Some((*self.channels.get(&channel)?, data))
    }
}
