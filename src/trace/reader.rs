//! Reads a recording back from untrusted bytes: one walk over the file when it is opened, then passes over
//! its records or the slots of one ring, a chunk in memory at a time.
//!
//! In: a file; out: [`Summary`], records, and what is [`Damage`]d. What is torn is passed over to the next whole chunk.
//! The container's frames are walked by `walk`, so that no length in the file decides how much is allocated.

use super::block::{self, BlockError};
use super::container::{self, Bad, FRAME, Fields, OP_CHANNEL, OP_MESSAGE, Records, Unpacker};
use super::format;
use super::record::*;
use super::summary::Summary;
use super::walk::{Found, Head, Stop, Walk};
use crate::units::Nanos;
use bypassprof_wire::Slot;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
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

/// Memory of records that were read and are not needed any more.
#[derive(Debug, Default)]
pub struct Spare {
    samples: Vec<Sample>,
    slots: Vec<Vec<Slot>>,
}

impl Spare {
    /// Takes a record's memory.
    pub fn take(&mut self, record: Record) {
        match record {
            Record::Sample(sample) => self.samples.push(sample),
            Record::Slots(_, block) => self.slots.push(block.slots),
            Record::Switch(_) => {}
        }
    }
}

/// One message of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A record of low rate: JSON, of a kind that this version need not know.
    Meta(Vec<u8>),
    /// A block of samples.
    Samples(Vec<Sample>),
    /// A block of switches.
    Switches(Vec<Switch>),
    /// A block of slots of the ring with this number.
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

impl Kind {
    /// What a payload says it is.
    fn of_payload(data: &[u8]) -> Option<Kind> {
        match data.first()? {
            b'{' => Some(Kind::Meta),
            &block::KIND_SLOTS => Some(Kind::Slots),
            &block::KIND_SAMPLES => Some(Kind::Samples),
            &block::KIND_SWITCHES => Some(Kind::Switches),
            _ => None,
        }
    }
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
    /// First and last log time.
    times: (u64, u64),
}

/// What the chunks before said.
#[derive(Default)]
struct SoFar {
    meta_bytes: u64,
    time: u64,
    /// By ring: position after its last slot, and how many damaged places lie before that.
    next: HashMap<u32, (u64, usize)>,
}

impl SoFar {
    /// Slots that are missing before a block are lost with a damaged place in between, if there is one.
    fn follow(
        &mut self,
        block: &block::SlotHeader,
        damages: usize,
        missing: &mut BTreeMap<u32, u64>,
    ) {
        let after = block.first.saturating_add(block.count as u64);
        if let Some((next, seen)) = self.next.insert(block.ring, (after, damages))
            && damages > seen
            && block.first > next
        {
            *missing.entry(block.ring).or_default() += block.first - next;
        }
    }
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
        Self::opened(path, Head::Needed, watch)
    }

    /// Opens what is left of a recording, even if its beginning is damaged: whole chunks are looked for.
    pub fn salvage(path: &Path) -> Result<Reader, ReadError> {
        let reader = Self::opened(path, Head::Wanted, |_, _| ())?;
        match (reader.chunks.is_empty(), reader.summary.damage.first()) {
            (true, Some(damage)) => Err(ReadError::NotRecording {
                path: path.to_path_buf(),
                why: format!("no whole chunk of one is in it: {}", damage.why),
            }),
            _ => Ok(reader),
        }
    }

    fn opened(path: &Path, head: Head, watch: impl FnMut(u64, u64)) -> Result<Reader, ReadError> {
        let io = |source| ReadError::Io {
            path: path.to_path_buf(),
            source,
        };
        // Opening a FIFO would wait for its writer; files of other kinds do not mind.
        let mut options = File::options();
        options.read(true).custom_flags(libc::O_NONBLOCK);
        let file = options.open(path).map_err(io)?;
        let meta = file.metadata().map_err(io)?;
        if !meta.is_file() {
            return Err(ReadError::NotRecording {
                path: path.to_path_buf(),
                why: "it is not a regular file".to_string(),
            });
        }
        let mut reader = Reader {
            path: path.to_path_buf(),
            file,
            summary: Summary::default(),
            channels: BTreeMap::new(),
            chunks: Vec::new(),
        };
        reader.walk(meta.len(), head, watch)?;
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

    fn walk(
        &mut self,
        size: u64,
        head: Head,
        mut watch: impl FnMut(u64, u64),
    ) -> Result<(), ReadError> {
        let file = self.file.try_clone().map_err(|e| self.io(e))?;
        let mut so_far = SoFar::default();
        let walked = Walk::new(&file, size).run(
            head,
            |at| watch(at, size),
            |found| match found {
                Found::Channel(body) => self.add_channel(body),
                Found::Chunk {
                    at,
                    len,
                    plain,
                    damages,
                } => self.index(at, len, plain, damages, &mut so_far),
            },
        );
        let path = || self.path.clone();
        let mut walked = walked.map_err(|stop| match stop {
            Stop::Io(source) => self.io(source),
            Stop::Not(why) => ReadError::NotRecording { path: path(), why },
            Stop::Version(major, minor) => ReadError::Version {
                path: path(),
                major,
                minor,
            },
            Stop::Changed(offset) => ReadError::Changed {
                path: path(),
                offset,
            },
        })?;
        let to_the_end = |d: &Damage| d.bytes > 0 && d.offset + d.bytes == size;
        let stopped = if walked.finished {
            self.summary.end.is_none()
                && walked.damage.is_empty()
                && self.summary.salvaged.is_empty()
        } else {
            !walked.damage.last().is_some_and(to_the_end)
        };
        if stopped {
            walked.damage.push(Damage {
                offset: size,
                why: "the recorder was stopped before it could finish the file".to_string(),
                ..Damage::default()
            });
        }
        for damage in &mut walked.damage {
            self.when(damage);
        }
        self.summary.damage = walked.damage;
        Ok(())
    }

    /// Between which times the records of a damaged place were written.
    fn when(&self, damage: &mut Damage) {
        if damage.bytes == 0 && damage.offset == 0 {
            return;
        }
        let after = self.chunks.partition_point(|c| c.offset < damage.offset);
        let time = |chunk: Option<&ChunkInfo>, which: fn(&ChunkInfo) -> u64| {
            chunk.map(|c| Nanos::from_ns(which(c)))
        };
        let before = after.checked_sub(1).and_then(|at| self.chunks.get(at));
        damage.from = time(before, |c| c.times.1);
        damage.to = time(self.chunks.get(after), |c| c.times.0);
    }

    fn add_channel(&mut self, body: &[u8]) -> Result<(), Bad> {
        let mut fields = Fields(body);
        let (Some(id), Some(_), Some(topic)) = (fields.u16(), fields.u16(), fields.text()) else {
            return Err("a channel record is damaged".to_string());
        };
        // Encoding and pairs of words follow, and nothing else.
        let pairs = fields.text().and_then(|_| fields.u32());
        if topic.is_empty() || pairs.map(|len| len as usize) != Some(fields.0.len()) {
            return Err("a channel record is damaged".to_string());
        }
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
        match self.file.read_exact_at(chunk.body(len as usize), at) {
            Ok(()) => Ok(chunk.unpack()),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(ReadError::Changed {
                path: self.path.clone(),
                offset: at,
            }),
            Err(e) => Err(self.io(e)),
        }
    }

    fn index(
        &mut self,
        at: u64,
        len: u64,
        plain: &[u8],
        damages: usize,
        so_far: &mut SoFar,
    ) -> Result<(), Bad> {
        let mut rings = BTreeSet::new();
        let mut info = ChunkInfo {
            offset: at,
            len,
            times: (u64::MAX, 0),
            meta: false,
            samples: false,
            switches: false,
            rings: None,
        };
        // A first look at all of it, so that a damaged chunk adds nothing.
        let mut metas = Vec::new();
        let mut counts = (0u64, 0u64);
        let mut slots: BTreeMap<u32, u64> = BTreeMap::new();
        let mut blocks = Vec::new();
        for record in Records(plain) {
            let (op, body) = record?;
            if op == OP_CHANNEL {
                self.add_channel(body)?;
            }
            if op != OP_MESSAGE {
                continue;
            }
            let message = container::message(body)?;
            let data = message.data;
            if message.time > 0 {
                info.times.0 = info.times.0.min(message.time);
                info.times.1 = info.times.1.max(message.time);
            }
            let bad = |e: BlockError| e.to_string();
            // What told of the channel may have been lost: its payloads tell of themselves.
            let kind = match self.channels.entry(message.channel) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(lost) => {
                    let guess = Kind::of_payload(data);
                    *lost.insert(guess.ok_or("a message's channel is lost")?)
                }
            };
            match kind {
                Kind::Meta => {
                    info.meta = true;
                    so_far.meta_bytes += data.len() as u64;
                    if so_far.meta_bytes > format::MAX_META_BYTES {
                        return Err("there is more metadata than any recording has".to_string());
                    }
                    // A kind of record that a later minor version added is passed over.
                    match Meta::from_json(data) {
                        Ok(meta) => metas.push(meta),
                        Err(e) if e.is_data() => {}
                        Err(e) => return Err(format!("a metadata record is not JSON: {e}")),
                    }
                }
                Kind::Samples => {
                    info.samples = true;
                    counts.0 += block::peek_count(data).map_err(bad)? as u64;
                }
                Kind::Switches => {
                    info.switches = true;
                    counts.1 += block::peek_count(data).map_err(bad)? as u64;
                }
                Kind::Slots => {
                    let header = block::peek_slots(data).map_err(bad)?;
                    rings.insert(header.ring);
                    *slots.entry(header.ring).or_default() += header.count as u64;
                    blocks.push(header);
                }
                Kind::Other => {}
            }
        }
        const LISTED: usize = 256;
        for block in blocks {
            so_far.follow(&block, damages, &mut self.summary.slots_missing);
        }
        if info.times.0 > info.times.1 {
            info.times = (so_far.time, so_far.time);
        }
        so_far.time = info.times.1;
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
                    && let Ok(meta) = Meta::from_json(data)
                {
                    out.push_back(meta);
                }
                Ok(())
            },
        )
    }

    /// All records of high rate in the order they were written: one pass over the file, whatever its length.
    pub fn records(&self) -> impl Iterator<Item = Result<Record, ReadError>> + '_ {
        self.records_in(|_| {})
    }

    /// The same; `gather` adds records that are not needed any more: their memory is used again.
    pub fn records_in<'a>(
        &'a self,
        mut gather: impl FnMut(&mut Spare) + 'a,
    ) -> impl Iterator<Item = Result<Record, ReadError>> + 'a {
        let (mut samples, mut switches) = (Vec::new(), Vec::new());
        let mut spare = Spare::default();
        self.pass(
            |c| c.samples || c.switches || c.rings.as_ref().is_none_or(|r| !r.is_empty()),
            move |kind, data, out| {
                gather(&mut spare);
                match kind {
                    Kind::Samples => {
                        block::decode_samples(data, &mut spare.samples, &mut samples)?;
                        out.extend(samples.drain(..).map(Record::Sample));
                    }
                    Kind::Switches => {
                        block::decode_switches(data, &mut switches)?;
                        out.extend(switches.drain(..).map(Record::Switch));
                    }
                    Kind::Slots => {
                        let mut slots = spare.slots.pop().unwrap_or_default();
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

    /// All switches in the order they were written.
    pub fn switches(&self) -> impl Iterator<Item = Result<Switch, ReadError>> + '_ {
        let mut switches = Vec::new();
        self.pass(
            |c| c.switches,
            move |kind, data, out| {
                if kind == Kind::Switches {
                    block::decode_switches(data, &mut switches)?;
                    out.extend(switches.drain(..));
                }
                Ok(())
            },
        )
    }

    /// Everything there is, message by message, as it was written: what a copy is made of.
    pub fn messages(&self) -> impl Iterator<Item = Result<Message, ReadError>> + '_ {
        self.pass(
            |_| true,
            |kind, data, out| {
                match kind {
                    Kind::Meta => out.push_back(Message::Meta(data.to_vec())),
                    Kind::Samples => {
                        let mut samples = Vec::new();
                        block::decode_samples(data, &mut Vec::new(), &mut samples)?;
                        out.push_back(Message::Samples(samples));
                    }
                    Kind::Switches => {
                        let mut switches = Vec::new();
                        block::decode_switches(data, &mut switches)?;
                        out.push_back(Message::Switches(switches));
                    }
                    Kind::Slots => {
                        let mut slots = Vec::new();
                        let header = block::decode_slots(data, &mut slots)?;
                        let first = header.first;
                        out.push_back(Message::Slots(header.ring, SlotBlock { first, slots }));
                    }
                    Kind::Other => {}
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
        let message = container::message(body).ok()?;
        Some((*self.channels.get(&message.channel)?, message.data))
    }
}
