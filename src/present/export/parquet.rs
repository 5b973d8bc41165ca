//! Parquet files of samples, events, spans and counters, partitioned by recording and thread, for DuckDB, Spark,
//! ClickHouse and what else asks questions of a fleet: `OUT/spans/recording=NAME/thread=NAME-TID/part-0.parquet`.
//!
//! Each part is one file with one group of rows, written when so many wait; what waits has an end ([`MOST_WAITING`]).
//! Columns are documented in `docs/reference/parquet.md`. A recording that was exported before is replaced.

mod table;

use super::{Moments, thread_name};
use crate::analyse::series::Series;
use crate::analyse::spans::{Kind, STAGES};
use crate::analyse::stacks::NodeId;
use crate::analyse::tape::{Moment, Request, Sampled};
use crate::analyse::{Profile, ThreadRow};
use parquet::data_type::ByteArray;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use table::{Table, Value};

/// Rows that wait in memory, all tables together: some 100 bytes each.
pub const MOST_WAITING: usize = 4 * table::ROWS;

const SAMPLES: &str = "message samples { required int64 time_ns; required int64 unix_ns; required binary host (UTF8);
    required int64 pid; required int64 tid; required binary thread_name (UTF8); required int64 cpu;
    required binary event (UTF8); required int64 weight; required binary function (UTF8); required binary module (UTF8);
    required binary phase (UTF8); required binary stack (UTF8); }";
const EVENTS: &str = "message events { required int64 time_ns; required int64 unix_ns; required binary host (UTF8);
    required int64 pid; required int64 tid; required binary thread_name (UTF8); required binary point (UTF8);
    required int64 flow; optional int64 arg0; optional int64 arg1; optional int64 arg2; optional int64 arg3;
    optional int64 arg4; optional int64 arg5; optional int64 arg6; optional int64 arg7; optional int64 arg8;
    optional int64 arg9; }";
const SPANS: &str = "message spans { required int64 began_ns; required int64 unix_ns; required binary host (UTF8);
    required int64 pid; required int64 tid; required binary thread_name (UTF8); required int64 request;
    required int64 flow; required binary stage (UTF8); required binary kind (UTF8); required int64 ns; }";
const COUNTERS: &str = "message counters { required int64 time_ns; required int64 unix_ns; required binary host (UTF8);
    required binary thread_name (UTF8); required binary counter (UTF8); required binary unit (UTF8);
    required double value; }";

/// One thread as columns have it.
struct Who {
    pid: i64,
    tid: i64,
    name: ByteArray,
    partition: String,
}

/// Writes tables as moments come.
pub struct Parquet {
    samples: Table,
    events: Table,
    spans: Table,
    host: ByteArray,
    event: ByteArray,
    started_unix: i64,
    threads: Vec<Who>,
    texts: HashMap<&'static str, ByteArray>,
    points: HashMap<String, ByteArray>,
    stacks: HashMap<NodeId, [ByteArray; 3]>,
    requests: i64,
}

impl Parquet {
    /// Begins a recording called `name` below `out`, with the lines of its counters.
    pub fn new(
        out: &Path,
        name: &str,
        profile: &Profile,
        series: &[Series],
    ) -> io::Result<Parquet> {
        let recording = format!("recording={}", partition(name));
        let table = |kind: &str, schema| Table::new(&out.join(kind).join(&recording), schema);
        let started_unix = whole(profile.session.started_unix_ns);
        let host = text(&profile.session.host);
        let mut counters = table("counters", COUNTERS)?;
        for line in series {
            let row = line.thread.map(|t| &profile.threads[t]);
            let thread = row.map_or_else(|| "all".to_owned(), part_of);
            let name = row.map_or_else(String::new, thread_name);
            for &(time, value) in &line.points {
                counters.row(
                    &thread,
                    [
                        Value::Whole(whole(time.ns())),
                        Value::Whole(started_unix + whole(time.ns())),
                        Value::Text(host.clone()),
                        Value::Text(text(&name)),
                        Value::Text(text(&line.name)),
                        Value::Text(text(line.unit)),
                        Value::Real(value),
                    ],
                )?;
            }
        }
        counters.finish()?;
        let who = |row: &ThreadRow| Who {
            pid: i64::from(row.pid),
            tid: i64::from(row.tid),
            name: text(&thread_name(row)),
            partition: part_of(row),
        };
        Ok(Parquet {
            samples: table("samples", SAMPLES)?,
            events: table("events", EVENTS)?,
            spans: table("spans", SPANS)?,
            host,
            event: text(&profile.event),
            started_unix,
            threads: profile.threads.iter().map(who).collect(),
            texts: HashMap::new(),
            points: HashMap::new(),
            stacks: HashMap::new(),
            requests: 0,
        })
    }

    fn constant(&mut self, of: &'static str) -> Value {
        Value::Text(self.texts.entry(of).or_insert_with(|| text(of)).clone())
    }

    fn sample(&mut self, sample: &Sampled, profile: &Profile) -> io::Result<()> {
        let [function, module, stack] = self
            .stacks
            .entry(sample.node)
            .or_insert_with(|| names(sample.node, profile))
            .clone();
        let foreign = profile.threads[sample.thread].foreign;
        let verdict = profile.stacks.verdict(sample.node).phase;
        let phase = self.constant(if foreign { "other" } else { verdict });
        let who = &self.threads[sample.thread];
        let time = whole(sample.time.ns());
        self.samples.row(
            &who.partition,
            [
                Value::Whole(time),
                Value::Whole(self.started_unix + time),
                Value::Text(self.host.clone()),
                Value::Whole(who.pid),
                Value::Whole(who.tid),
                Value::Text(who.name.clone()),
                Value::Whole(i64::from(sample.cpu)),
                Value::Text(self.event.clone()),
                Value::Whole(whole(sample.period)),
                Value::Text(function),
                Value::Text(module),
                phase,
                Value::Text(stack),
            ],
        )
    }

    fn request(&mut self, request: &Request) -> io::Result<()> {
        self.requests += 1;
        let [received, handled, _] = request.threads;
        let place = handled.or(received);
        let (began, number) = (whole(request.began.ns()), self.requests);
        let lengths = request.stages.iter().copied().chain([Some(request.total)]);
        for (length, stage) in lengths.zip(STAGES) {
            let Some(length) = length else {
                continue;
            };
            let kind = match stage.kind {
                Kind::Work => "work",
                Kind::Wait => "wait",
            };
            let (name, kind) = (self.constant(stage.name), self.constant(kind));
            let who = place.map(|at| &self.threads[at]);
            self.spans.row(
                who.map_or("unknown", |w| &w.partition),
                [
                    Value::Whole(began),
                    Value::Whole(self.started_unix + began),
                    Value::Text(self.host.clone()),
                    Value::Whole(who.map_or(0, |w| w.pid)),
                    Value::Whole(who.map_or(0, |w| w.tid)),
                    Value::Text(who.map_or_else(|| text(""), |w| w.name.clone())),
                    Value::Whole(number),
                    Value::Whole(i64::from(request.flow)),
                    name,
                    kind,
                    Value::Whole(whole(length)),
                ],
            )?;
        }
        Ok(())
    }
}

impl Moments for Parquet {
    fn moment(&mut self, moment: &Moment, profile: &Profile) -> io::Result<()> {
        match *moment {
            Moment::Sample(sample) => self.sample(sample, profile)?,
            Moment::Request(request) => self.request(request)?,
            Moment::Event {
                thread,
                time,
                point,
                event,
            } => {
                let point = match self.points.get(point) {
                    Some(known) => known.clone(),
                    None => self
                        .points
                        .entry(point.to_owned())
                        .or_insert_with(|| text(point))
                        .clone(),
                };
                let who = &self.threads[thread];
                let time = whole(time.ns());
                let head = [
                    Value::Whole(time),
                    Value::Whole(self.started_unix + time),
                    Value::Text(self.host.clone()),
                    Value::Whole(who.pid),
                    Value::Whole(who.tid),
                    Value::Text(who.name.clone()),
                    Value::Text(point),
                    Value::Whole(i64::from(event.flow.raw())),
                ];
                let carried = usize::from(event.arg_count);
                let args = event.args.iter().enumerate();
                let args =
                    args.map(|(at, &arg)| Value::Maybe((at < carried).then_some(i64::from(arg))));
                self.events
                    .row(&who.partition, head.into_iter().chain(args))?;
            }
            Moment::Running { .. } | Moment::State { .. } => {}
        }
        if self.samples.waiting() + self.events.waiting() + self.spans.waiting() > MOST_WAITING {
            let tables = [&mut self.samples, &mut self.events, &mut self.spans];
            let fullest = tables.into_iter().max_by_key(|t| t.waiting());
            fullest.map_or(Ok(()), Table::write_fullest)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _: &Profile) -> io::Result<()> {
        self.samples.finish()?;
        self.events.finish()?;
        self.spans.finish()
    }
}

/// The innermost function, its module, and the whole stack folded, outermost first.
fn names(node: NodeId, profile: &Profile) -> [ByteArray; 3] {
    let mut frames: Vec<_> = profile.stacks.innermost_first(node).collect();
    let leaf = frames.first().map(|&f| profile.stacks.get(f));
    let (function, module) = leaf.map_or(("", ""), |f| (&f.name, &f.module));
    let (function, module) = (text(function), text(module));
    frames.reverse();
    let names = frames
        .iter()
        .map(|&f| profile.stacks.get(f).name.replace(';', ":"));
    [function, module, text(&names.collect::<Vec<_>>().join(";"))]
}

fn text(of: &str) -> ByteArray {
    ByteArray::from(of)
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A name as a part of a path that every reader takes as it is.
fn partition(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            c
        } else {
            '_'
        }
    };
    let name: String = name.chars().map(plain).take(100).collect();
    if name.trim_matches('.').is_empty() {
        "unnamed".to_owned()
    } else {
        name
    }
}

fn part_of(row: &ThreadRow) -> String {
    partition(&format!("{}-{}", row.name, row.tid))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name from outside never leads out of its folder.
    #[test]
    fn partitions() {
        assert_eq!(partition("a b/../c;d"), "a_b_.._c_d");
        assert_eq!(partition(".."), "unnamed");
        assert_eq!(partition(""), "unnamed");
    }
}
