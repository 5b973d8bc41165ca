//! speedscope's own format (<https://www.speedscope.app/file-format-schema.json>): a profile for each thread and state,
//! with every distinct stack once and its weight, so that its size is that of the call tree.
//!
//! There is no time in it: speedscope's *Time Order* shows stacks in the order of their functions. Firefox's and
//! Perfetto's formats have the time.

use super::{state_word, thread_name, weight_unit};
use crate::analyse::stacks::NodeId;
use crate::analyse::{Profile, Root};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};

#[derive(Serialize)]
struct Frame<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    file: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    line: u32,
}

fn is_zero(line: &u32) -> bool {
    *line == 0
}

#[derive(Serialize)]
struct Sampled<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: String,
    unit: &'a str,
    #[serde(rename = "startValue")]
    start: u64,
    #[serde(rename = "endValue")]
    end: u64,
    samples: Vec<Vec<u32>>,
    weights: Vec<u64>,
}

/// Writes it, one thread in memory at a time.
pub fn write(profile: &Profile, out: &mut impl Write) -> io::Result<()> {
    let json = |e: serde_json::Error| io::Error::other(e);
    let name = serde_json::to_string(&profile.session.command.join(" ")).map_err(json)?;
    write!(
        out,
        "{{\"$schema\":\"https://www.speedscope.app/file-format-schema.json\",\"exporter\":\"bypassprof {}\",\"name\":{name},\"shared\":{{\"frames\":[",
        env!("CARGO_PKG_VERSION")
    )?;
    for (at, frame) in profile.stacks.frames().iter().enumerate() {
        comma(out, at)?;
        let frame = Frame {
            name: &frame.name,
            file: if frame.file.is_empty() {
                &frame.module
            } else {
                &frame.file
            },
            line: frame.line,
        };
        serde_json::to_writer(&mut *out, &frame).map_err(json)?;
    }
    write!(out, "]}},\"profiles\":[")?;
    let mut by_thread: BTreeMap<(usize, Root), Vec<(NodeId, u64)>> = BTreeMap::new();
    for (&(thread, root, node), weight) in &profile.weights {
        let stacks = by_thread.entry((thread, root)).or_default();
        stacks.push((node, weight.weight));
    }
    let unit = match profile.is_time() {
        true => weight_unit(profile).1,
        false => "none",
    };
    for (at, ((thread, root), stacks)) in by_thread.into_iter().enumerate() {
        comma(out, at)?;
        let row = &profile.threads[thread];
        let outermost_first = |&(node, _): &(NodeId, u64)| {
            let mut frames: Vec<_> = profile.stacks.innermost_first(node).collect();
            frames.reverse();
            frames
        };
        let sampled = Sampled {
            kind: "sampled",
            name: format!(
                "{} {}: {}",
                thread_name(row),
                row.tid,
                state_word(root).replace('_', " ")
            ),
            unit,
            start: 0,
            end: stacks.iter().map(|s| s.1).sum(),
            samples: stacks.iter().map(outermost_first).collect(),
            weights: stacks.iter().map(|s| s.1).collect(),
        };
        serde_json::to_writer(&mut *out, &sampled).map_err(json)?;
    }
    writeln!(out, "]}}")
}

fn comma(out: &mut impl Write, at: usize) -> io::Result<()> {
    if at > 0 {
        out.write_all(b",")?;
    }
    Ok(())
}
