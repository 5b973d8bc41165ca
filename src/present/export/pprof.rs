//! pprof's `profile.proto`: every distinct stack once, with its number of samples and its weight, and thread, state and
//! phase as labels, so that `pprof -tagfocus state=useful` and `-tagroot phase` work.

use super::proto::Fields;
use super::{state_word, thread_name, weight_unit};
use crate::analyse::Profile;
use crate::analyse::stacks::FrameId;
use std::collections::HashMap;
use std::io::{self, Write};

#[derive(Clone, PartialEq, prost::Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    locations: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    values: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    labels: Vec<Label>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Label {
    #[prost(int64, tag = "1")]
    key: i64,
    #[prost(int64, tag = "2")]
    text: i64,
    #[prost(int64, tag = "3")]
    number: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Mapping {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "5")]
    file: i64,
    #[prost(bool, tag = "7")]
    has_functions: bool,
    #[prost(bool, tag = "8")]
    has_files: bool,
    #[prost(bool, tag = "9")]
    has_lines: bool,
    #[prost(bool, tag = "10")]
    has_inlined: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    mapping: u64,
    #[prost(message, repeated, tag = "4")]
    lines: Vec<Line>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function: u64,
    #[prost(int64, tag = "2")]
    line: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "3")]
    system_name: i64,
    #[prost(int64, tag = "4")]
    file: i64,
}

/// Fields of `perftools.profiles.Profile`.
mod field {
    pub const SAMPLE_TYPE: u32 = 1;
    pub const SAMPLE: u32 = 2;
    pub const MAPPING: u32 = 3;
    pub const LOCATION: u32 = 4;
    pub const FUNCTION: u32 = 5;
    pub const STRING: u32 = 6;
    pub const TIME_NANOS: u32 = 9;
    pub const DURATION_NANOS: u32 = 10;
    pub const COMMENT: u32 = 13;
    pub const DEFAULT_SAMPLE_TYPE: u32 = 14;
}

/// Texts by number; the first is empty.
#[derive(Default)]
struct Strings {
    texts: Vec<String>,
    numbers: HashMap<String, i64>,
}

impl Strings {
    fn number(&mut self, text: &str) -> i64 {
        if self.texts.is_empty() {
            self.texts.push(String::new());
            self.numbers.insert(String::new(), 0);
        }
        if let Some(&number) = self.numbers.get(text) {
            return number;
        }
        let number = self.texts.len() as i64;
        self.texts.push(text.to_owned());
        self.numbers.insert(text.to_owned(), number);
        number
    }
}

/// Numbers of frames begin with 1.
fn id(frame: FrameId) -> u64 {
    u64::from(frame) + 1
}

/// Writes it, not compressed.
pub fn write(profile: &Profile, out: &mut impl Write) -> io::Result<()> {
    let mut strings = Strings::default();
    let mut fields = Fields::new(out);
    let (name, unit) = weight_unit(profile);
    for (kind, unit) in [("samples", "count"), (name, unit)] {
        let (kind, unit) = (strings.number(kind), strings.number(unit));
        fields.message(field::SAMPLE_TYPE, &ValueType { kind, unit })?;
    }
    for (&(thread, root, node), weight) in &profile.weights {
        let row = &profile.threads[thread];
        let mut text = |key: &str, text: &str| Label {
            key: strings.number(key),
            text: strings.number(text),
            number: 0,
        };
        let mut labels = vec![
            text("thread", &thread_name(row)),
            text("state", state_word(root)),
            text("phase", profile.phase(thread, root, node)),
        ];
        for (key, number) in [("pid", row.pid), ("tid", row.tid)] {
            labels.push(Label {
                key: strings.number(key),
                text: 0,
                number: i64::from(number),
            });
        }
        let sample = Sample {
            locations: profile.stacks.innermost_first(node).map(id).collect(),
            values: vec![whole(weight.samples), whole(weight.weight)],
            labels,
        };
        fields.message(field::SAMPLE, &sample)?;
    }
    let mut modules: HashMap<&str, u64> = HashMap::new();
    for (at, frame) in profile.stacks.frames().iter().enumerate() {
        let next = modules.len() as u64 + 1;
        let mapping = *modules.entry(frame.module.as_str()).or_insert(next);
        if mapping == next {
            let mapping = Mapping {
                id: next,
                file: strings.number(&frame.module),
                has_functions: true,
                has_files: true,
                has_lines: true,
                has_inlined: true,
            };
            fields.message(field::MAPPING, &mapping)?;
        }
        let number = id(at as FrameId);
        let line = Line {
            function: number,
            line: i64::from(frame.line),
        };
        let location = Location {
            id: number,
            mapping,
            lines: vec![line],
        };
        fields.message(field::LOCATION, &location)?;
        let name = strings.number(&frame.name);
        let function = Function {
            id: number,
            name,
            system_name: name,
            file: strings.number(&frame.file),
        };
        fields.message(field::FUNCTION, &function)?;
    }
    fields.number(field::TIME_NANOS, profile.session.started_unix_ns)?;
    fields.number(field::DURATION_NANOS, profile.wall_ns)?;
    let trust = strings.number(&profile.trust.line());
    fields.number(field::COMMENT, trust.cast_unsigned())?;
    let weight = strings.number(name);
    fields.number(field::DEFAULT_SAMPLE_TYPE, weight.cast_unsigned())?;
    for text in &strings.texts {
        fields.text(field::STRING, text)?;
    }
    Ok(())
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
