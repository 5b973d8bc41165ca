//! Writes a recording as it happens: records in, an MCAP file that a reader can open at any moment out.
//!
//! A chunk is closed, and with it safe from the writer's death, when it is large or a second old. It refuses to know
//! where records come from.

use super::Redactor;
use super::block::{self, SlotEncoder};
use super::format::{self, MAX_BLOCK};
use super::record::{Meta, Sample, Switch};
use super::summary::Summary;
use super::tail::{self, Sink};
use bypassprof_wire::Slot;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Cursor};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Why a recording could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file could not be made.
    #[error("cannot create {path}: {source}")]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A write failed.
    #[error("cannot write {path}: {why}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system or the container library said.
        why: String,
        /// The system's reason, if it was the system.
        kind: Option<std::io::ErrorKind>,
    },
    /// A record could not be put into JSON.
    #[error("cannot encode a record for {path}: {source}")]
    Encode {
        /// The file.
        path: PathBuf,
        /// What the encoder said.
        source: serde_json::Error,
    },
}

/// How long written records may wait in memory.
const FLUSH_EVERY: Duration = Duration::from_millis(900);

/// Level of zstd. The blocks are coded so tightly that a fast level finds nearly what a slow one does: 3.1 bytes for an
/// event instead of 2.6, and a third more events a second.
const COMPRESSION: i32 = -6;

/// A recording that is being written.
pub struct Writer {
    path: PathBuf,
    mcap: mcap::Writer<BufWriter<Sink>>,
    /// The file that `mcap` writes to.
    file: File,
    meta: u16,
    samples: u16,
    switches: u16,
    slots_schema: u16,
    rings: BTreeMap<u32, u16>,
    /// Latest time seen; slot blocks carry no clock time of their own.
    now: u64,
    flushed: Instant,
    buffer: Vec<u8>,
    encoder: SlotEncoder,
    redactor: Option<Redactor>,
}

impl Writer {
    /// Creates the file, or empties the one that is there.
    pub fn create(path: &Path) -> Result<Writer, WriteError> {
        let create = |source| WriteError::Create {
            path: path.to_path_buf(),
            source,
        };
        Self::to_file(path, File::create(path).map_err(create)?)
    }

    /// Writes to a file that is open already; `path` is what errors call it.
    pub fn to_file(path: &Path, file: File) -> Result<Writer, WriteError> {
        let same = file.try_clone().map_err(|e| failure(path, e.into()))?;
        let mcap = container().create(BufWriter::new(Sink::new(same)));
        let mcap = mcap.map_err(|e| failure(path, e))?;
        Self::begin(path, file, mcap)
    }

    fn begin(
        path: &Path,
        file: File,
        mut mcap: mcap::Writer<BufWriter<Sink>>,
    ) -> Result<Writer, WriteError> {
        let failed = |e| failure(path, e);
        let no_meta = BTreeMap::new();
        let schema = format::META_SCHEMA.as_bytes();
        let meta_schema = mcap.add_schema("bypassprof.meta/1", "jsonschema", schema);
        let meta_schema = meta_schema.map_err(failed)?;
        let mut blocks = |name| {
            let id = mcap.add_schema(name, "bypassprof", b"").map_err(failed)?;
            Ok::<u16, WriteError>(id)
        };
        let samples_schema = blocks("bypassprof.samples/1")?;
        let switches_schema = blocks("bypassprof.switches/1")?;
        let slots_schema = blocks("bypassprof.slots/1")?;
        let mut channel = |schema, topic, encoding| {
            mcap.add_channel(schema, topic, encoding, &no_meta)
                .map_err(failed)
        };
        let meta = channel(meta_schema, format::META, "json")?;
        let samples = channel(samples_schema, format::SAMPLES, "bypassprof")?;
        let switches = channel(switches_schema, format::SWITCHES, "bypassprof")?;
        Ok(Writer {
            path: path.to_path_buf(),
            mcap,
            file,
            meta,
            samples,
            switches,
            slots_schema,
            rings: BTreeMap::new(),
            now: 0,
            flushed: Instant::now(),
            buffer: Vec::new(),
            encoder: SlotEncoder::default(),
            redactor: None,
        })
    }

    /// After a failed write: cuts the file back to what is whole, and tells what that is. What is written from here on
    /// stands behind it.
    pub fn cut(self) -> Result<(Writer, Summary), WriteError> {
        let Writer {
            path,
            mcap,
            mut file,
            rings,
            redactor,
            now,
            ..
        } = self;
        // It tries to write what it still holds; from here on no one writes but us.
        drop(mcap);
        let failed = |e| failure(&path, e);
        let there = container()
            .create(Cursor::new(Vec::new()))
            .map(|w| w.into_inner().into_inner().len());
        let there = there.map_err(failed)?;
        let kept = tail::cut(&mut file).map_err(|e| WriteError::Write {
            path: path.clone(),
            why: e.to_string(),
            kind: None,
        })?;
        let same = file.try_clone().map_err(|e| failed(e.into()))?;
        let sink = BufWriter::new(Sink::behind(same, there));
        // An index of the end alone would hide all the rest from those who look there first.
        let options = container()
            .emit_summary_records(false)
            .calculate_data_section_crc(false);
        let mut mcap = options.create(sink).map_err(failed)?;
        mcap.flush().map_err(failed)?;
        let mut writer = Self::begin(&path, file, mcap)?;
        let mut channels: Vec<_> = rings.into_iter().collect();
        channels.sort_by_key(|&(_, channel)| channel);
        for (ring, _) in channels {
            // A channel's number means the same in all of the file.
            writer.ring_channel(ring)?;
        }
        (writer.redactor, writer.now) = (redactor, now);
        Ok((writer, kept))
    }

    /// Leaves out command lines and the folders of files from here on.
    pub fn redact(&mut self) {
        self.redactor = Some(Redactor::default());
    }

    /// The file's name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one low-rate record.
    pub fn meta(&mut self, meta: &Meta) -> Result<(), WriteError> {
        self.buffer.clear();
        let redacted = self.redactor.as_mut().map(|r| r.redact(meta));
        let meta = redacted.as_deref().unwrap_or(meta);
        serde_json::to_writer(&mut self.buffer, meta).map_err(|source| WriteError::Encode {
            path: self.path.clone(),
            source,
        })?;
        self.now = self.now.max(time_of(meta));
        self.message(self.meta, self.now)
    }

    /// Writes a record of low rate that is JSON already, of whatever kind.
    pub fn encoded_meta(&mut self, json: &[u8]) -> Result<(), WriteError> {
        if self.redactor.is_some() {
            // What is of a kind that is not known here may tell anything.
            return match serde_json::from_slice(json) {
                Ok(meta) => self.meta(&meta),
                Err(_) => Ok(()),
            };
        }
        self.buffer.clear();
        self.buffer.extend_from_slice(json);
        self.message(self.meta, self.now)
    }

    /// Writes samples.
    pub fn samples(&mut self, samples: &[Sample]) -> Result<(), WriteError> {
        // Blocks of a few thousand keep what a reader holds at a time small.
        for part in samples.chunks(4096) {
            self.buffer.clear();
            block::encode_samples(part, &mut self.buffer);
            let latest = part.iter().map(|s| s.time.ns()).max().unwrap_or(0);
            self.now = self.now.max(latest);
            self.message(self.samples, part.first().map_or(0, |s| s.time.ns()))?;
        }
        Ok(())
    }

    /// Writes switch records.
    pub fn switches(&mut self, switches: &[Switch]) -> Result<(), WriteError> {
        for part in switches.chunks(MAX_BLOCK) {
            self.buffer.clear();
            block::encode_switches(part, &mut self.buffer);
            let latest = part.iter().map(|s| s.time.ns()).max().unwrap_or(0);
            self.now = self.now.max(latest);
            self.message(self.switches, part.first().map_or(0, |s| s.time.ns()))?;
        }
        Ok(())
    }

    /// Writes slots drained from a ring, the first of them at position `first` of all it ever had.
    pub fn slots(&mut self, ring: u32, first: u64, slots: &[Slot]) -> Result<(), WriteError> {
        let channel = self.ring_channel(ring)?;
        for (at, part) in slots.chunks(MAX_BLOCK).enumerate() {
            self.buffer.clear();
            let first = first.wrapping_add((at * MAX_BLOCK) as u64);
            self.encoder.encode(ring, first, part, &mut self.buffer);
            self.message(channel, self.now)?;
        }
        Ok(())
    }

    fn ring_channel(&mut self, ring: u32) -> Result<u16, WriteError> {
        let key = ring.min(format::OWN_TOPICS);
        if let Some(&channel) = self.rings.get(&key) {
            return Ok(channel);
        }
        let topic = if key < format::OWN_TOPICS {
            format!("{}{ring}", format::RING)
        } else {
            format!("{}others", format::RING)
        };
        let no_meta = BTreeMap::new();
        let channel = self
            .mcap
            .add_channel(self.slots_schema, &topic, "bypassprof", &no_meta);
        let channel = channel.map_err(|e| failure(&self.path, e))?;
        self.rings.insert(key, channel);
        Ok(channel)
    }

    fn message(&mut self, channel_id: u16, time: u64) -> Result<(), WriteError> {
        let header = mcap::records::MessageHeader {
            channel_id,
            sequence: 0,
            log_time: time,
            publish_time: time,
        };
        let written = self.mcap.write_to_known_channel(&header, &self.buffer);
        written.map_err(|e| failure(&self.path, e))?;
        if self.flushed.elapsed() >= FLUSH_EVERY {
            self.flush()?;
        }
        Ok(())
    }

    /// Makes everything written so far safe from the writer's death.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        self.flushed = Instant::now();
        self.mcap.flush().map_err(|e| failure(&self.path, e))
    }

    /// Writes the index; nothing can be written after it.
    pub fn finish(&mut self) -> Result<(), WriteError> {
        let finished = self.mcap.finish().map(drop);
        finished.map_err(|e| failure(&self.path, e))
    }
}

/// How recordings are put into MCAP.
fn container() -> mcap::WriteOptions {
    mcap::WriteOptions::new()
        .compression(Some(mcap::Compression::Zstd))
        .compression_level(COMPRESSION.cast_unsigned())
        .compression_threads(0)
        .profile(format!(
            "{}{}.{}",
            format::PROFILE,
            format::MAJOR,
            format::MINOR
        ))
        .library(concat!("bypassprof ", env!("CARGO_PKG_VERSION")))
        .chunk_size(Some(format::CHUNK_BYTES))
}

fn failure(path: &Path, error: mcap::McapError) -> WriteError {
    let (why, kind) = match error {
        mcap::McapError::Io(e) => (e.to_string(), Some(e.kind())),
        other => (other.to_string(), None),
    };
    WriteError::Write {
        path: path.to_path_buf(),
        why,
        kind,
    }
}

fn time_of(meta: &Meta) -> u64 {
    match meta {
        Meta::Session(m) => m.started,
        Meta::Thread(m) => m.time,
        Meta::Exit(m) => m.time,
        Meta::Mapping(m) => m.time,
        Meta::RingTotals(m) => m.time,
        Meta::Queue(m) => m.time,
        Meta::Device(m) => m.time,
        Meta::Clock(m) => m.time,
        Meta::Counters(m) => m.time,
        Meta::Lost(m) => m.time,
        Meta::End(m) => m.time,
        Meta::Ring(_)
        | Meta::Symbols(_)
        | Meta::Notice(_)
        | Meta::Salvaged(_)
        | Meta::Crash(_)
        | Meta::LastStack(_)
        | Meta::PostMortem(_) => return 0,
    }
    .ns()
}
