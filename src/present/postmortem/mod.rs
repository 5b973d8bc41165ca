//! What a process was doing when it ended, as text and as `bypassprof.postmortem/1`.
//!
//! Times are told as before the newest event. It refuses to compute: what is shown was decided in `analyse`.

mod json;

pub use json::{POSTMORTEM_SCHEMA, json};

use super::style::{Style, duration, printable};
use crate::analyse::postmortem::{FrameName, PostMortem, Stack, ThreadEnd};
use crate::units::Nanos;
use std::fmt::Write;

/// Frames of a stack that are shown.
const FRAMES: usize = 24;
/// Requests that are shown.
const REQUESTS: usize = 20;

fn ago(time: Nanos) -> String {
    match time.ns() {
        0 => "0".to_owned(),
        ns => format!("-{}", duration(ns)),
    }
}

/// As text.
pub fn text(answer: &PostMortem, style: Style) -> String {
    let mut text = String::new();
    let mut line = |l: String| {
        text.push_str(&printable(&l).replace('\u{fffd}', "?"));
        text.push('\n');
    };
    let program = match answer.program.as_str() {
        "" => "a program".to_owned(),
        program => program.to_owned(),
    };
    line(match answer.pid {
        0 => program,
        pid => format!("{program} (process {pid})"),
    });
    line(format!("why it ended: {}", answer.ended.text));
    if let Some((tid, name)) = &answer.ended.thread {
        line(format!("  thread {tid}{}", in_parentheses(name)));
    }
    if let Some(source) = &answer.ended.source {
        line(format!("  at {source}"));
    }
    match (answer.ended.flow, answer.ended.stage) {
        (Some(flow), Some(stage)) => line(format!(
            "  its last event was of flow {flow:08x}, stage {stage}"
        )),
        (Some(flow), None) => line(format!("  its last event was of flow {flow:08x}")),
        (None, Some(stage)) => line(format!("  its last event was of stage {stage}")),
        (None, None) => {}
    }
    line(String::new());
    let shown = answer.requests.len().min(REQUESTS);
    line(match answer.requests_in_all {
        0 => "requests on their way: none that events tell of".to_owned(),
        n if n > shown => format!("requests on their way: {n}, the newest {shown} of them"),
        n => format!("requests on their way: {n}"),
    });
    for request in answer.requests.iter().take(REQUESTS) {
        let (tid, name) = &request.thread;
        line(format!(
            "  {:08x}  {:<12} since {:>9}, began {:>9}, thread {tid}{}",
            request.flow,
            request.stage,
            ago(request.since),
            ago(request.began),
            in_parentheses(name)
        ));
    }
    for thread in &answer.threads {
        text.push('\n');
        text.push_str(&of_thread(thread, style));
    }
    text.push_str(&missing(answer));
    text
}

fn in_parentheses(name: &str) -> String {
    match name {
        "" => String::new(),
        name => format!(" ({name})"),
    }
}

fn of_thread(thread: &ThreadEnd, style: Style) -> String {
    let mut text = String::new();
    let head = format!(
        "thread {}{}",
        thread.tid,
        in_parentheses(&printable(&thread.name))
    );
    // Writing to a string cannot fail.
    let _ = write!(text, "{}: {}", style.bold(&head), thread.doing.text);
    if let Some(flow) = thread.doing.flow {
        let _ = write!(text, ", flow {flow:08x}");
    }
    if let Some(quiet) = thread.quiet_for {
        let _ = write!(text, "; newest event {}", ago(quiet));
    }
    if thread.lost > 0 {
        let _ = write!(text, "; {} slots lost", thread.lost);
    }
    text.push('\n');
    let mut facts = Vec::new();
    for (burst, what) in thread.bursts.iter().zip(["received", "sent"]) {
        if let Some(burst) = burst {
            facts.push(format!(
                "last {what} {} frames on queue {} at {}",
                burst.frames,
                burst.queue,
                ago(burst.before_end)
            ));
        }
    }
    for (depth, what) in thread
        .depths
        .iter()
        .zip(["to the application", "between threads"])
    {
        if let Some(depth) = depth {
            facts.push(format!("{depth} waiting in the queue {what}"));
        }
    }
    if thread.drops > 0 {
        facts.push(format!("{} packets dropped", thread.drops));
    }
    if thread.full > 0 {
        facts.push(format!("{} times a full queue", thread.full));
    }
    if !facts.is_empty() {
        let _ = writeln!(text, "  {}", facts.join("; "));
    }
    if let Some(stack) = &thread.stack {
        text.push_str(&of_stack(stack));
    }
    for event in &thread.events {
        let flow = event
            .flow
            .map_or_else(|| " ".repeat(8), |f| format!("{f:08x}"));
        let _ = writeln!(
            text,
            "  {:>10}  {flow}  {:<11} {}",
            ago(event.before_end),
            printable(&event.name),
            printable(&event.what)
        );
    }
    text
}

fn of_stack(stack: &Stack) -> String {
    let mut text = match stack.sampled {
        None => "  stack:\n".to_owned(),
        Some(Some(before)) => format!("  stack as sampled at {}:\n", ago(before)),
        Some(None) => "  stack as sampled last:\n".to_owned(),
    };
    for frame in stack.frames.iter().take(FRAMES) {
        let _ = writeln!(text, "    {}", of_frame(frame));
    }
    if stack.frames.len() > FRAMES {
        let _ = writeln!(text, "    and {} more", stack.frames.len() - FRAMES);
    }
    if !stack.whole {
        text.push_str("    (the walk ended here: what called this is not known)\n");
    }
    text
}

fn of_frame(frame: &FrameName) -> String {
    let name = match frame.name.as_str() {
        "" => &frame.module,
        name => name,
    };
    let mut line = printable(name);
    if !frame.file.is_empty() {
        let _ = write!(line, "  {}:{}", printable(&frame.file), frame.line);
    }
    line
}

fn missing(answer: &PostMortem) -> String {
    let mut text = String::new();
    if !answer.missing.is_empty() || answer.damage.is_some() {
        text.push_str("\nmissing:\n");
    }
    if let Some(damage) = &answer.damage {
        let _ = writeln!(text, "  parts of the recording: {}", printable(damage));
    }
    for gap in &answer.missing {
        let _ = writeln!(text, "  {}: {}", printable(&gap.what), printable(&gap.how));
    }
    let clock = match answer.clock_error {
        Some(error) => format!("clock +-{}", duration(error.ns())),
        None => "no clock: times are ticks of the CPU's counter".to_owned(),
    };
    let _ = writeln!(
        text,
        "\ntrust: {} events, {} slots lost; {clock}",
        answer.events, answer.lost
    );
    text
}
