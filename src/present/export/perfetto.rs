//! Perfetto's trace format: a track for each thread with its polling states, its time on CPUs and its samples, counters
//! over time, sizes of bursts, and requests with their stages.
//!
//! Packets are written as moments come; what is held is names that were written already. A viewer loads the whole file,
//! so there is an end to what is drawn one by one ([`MOST`]); what is left out is counted on a track of its own.

mod names;
mod packets;

use super::proto::Fields;
use super::{Moments, thread_name};
use crate::analyse::Profile;
use crate::analyse::pollstate::PollState;
use crate::analyse::series::Series;
use crate::analyse::spans::STAGES;
use crate::analyse::tape::{Moment, Request, Running, Sampled};
use crate::units::Nanos;
use names::Names;
use packets::{
    Counter, Defaults, Note, Packet, PerfSample, Process, SampleDefaults, Thread, TimeBase, Track,
    TrackEvent, kind,
};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

/// Changes of state, bursts, switches and requests that are written, of each: what a viewer can hold.
pub const MOST: u64 = 1_000_000;
/// Requests take some twenty packets each.
const MOST_REQUESTS: u64 = MOST / 20;
/// Requests at the same time that have a line each.
const LANES: usize = 256;

/// What threads' tracks are: added to the number of their first.
const STATE: u64 = 1;
const CPU: u64 = 2;
const BURSTS: [(u64, &str, &str); 2] = [
    (3, "receive burst", "rx_burst"),
    (4, "transmit burst", "tx_burst"),
];
const PER_THREAD: u64 = 8;

/// What is on a track: since when, and whether a slice is open.
#[derive(Clone, Copy, Default)]
struct Open {
    at: u64,
    open: bool,
}

/// Writes packets as moments come.
pub struct Perfetto<W> {
    fields: Fields<W>,
    names: Names,
    tracks: HashMap<u64, Open>,
    /// When each line for requests is free again.
    lanes: Vec<u64>,
    written: BTreeMap<&'static str, (u64, u64)>,
}

/// The number of a thread's first track.
fn first_track(thread: usize) -> u64 {
    (thread as u64 + 1) * PER_THREAD
}

/// Numbers of other tracks begin here.
const OTHERS: u64 = 1 << 48;
const REQUESTS: u64 = OTHERS << 1;

impl<W: Write> Perfetto<W> {
    /// Begins with threads, tracks and the lines of counters.
    pub fn new(out: W, profile: &Profile, series: &[Series]) -> io::Result<Perfetto<W>> {
        let mut perfetto = Perfetto {
            fields: Fields::new(out),
            names: Names::default(),
            tracks: HashMap::new(),
            lanes: Vec::new(),
            written: BTreeMap::new(),
        };
        perfetto.packet(Packet {
            sequence_flags: packets::CLEARED,
            defaults: Some(Defaults {
                samples: Some(SampleDefaults {
                    timebase: Some(TimeBase {
                        period: 1,
                        name: profile.event.clone(),
                    }),
                }),
            }),
            ..Packet::default()
        })?;
        for (at, row) in profile.threads.iter().enumerate() {
            let uuid = first_track(at);
            let (pid, tid) = (row.pid.cast_signed(), i64::from(row.tid));
            if row.pid == row.tid {
                let process = Process {
                    pid,
                    name: thread_name(row),
                };
                perfetto.track(Track {
                    uuid: uuid + PER_THREAD - 1,
                    process: Some(process),
                    ..Track::default()
                })?;
            }
            perfetto.track(Track {
                uuid,
                thread: Some(Thread {
                    pid,
                    tid,
                    name: thread_name(row),
                }),
                ..Track::default()
            })?;
            let parts = [(STATE, "polling state", row.probes), (CPU, "on CPU", true)];
            for (part, name, _) in parts.iter().filter(|p| p.2) {
                perfetto.child(uuid, uuid + part, (*name).to_owned(), None)?;
            }
            for (part, name, _) in BURSTS.iter().filter(|_| row.probes) {
                perfetto.child(uuid, uuid + part, (*name).to_owned(), Some("packets"))?;
            }
        }
        for (at, line) in series.iter().enumerate() {
            let uuid = OTHERS + at as u64;
            let parent = line.thread.map_or(0, first_track);
            perfetto.child(parent, uuid, line.name.clone(), Some(line.unit))?;
            for &(time, value) in &line.points {
                perfetto.counter(uuid, time, value)?;
            }
        }
        perfetto.child(0, REQUESTS, "requests".to_owned(), None)?;
        Ok(perfetto)
    }

    fn packet(&mut self, packet: Packet) -> io::Result<()> {
        let packet = Packet {
            sequence: 1,
            ..packet
        };
        self.fields.message(packets::PACKET, &packet)
    }

    fn track(&mut self, track: Track) -> io::Result<()> {
        self.packet(Packet {
            track: Some(track),
            ..Packet::default()
        })
    }

    fn child(
        &mut self,
        parent: u64,
        uuid: u64,
        name: String,
        unit: Option<&str>,
    ) -> io::Result<()> {
        self.track(Track {
            uuid,
            name,
            parent,
            counter: unit.map(|unit| Counter {
                unit: unit.to_owned(),
            }),
            ..Track::default()
        })
    }

    fn event(&mut self, time: u64, event: TrackEvent) -> io::Result<()> {
        self.packet(Packet {
            timestamp: time,
            event: Some(event),
            ..Packet::default()
        })
    }

    fn counter(&mut self, track: u64, time: Nanos, value: f64) -> io::Result<()> {
        let event = TrackEvent {
            kind: kind::COUNTER,
            track,
            value: Some(value),
            ..TrackEvent::default()
        };
        self.event(time.ns(), event)
    }

    /// Ends what is open on a track and begins `name` there; `None` only ends.
    fn change(&mut self, track: u64, time: Nanos, name: Option<&str>) -> io::Result<()> {
        let open = self.tracks.entry(track).or_default();
        // Stamps of one loop are nearly in order.
        open.at = open.at.max(time.ns());
        let (at, was_open) = (open.at, std::mem::replace(&mut open.open, name.is_some()));
        if was_open {
            self.slice(track, at, None, Vec::new())?;
        }
        match name {
            Some(name) => self.slice(track, at, Some(name), Vec::new()),
            None => Ok(()),
        }
    }

    fn slice(
        &mut self,
        track: u64,
        at: u64,
        name: Option<&str>,
        notes: Vec<Note>,
    ) -> io::Result<()> {
        let event = TrackEvent {
            kind: name.map_or(kind::END, |_| kind::BEGIN),
            track,
            name: name.unwrap_or_default().to_owned(),
            notes,
            ..TrackEvent::default()
        };
        self.event(at, event)
    }

    /// Whether one more of a kind is written.
    fn room(&mut self, kind: &'static str, most: u64) -> bool {
        let (written, left_out) = self.written.entry(kind).or_default();
        let room = *written < most;
        *(if room { written } else { left_out }) += 1;
        room
    }

    fn sample(&mut self, sample: &Sampled, profile: &Profile) -> io::Result<()> {
        let row = &profile.threads[sample.thread];
        let interned = self.names.interned(sample.node, profile);
        let kernel = profile.stacks.innermost_first(sample.node).next();
        let kernel = kernel.and_then(|f| profile.stacks.get(f).kernel);
        self.packet(Packet {
            timestamp: sample.time.ns(),
            sequence_flags: packets::NEEDS_STATE,
            interned,
            sample: Some(PerfSample {
                cpu: sample.cpu,
                pid: row.pid,
                tid: row.tid,
                mode: match kernel {
                    Some(true) => packets::MODE_KERNEL,
                    Some(false) => packets::MODE_USER,
                    None => 0,
                },
                count: sample.period,
                // Number 0 is none.
                stack: u64::from(sample.node) + 1,
            }),
            ..Packet::default()
        })
    }

    fn request(&mut self, request: &Request) -> io::Result<()> {
        let (from, to) = (request.began.ns(), request.began.ns() + request.total);
        let free = self.lanes.iter().position(|&until| until <= from);
        let lane = match free {
            Some(lane) => lane,
            None if self.lanes.len() < LANES => {
                let lane = self.lanes.len();
                self.lanes.push(0);
                let uuid = REQUESTS + 1 + lane as u64;
                self.child(REQUESTS, uuid, format!("request {lane}"), None)?;
                lane
            }
            // More at a time than there are lines.
            None => {
                self.written.entry("requests").or_default().1 += 1;
                return Ok(());
            }
        };
        if !self.room("requests", MOST_REQUESTS) {
            return Ok(());
        }
        self.lanes[lane] = to;
        let track = REQUESTS + 1 + lane as u64;
        let flow = Note::of("flow", format!("{:08x}", request.flow));
        self.slice(track, from, Some("request"), vec![flow])?;
        let mut at = from;
        for (length, stage) in request.stages.iter().zip(STAGES) {
            let Some(length) = *length else {
                continue;
            };
            self.slice(track, at, Some(stage.name), Vec::new())?;
            at = (at + length).min(to);
            self.slice(track, at, None, Vec::new())?;
        }
        self.slice(track, to, None, Vec::new())
    }
}

impl<W: Write> Moments for Perfetto<W> {
    fn moment(&mut self, moment: &Moment, profile: &Profile) -> io::Result<()> {
        match *moment {
            Moment::Sample(sample) => self.sample(sample, profile),
            Moment::Running {
                thread,
                time,
                running,
            } => {
                if !self.room("switches", MOST) {
                    return Ok(());
                }
                let on = running.filter(|(_, running)| *running == Running::On);
                let name = on.map(|(cpu, _)| format!("CPU {cpu}"));
                self.change(first_track(thread) + CPU, time, name.as_deref())
            }
            Moment::State {
                thread,
                time,
                state,
            } => {
                if !self.room("states", MOST) {
                    return Ok(());
                }
                let name = state.map(|state| match state {
                    PollState::Working => "working",
                    PollState::EmptyPolling => "empty polling",
                    PollState::Unknown => "unknown (events lost)",
                });
                self.change(first_track(thread) + STATE, time, name)
            }
            Moment::Event {
                thread,
                time,
                point,
                event,
            } => {
                let Some(burst) = BURSTS.iter().find(|b| b.2 == point) else {
                    return Ok(());
                };
                if !self.room("bursts", MOST) {
                    return Ok(());
                }
                let flow = event.flow.raw();
                let frames = if point == "rx_burst" {
                    flow & 0xfff
                } else {
                    (flow >> 12) & 0xfff
                };
                self.counter(first_track(thread) + burst.0, time, f64::from(frames))
            }
            Moment::Request(request) => self.request(request),
        }
    }

    fn finish(mut self: Box<Self>, profile: &Profile) -> io::Result<()> {
        let end = Nanos::from_ns(profile.wall_ns);
        let open: Vec<u64> = self
            .tracks
            .iter()
            .filter(|t| t.1.open)
            .map(|t| *t.0)
            .collect();
        for track in open {
            self.change(track, end, None)?;
        }
        let uuid = OTHERS - 1;
        self.child(0, uuid, "about this recording".to_owned(), None)?;
        let left_out = std::mem::take(&mut self.written).into_iter();
        let left_out = left_out.filter(|(_, (_, left_out))| *left_out > 0);
        let left_out =
            left_out.map(|(kind, (_, n))| format!("{n} {kind} are left out: --window shows them"));
        let lines: Vec<String> = left_out.chain([profile.trust.line()]).collect();
        for line in lines {
            let event = TrackEvent {
                kind: kind::INSTANT,
                track: uuid,
                name: line,
                ..TrackEvent::default()
            };
            self.event(0, event)?;
        }
        self.fields.into_inner().flush()
    }
}
