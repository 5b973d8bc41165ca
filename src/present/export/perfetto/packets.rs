//! The part of Perfetto's `trace.proto` that is written: names of fields are ours, numbers are theirs.

/// `Trace.packet`.
pub const PACKET: u32 = 1;
/// `SEQ_INCREMENTAL_STATE_CLEARED`.
pub const CLEARED: u32 = 1;
/// `SEQ_NEEDS_INCREMENTAL_STATE`.
pub const NEEDS_STATE: u32 = 2;
/// `Profiling.CpuMode`.
pub const MODE_KERNEL: i32 = 1;
/// See [`MODE_KERNEL`].
pub const MODE_USER: i32 = 2;

/// `TrackEvent.Type`.
pub mod kind {
    pub const BEGIN: i32 = 1;
    pub const END: i32 = 2;
    pub const INSTANT: i32 = 3;
    pub const COUNTER: i32 = 4;
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Packet {
    #[prost(uint64, tag = "8")]
    pub timestamp: u64,
    #[prost(uint32, tag = "10")]
    pub sequence: u32,
    #[prost(uint32, tag = "13")]
    pub sequence_flags: u32,
    #[prost(message, optional, tag = "12")]
    pub interned: Option<Interned>,
    #[prost(message, optional, tag = "11")]
    pub event: Option<TrackEvent>,
    #[prost(message, optional, tag = "66")]
    pub sample: Option<PerfSample>,
    #[prost(message, optional, tag = "60")]
    pub track: Option<Track>,
    #[prost(message, optional, tag = "59")]
    pub defaults: Option<Defaults>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Defaults {
    #[prost(message, optional, tag = "12")]
    pub samples: Option<SampleDefaults>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SampleDefaults {
    #[prost(message, optional, tag = "1")]
    pub timebase: Option<TimeBase>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct TimeBase {
    #[prost(uint64, tag = "3")]
    pub period: u64,
    #[prost(string, tag = "10")]
    pub name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Track {
    #[prost(uint64, tag = "1")]
    pub uuid: u64,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, optional, tag = "3")]
    pub process: Option<Process>,
    #[prost(message, optional, tag = "4")]
    pub thread: Option<Thread>,
    #[prost(uint64, tag = "5")]
    pub parent: u64,
    #[prost(message, optional, tag = "8")]
    pub counter: Option<Counter>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Process {
    #[prost(int32, tag = "1")]
    pub pid: i32,
    #[prost(string, tag = "6")]
    pub name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Thread {
    #[prost(int32, tag = "1")]
    pub pid: i32,
    #[prost(int64, tag = "2")]
    pub tid: i64,
    #[prost(string, tag = "5")]
    pub name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Counter {
    #[prost(string, tag = "6")]
    pub unit: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct TrackEvent {
    #[prost(message, repeated, tag = "4")]
    pub notes: Vec<Note>,
    #[prost(int32, tag = "9")]
    pub kind: i32,
    #[prost(uint64, tag = "11")]
    pub track: u64,
    #[prost(string, tag = "23")]
    pub name: String,
    #[prost(double, optional, tag = "44")]
    pub value: Option<f64>,
}

/// `DebugAnnotation`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Note {
    #[prost(string, tag = "10")]
    pub name: String,
    #[prost(string, tag = "6")]
    pub text: String,
}

impl Note {
    /// A note with a text.
    pub fn of(name: &str, text: String) -> Note {
        Note {
            name: name.to_owned(),
            text,
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct PerfSample {
    #[prost(uint32, tag = "1")]
    pub cpu: u32,
    #[prost(uint32, tag = "2")]
    pub pid: u32,
    #[prost(uint32, tag = "3")]
    pub tid: u32,
    #[prost(uint64, tag = "4")]
    pub stack: u64,
    #[prost(int32, tag = "5")]
    pub mode: i32,
    #[prost(uint64, tag = "6")]
    pub count: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Interned {
    #[prost(message, repeated, tag = "5")]
    pub functions: Vec<InternedText>,
    #[prost(message, repeated, tag = "6")]
    pub frames: Vec<Frame>,
    #[prost(message, repeated, tag = "7")]
    pub stacks: Vec<CallStack>,
    #[prost(message, repeated, tag = "17")]
    pub paths: Vec<InternedText>,
    #[prost(message, repeated, tag = "19")]
    pub mappings: Vec<Mapping>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct InternedText {
    #[prost(uint64, tag = "1")]
    pub iid: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub text: Vec<u8>,
}

impl InternedText {
    /// A text with its number.
    pub fn of(iid: u64, text: &str) -> InternedText {
        InternedText {
            iid,
            text: text.as_bytes().to_vec(),
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Frame {
    #[prost(uint64, tag = "1")]
    pub iid: u64,
    #[prost(uint64, tag = "2")]
    pub function: u64,
    #[prost(uint64, tag = "3")]
    pub mapping: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct CallStack {
    #[prost(uint64, tag = "1")]
    pub iid: u64,
    #[prost(uint64, repeated, packed = "false", tag = "2")]
    pub frames: Vec<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Mapping {
    #[prost(uint64, tag = "1")]
    pub iid: u64,
    #[prost(uint64, repeated, packed = "false", tag = "7")]
    pub path: Vec<u64>,
}
