//! The same as JSON, documented in `docs/reference/postmortem.md`.

use crate::analyse::postmortem::{FrameName, Line, PostMortem, ThreadEnd, signal_name};
use serde::Serialize;

/// Name and version of the schema. Keys may be added within a version, none changes its meaning.
pub const POSTMORTEM_SCHEMA: &str = "bypassprof.postmortem/1";

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    program: &'a str,
    pid: u32,
    reason: &'a str,
    ended: Ended<'a>,
    threads: Vec<Thread<'a>>,
    requests: Vec<Request<'a>>,
    requests_in_all: usize,
    missing: Vec<Missing<'a>>,
    trust: Trust<'a>,
}

#[derive(Serialize)]
struct Ended<'a> {
    signal: Option<i32>,
    signal_name: Option<String>,
    exit_code: Option<i32>,
    address: Option<String>,
    tid: Option<u32>,
    thread: Option<&'a str>,
    function: Option<&'a str>,
    source: Option<&'a str>,
    flow: Option<String>,
    stage: Option<&'a str>,
    alive: bool,
}

#[derive(Serialize)]
struct Thread<'a> {
    pid: u32,
    tid: u32,
    name: &'a str,
    doing: &'a str,
    stage: Option<&'a str>,
    flow: Option<String>,
    newest_event_ns: Option<u64>,
    lost: u64,
    drops: u64,
    full: u64,
    last_rx_burst: Option<Burst>,
    last_tx_burst: Option<Burst>,
    app_queue_depth: Option<u32>,
    handoff_queue_depth: Option<u32>,
    stack: Option<Stack<'a>>,
    events: Vec<Event<'a>>,
}

#[derive(Serialize)]
struct Burst {
    before_end_ns: u64,
    frames: u32,
    queue: u32,
}

#[derive(Serialize)]
struct Stack<'a> {
    frames: Vec<Frame<'a>>,
    whole: bool,
    /// Of a sample and not of the end itself.
    sampled: bool,
    before_end_ns: Option<u64>,
}

#[derive(Serialize)]
struct Frame<'a> {
    function: &'a str,
    module: &'a str,
    file: &'a str,
    line: u32,
    inlined: bool,
    why: Option<&'a str>,
}

#[derive(Serialize)]
struct Event<'a> {
    before_end_ns: u64,
    point: &'a str,
    flow: Option<String>,
    what: &'a str,
}

#[derive(Serialize)]
struct Request<'a> {
    flow: String,
    stage: &'a str,
    began_ns: u64,
    since_ns: u64,
    tid: u32,
    thread: &'a str,
}

#[derive(Serialize)]
struct Missing<'a> {
    what: &'a str,
    how: &'a str,
}

#[derive(Serialize)]
struct Trust<'a> {
    events: u64,
    events_dropped: u64,
    clock_error_ns: Option<u64>,
    damage: Option<&'a str>,
}

fn flow(flow: u32) -> String {
    format!("{flow:08x}")
}

/// The whole answer.
pub fn json(answer: &PostMortem) -> serde_json::Result<String> {
    let ended = &answer.ended;
    let requests = answer.requests.iter().map(|r| Request {
        flow: flow(r.flow),
        stage: r.stage,
        began_ns: r.began.ns(),
        since_ns: r.since.ns(),
        tid: r.thread.0,
        thread: &r.thread.1,
    });
    let missing = answer.missing.iter().map(|m| Missing {
        what: &m.what,
        how: &m.how,
    });
    serde_json::to_string_pretty(&Document {
        schema: POSTMORTEM_SCHEMA,
        program: &answer.program,
        pid: answer.pid,
        reason: &ended.text,
        ended: Ended {
            signal: ended.signal,
            signal_name: ended.signal.map(signal_name),
            exit_code: ended.exit_code,
            address: ended.address.map(|a| format!("{a:#x}")),
            tid: ended.thread.as_ref().map(|t| t.0),
            thread: ended.thread.as_ref().map(|t| t.1.as_str()),
            function: ended.function.as_deref(),
            source: ended.source.as_deref(),
            flow: ended.flow.map(flow),
            stage: ended.stage,
            alive: ended.alive,
        },
        threads: answer.threads.iter().map(thread).collect(),
        requests: requests.collect(),
        requests_in_all: answer.requests_in_all,
        missing: missing.collect(),
        trust: Trust {
            events: answer.events,
            events_dropped: answer.lost,
            clock_error_ns: answer.clock_error.map(|e| e.ns()),
            damage: answer.damage.as_deref(),
        },
    })
}

fn thread(thread: &ThreadEnd) -> Thread<'_> {
    let [rx, tx] = thread.bursts.map(|burst| {
        burst.map(|burst| Burst {
            before_end_ns: burst.before_end.ns(),
            frames: burst.frames,
            queue: burst.queue,
        })
    });
    let event = |line: &'_ Line| (line.before_end.ns(), line.flow.map(flow));
    Thread {
        pid: thread.pid,
        tid: thread.tid,
        name: &thread.name,
        doing: &thread.doing.text,
        stage: thread.doing.stage,
        flow: thread.doing.flow.map(flow),
        newest_event_ns: thread.quiet_for.map(|t| t.ns()),
        lost: thread.lost,
        drops: thread.drops,
        full: thread.full,
        last_rx_burst: rx,
        last_tx_burst: tx,
        app_queue_depth: thread.depths[0],
        handoff_queue_depth: thread.depths[1],
        stack: thread.stack.as_ref().map(|stack| Stack {
            frames: stack.frames.iter().map(frame).collect(),
            whole: stack.whole,
            sampled: stack.sampled.is_some(),
            before_end_ns: stack.sampled.flatten().map(|t| t.ns()),
        }),
        events: (thread.events.iter())
            .map(|line| Event {
                before_end_ns: event(line).0,
                point: &line.name,
                flow: event(line).1,
                what: &line.what,
            })
            .collect(),
    }
}

fn frame(frame: &FrameName) -> Frame<'_> {
    Frame {
        function: &frame.name,
        module: &frame.module,
        file: &frame.file,
        line: frame.line,
        inlined: frame.inlined,
        why: frame.why.as_deref(),
    }
}
