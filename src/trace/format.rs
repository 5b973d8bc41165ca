//! What a recording is on disk: an MCAP file whose profile carries our version, with these channels.
//!
//! | topic | encoding | payload |
//! |---|---|---|
//! | `/meta` | `json` | one [`super::record::Meta`] per message |
//! | `/samples`, `/switches` | `bypassprof` | blocks of [`super::block`] |
//! | `/ring/N` | `bypassprof` | slot blocks of ring N |
//!
//! In: names and numbers; out: the same on both sides. It refuses to know how blocks are coded.

/// Start of the MCAP profile of our files; the version follows.
pub const PROFILE: &str = "bypassprof/";
/// A reader of another major version cannot read the file.
pub const MAJOR: u32 = 1;
/// Files of a higher minor version are read; what they added is ignored.
pub const MINOR: u32 = 1;

/// Topic of [`super::record::Meta`] messages.
pub const META: &str = "/meta";
/// Topic of sample blocks.
pub const SAMPLES: &str = "/samples";
/// Topic of switch blocks.
pub const SWITCHES: &str = "/switches";
/// Start of the topics of slot blocks; the ring's number follows.
pub const RING: &str = "/ring/";
/// Rings with a topic of their own; MCAP numbers channels with 16 bits. The others share one.
pub const OWN_TOPICS: u32 = 60_000;

/// A chunk is closed when it holds this many bytes before compression.
pub const CHUNK_BYTES: u64 = 1 << 20;
/// No chunk or record of ours is larger than this; what is larger is damage.
pub const MAX_CHUNK_BYTES: u64 = 64 << 20;
/// Most records in one block.
pub const MAX_BLOCK: usize = 1 << 16;
/// Bytes of JSON kept from one recording.
pub const MAX_META_BYTES: u64 = 256 << 20;

/// What the `/meta` messages look like, for readers in other languages.
pub const META_SCHEMA: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "title": "bypassprof.meta/1",
  "type": "object",
  "required": ["type"],
  "properties": {
    "type": {
      "enum": ["session", "thread", "exit", "mapping", "ring", "ring_totals", "queue", "device", "clock",
        "counters", "lost", "symbols", "notice", "end", "salvaged", "crash", "last_stack", "post_mortem"]
    },
    "time": { "type": "integer", "description": "CLOCK_MONOTONIC_RAW, nanoseconds" }
  },
  "additionalProperties": true
}"#;

/// Splits a profile into major and minor version; `None` if the file is not ours.
pub fn version_of(profile: &str) -> Option<(u32, u32)> {
    let (major, minor) = profile.strip_prefix(PROFILE)?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
