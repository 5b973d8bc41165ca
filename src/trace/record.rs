//! What happened, as plain values: the records that a recording is made of.
//!
//! Left of the waist these are written, right of it they are read. Times are CLOCK_MONOTONIC_RAW except where a field
//! says TSC. Nothing here knows a file format or a kernel structure. Low-rate records are [`Meta`] values (JSON in the
//! file, so that fields may be added); high-rate ones are [`Sample`], [`Switch`] and ring slots (binary blocks).

use crate::units::{Avma, ClockPair, FileOffset, Nanos};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A process.
pub type Pid = u32;
/// A thread, as the kernel numbers it in the recorder's PID namespace.
pub type Tid = u32;

/// One perf sample.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// When.
    pub time: Nanos,
    /// Whose.
    pub pid: Pid,
    /// Which thread's.
    pub tid: Tid,
    /// On which CPU.
    pub cpu: u32,
    /// Index into [`Session::events`].
    pub event: u16,
    /// How much of the event this sample stands for: nanoseconds for `cpu-clock`, counts otherwise.
    pub period: u64,
    /// Addresses, innermost first: the first `kernel_frames` of them are the kernel's. The first of each part is an
    /// instruction pointer, the others are return addresses.
    pub frames: Vec<u64>,
    /// Of two samples with the same number `frames` are the same; 0 if no one has compared them. It is not recorded.
    pub stack_number: u64,
    /// How many of `frames` are kernel addresses.
    pub kernel_frames: u16,
    /// Whether the user part of the stack is whole.
    pub stack: StackEnd,
    /// Values of the sampled group's other members, in the order of [`Session::events`] that name this one as leader;
    /// running totals of the thread on that CPU, not differences.
    pub group: Vec<u64>,
    /// What a tracepoint or uprobe recorded, laid out as its event's [`EventSource::format`] says.
    pub raw: Vec<u8>,
}

/// How the walk of a stack ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum StackEnd {
    /// At the outermost frame.
    #[default]
    Whole = 0,
    /// The stack was deeper than what was walked or copied.
    Truncated = 1,
    /// The walk failed: missing frame pointer or unwind information.
    Broken = 2,
    /// Only the kernel's part was asked for or could be had.
    KernelOnly = 3,
}

/// A thread left or entered a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// When.
    pub time: Nanos,
    /// Whose.
    pub pid: Pid,
    /// Which thread's.
    pub tid: Tid,
    /// On which CPU.
    pub cpu: u32,
    /// What happened.
    pub kind: SwitchKind,
}

/// Direction and cause of a [`Switch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SwitchKind {
    /// The thread runs from here on.
    In = 0,
    /// The thread blocked or ended.
    OutWaiting = 1,
    /// The thread was preempted while it could have run.
    OutPreempted = 2,
}

/// A record of low rate, kept as one JSON object with its kind in `"type"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Meta {
    /// First record of every recording.
    Session(Session),
    /// A thread and its name; again when the name changes.
    Thread(Thread),
    /// A thread ended.
    Exit(Exit),
    /// Executable memory of a process.
    Mapping(Mapping),
    /// A ring was found.
    Ring(Ring),
    /// Counts in a ring's header, read while recording; the last one of a ring is final.
    RingTotals(RingTotals),
    /// What a thread did on one queue of a device, counted since it began; the last one of a queue is final.
    Queue(Queue),
    /// What a device says of itself and its memory, read while recording.
    Device(Device),
    /// Both clocks read together.
    Clock(ClockPair),
    /// Running totals of the counted events.
    Counters(Counters),
    /// Records that a source could not deliver.
    Lost(Lost),
    /// Names of sampled addresses, resolved while their files were there.
    Symbols(Symbols),
    /// Something the user should know about this recording: a fallback, a missing privilege.
    Notice(Notice),
    /// Last record of a recording that ended well.
    End(End),
    /// What a recording lacks that was salvaged from a damaged one.
    Salvaged(Salvaged),
    /// Why a process ended, and what tells so.
    Crash(Crash),
    /// Where a thread was last.
    LastStack(LastStack),
    /// What was told of a crash when it was recorded.
    PostMortem(PostMortem),
}

impl Meta {
    /// How records of names begin in our files.
    const SYMBOLS: &[u8] = br#"{"type":"symbols","#;

    /// Reads the JSON of a record. Most of it is names, whose kind is known by how they begin: nothing of them has to be
    /// kept until it is.
    pub fn from_json(json: &[u8]) -> serde_json::Result<Meta> {
        match json.starts_with(Meta::SYMBOLS) {
            true => serde_json::from_slice(json).map(Meta::Symbols),
            false => serde_json::from_slice(json),
        }
    }
}

/// What was recorded, where, and with what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Session {
    /// Version of the tool that wrote the file.
    pub tool_version: String,
    /// Command line recorded; empty when attached to processes.
    pub command: Vec<String>,
    /// Processes recorded at the start.
    pub pids: Vec<Pid>,
    /// Wall clock at the start, nanoseconds since 1970.
    pub started_unix_ns: u64,
    /// Start on the recording's clock.
    pub started: Nanos,
    /// `uname -r`.
    pub kernel: String,
    /// `x86_64` or `aarch64`.
    pub arch: String,
    /// Host name.
    pub host: String,
    /// /proc/sys/kernel/random/boot_id.
    pub boot_id: String,
    /// CPU model name.
    pub cpu_model: String,
    /// CPUs online.
    pub cpus: u32,
    /// Events opened, sampled ones first.
    pub events: Vec<EventSource>,
    /// How user stacks were walked: `fp`, `dwarf` or `auto` with the bytes copied, `lbr`, `none`; empty if not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub call_graph: String,
    /// Whether nothing is known of threads entering and leaving CPUs: so it is with most imported recordings.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub switches_unknown: bool,
}

/// A perf event that was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventSource {
    /// Name in perf's notation, for example `cycles:u` or `cpu-clock`.
    pub name: String,
    /// Sampling frequency asked for; 0 for events that are only counted.
    pub frequency_hz: u64,
    /// Index of the group's sampled leader, for members whose values ride in its samples.
    pub leader: Option<u16>,
    /// Whether kernel code was excluded.
    pub user_only: bool,
    /// Of a tracepoint or uprobe: the text of the kernel's `format` file, by which [`Sample::raw`] is read.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub format: String,
}

/// A thread and its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Thread {
    /// When it got the name.
    pub time: Nanos,
    /// Its process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// Process that made it; 0 when not known.
    pub parent: Pid,
    /// Thread that made it, whose name it has until it gets its own; 0 when not known.
    pub parent_tid: Tid,
    /// Its name (comm); empty when it was made.
    pub name: String,
    /// Whether the name came from an exec: earlier mappings of the process are gone.
    pub exec: bool,
}

/// A thread ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Exit {
    /// When.
    pub time: Nanos,
    /// Its process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
}

/// Executable memory of a process, or of the kernel (`pid` of [`Mapping::KERNEL`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mapping {
    /// From when on.
    pub time: Nanos,
    /// Whose.
    pub pid: Pid,
    /// First address.
    pub start: Avma,
    /// Bytes.
    pub len: u64,
    /// Position of `start` in the file.
    pub offset: FileOffset,
    /// The file as the process saw it, `[vdso]`, `[kernel.kallsyms]`, a module, `//anon`; of code that the kernel made,
    /// for a BPF program say, its name.
    pub path: String,
    /// GNU build id in hexadecimal; empty when there is none or it could not be read.
    pub build_id: String,
}

impl Mapping {
    /// The `pid` of kernel mappings.
    pub const KERNEL: Pid = u32::MAX;
}

/// A probe ring: one thread's events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ring {
    /// Number of the ring in this recording; slot blocks name it.
    pub ring: u32,
    /// Writer's process, in the recorder's PID namespace.
    pub pid: Pid,
    /// Writer's thread, likewise.
    pub tid: Tid,
    /// Writer's name.
    pub name: String,
    /// Slots the ring holds.
    pub capacity: u64,
    /// Whether old events are overwritten.
    pub flight: bool,
    /// Counter value to complete the first stamps with.
    pub base_tsc: u64,
    /// Position of the first slot recorded; larger than 0 if earlier ones were gone already.
    pub first_slot: u64,
    /// When the program's points were switched on; 0 if they were on from its start.
    pub listening: Nanos,
    /// The program's own points.
    pub points: Vec<OwnPoint>,
}

/// A point that a program registered itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OwnPoint {
    /// Its number.
    pub id: u16,
    /// Its name.
    pub name: String,
}

/// Counts kept by a ring's writer since the ring began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RingTotals {
    /// Which ring.
    pub ring: u32,
    /// When they were read.
    pub time: Nanos,
    /// Events written.
    pub events: u64,
    /// Slots that did not fit (drain mode) or were overwritten before they were read (flight mode).
    pub dropped_slots: u64,
    /// Non-empty receive bursts.
    pub rx_bursts: u64,
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Transmit bursts.
    pub tx_bursts: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Rounds begun, empty ones included.
    pub rounds: u64,
    /// Rounds that found nothing to do.
    pub empty_rounds: u64,
    /// Requests finished (`app_end`).
    pub requests: u64,
}

/// One thread's counts on one queue of a device, every burst counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Queue {
    /// Number of the queue in its process, as `rx_burst` and `tx_burst` name it (255: this or a later one).
    pub number: u32,
    /// When it was read.
    pub time: Nanos,
    /// The process.
    pub pid: Pid,
    /// The thread that polls or fills it.
    pub tid: Tid,
    /// The thread's lcore, if it is one.
    pub lcore: Option<u32>,
    /// The port.
    pub port: u16,
    /// The port's name.
    pub port_name: String,
    /// The queue; `None` if it could not be told.
    pub queue: Option<u16>,
    /// Whether frames are received; otherwise they are sent.
    pub receives: bool,
    /// Whether frames sent are those the device took; otherwise those offered to it.
    pub accepted_known: bool,
    /// One in how many bursts was an event, as chosen last.
    pub sampled: u64,
    /// Frames received or sent.
    pub frames: u64,
    /// Frames offered for sending that the device did not take.
    pub refused: u64,
    /// Bytes of the frames that were looked at.
    pub bytes: u64,
    /// How many frames were looked at.
    pub bytes_of: u64,
    /// Frames that were to be looked at, and were not for want of room in the ring.
    pub unlooked: u64,
    /// Calls by burst size: the size, or the smallest of its class, and how many.
    pub sizes: Vec<(u32, u64)>,
}

/// What a program's devices and memory pools said of themselves at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Device {
    /// When.
    pub time: Nanos,
    /// The process.
    pub pid: Pid,
    /// Its ports.
    pub ports: Vec<DevicePort>,
    /// Its memory pools.
    pub pools: Vec<DevicePool>,
}

/// A port's own statistics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DevicePort {
    /// The port.
    pub port: u16,
    /// Its name.
    pub name: String,
    /// Whether the link is up.
    pub link_up: bool,
    /// Its speed; `None` if not known.
    pub link_mbps: Option<u32>,
    /// Running totals by name: `ipackets`, `imissed`, `rx_nombuf` and so on.
    pub counters: Vec<(String, u64)>,
}

/// How much of a memory pool is in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DevicePool {
    /// Its name.
    pub name: String,
    /// Objects in all.
    pub size: u64,
    /// Objects that are free, those in caches of threads included; `None` where nobody tells.
    pub free: Option<u64>,
}

/// Running totals of counted events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// When they were read.
    pub time: Nanos,
    /// A value for each of [`Session::events`]; `None` where it is not counted.
    pub values: Vec<Option<CounterValue>>,
}

/// A counter with its multiplexing times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CounterValue {
    /// Counted while running, not scaled.
    pub value: u64,
    /// Nanoseconds it was enabled.
    pub enabled: u64,
    /// Nanoseconds it really counted.
    pub running: u64,
}

/// Records that a source could not deliver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lost {
    /// When it was noticed.
    pub time: Nanos,
    /// `perf cpu 0`, for example.
    pub source: String,
    /// Samples lost.
    pub samples: u64,
    /// Other records lost (mappings, switches), as far as the kernel tells them apart.
    pub records: u64,
}

/// Names of sampled addresses of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Symbols {
    /// The file as in [`Mapping::path`].
    pub path: String,
    /// Its build id as in [`Mapping::build_id`].
    pub build_id: String,
    /// What was sampled in it.
    pub addresses: Vec<AddressNames>,
}

/// The frames at one address, inlined ones first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AddressNames {
    /// Position in the file for user code, the address itself for the kernel.
    pub at: u64,
    /// Innermost first; the last is the function that holds the address. Empty if unknown, then `why` tells.
    pub frames: Vec<NamedFrame>,
    /// Why no symbol names it. If there is a frame nevertheless, its name is made of where the function begins.
    pub why: Option<String>,
}

impl AddressNames {
    /// What is printed before the names of a module and of a function that no symbol names.
    pub const NO_SYMBOL: &str = "[no symbol] ";
}

/// A function, and the line in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NamedFrame {
    /// Demangled name.
    pub name: String,
    /// Source file; empty if not known.
    pub file: String,
    /// Line; 0 if not known.
    pub line: u32,
}

/// Something the user should know about a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notice {
    /// Short stable name, for example `no-pmu`.
    pub id: String,
    /// The sentence.
    pub text: String,
}

/// How a recording ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct End {
    /// When recording stopped.
    pub time: Nanos,
    /// Exit code of the command, if one was run and it exited.
    pub exit_code: Option<i32>,
    /// Signal that ended the command.
    pub signal: Option<i32>,
    /// CPU time the recorder used until everything was taken over, in nanoseconds.
    pub recorder_cpu_ns: u64,
    /// Times the recorder woke up to look for records.
    pub recorder_wakeups: u64,
    /// Rings that could not be reached or were not ring files.
    pub rings_unreached: u64,
}

/// Where a recording is torn or was changed; what lies around is good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Damage {
    /// First byte that could not be used.
    pub offset: u64,
    /// Bytes from there that could not be used.
    pub bytes: u64,
    /// What is wrong.
    pub why: String,
    /// When the last record before was written; `None` if there is none.
    pub from: Option<Nanos>,
    /// When the first record after was written; `None` if there is none.
    pub to: Option<Nanos>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.why)?;
        match self.bytes {
            0 => Ok(()),
            bytes => write!(f, " ({bytes} bytes from byte {} on are lost)", self.offset),
        }
    }
}

/// What a recording lacks that was salvaged from a damaged one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Salvaged {
    /// The damaged file's length.
    pub bytes: u64,
    /// Where it was damaged.
    pub damage: Vec<Damage>,
    /// Slots that are missing there, by ring.
    pub slots_missing: Vec<(u32, u64)>,
}

/// Why a process ended. What nothing tells is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Crash {
    /// The process; 0 if nothing tells.
    pub pid: Pid,
    /// The thread that was hit.
    pub tid: Option<Tid>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Why the signal was sent, as the kernel codes it.
    pub code: Option<i32>,
    /// Address that could not be used.
    pub address: Option<u64>,
    /// Process and user that sent the signal.
    pub sender: Option<(u32, u32)>,
    /// Exit code, if it exited.
    pub exit_code: Option<i32>,
    /// How many processes of its cgroup were killed for want of memory while it was recorded.
    pub oom_kills: Option<u64>,
    /// It did not end: its memory was copied while it ran.
    pub alive: bool,
    /// What tells so: a file, or the recorder.
    pub told_by: String,
    /// What could not be had, and how that is known.
    pub missing: Vec<Missing>,
}

/// Something that is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Missing {
    /// What.
    pub what: String,
    /// How that is known, and what to do so that it is there the next time.
    pub how: String,
}

/// Where a thread was when its process ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastStack {
    /// Its process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// Addresses, innermost first: an instruction, then return addresses.
    pub frames: Vec<u64>,
    /// How the walk ended.
    pub end: StackEnd,
}

/// What was told of a crash when it was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PostMortem {
    /// As `bypassprof postmortem` printed it.
    pub text: String,
}
