//! Folded stacks: `comm-pid/tid;frame;frame WEIGHT` a line, the kernel's frames marked `_[k]`, as perf's own scripts
//! write them and `bypassprof import` reads them.

use super::thread_name;
use crate::analyse::stacks::Frame;
use crate::analyse::{Profile, Root};
use std::io::{self, Write};

/// Writes them. With `states`, what the thread was doing stands before its name.
pub fn write(profile: &Profile, states: bool, out: &mut impl Write) -> io::Result<()> {
    let mut line = String::new();
    for (&(thread, root, node), weight) in &profile.weights {
        line.clear();
        if states {
            push(&mut line, Root::name(root));
            line.push(';');
        }
        let row = &profile.threads[thread];
        push(&mut line, &thread_name(row));
        line.push_str(&format!("-{}/{}", row.pid, row.tid));
        let mut frames: Vec<_> = profile.stacks.innermost_first(node).collect();
        frames.reverse();
        for frame in frames {
            line.push(';');
            name(&mut line, profile.stacks.get(frame));
        }
        writeln!(out, "{line} {}", weight.weight)?;
    }
    Ok(())
}

fn name(line: &mut String, frame: &Frame) {
    push(line, &frame.name);
    if frame.kernel == Some(true) {
        line.push_str("_[k]");
    }
}

/// A name in which nothing means the end of a frame or of a line.
fn push(line: &mut String, name: &str) {
    line.extend(name.chars().map(|c| match c {
        ';' => ':',
        c if c.is_control() => ' ',
        c => c,
    }));
}
