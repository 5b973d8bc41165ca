//! A program whose parts are known, because it measures them with its own clock: a pipeline of driver, TCP, application
//! and copy, each so many turns of the same loop, with a known share of empty polls, requests that wait for one another
//! and for the drain of the transmit queue; on one thread, on two, on three, or in two processes.
//!
//! In: a [`Plan`] in the environment; out: lines on stdout (`part PHASE SHARE`, `requests all N`, `count STAGE N`,
//! `mean STAGE NS`, and what a planted slowdown took of a request: CPU time, wall time, and CPU time of the
//! thread beside it, `planted cpu NS` and so on). It is this very test binary, started again as [`program`].

use crate::support::{Place, Run};
use bypassprof_probe::{self as probe, Flow, PollLoop, points};
use rustix::time::{ClockId, clock_gettime};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

mod planted;

pub use planted::Planted;

/// The shape of the program and what is planted in it.
const PLAN: &str = "BYPASSPROF_TEST_PIPELINE";
/// The socket of the application's process.
const SOCKET: &str = "BYPASSPROF_TEST_PIPELINE_SOCKET";
/// CPU time that the program's first thread uses.
const LENGTH_NS: u64 = 2_000_000_000;
/// A prime, so that nothing falls into step with the rounds.
const FREQUENCY: &str = "3989";

/// Where the parts run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One loop does it all.
    One,
    /// The application on a thread of its own, asleep between requests.
    Two,
    /// Driver, TCP and application each on a thread, joined by queues.
    Three,
    /// The application in a process of its own.
    Processes,
}

const SHAPES: [(&str, Shape); 4] = [
    ("one", Shape::One),
    ("two", Shape::Two),
    ("three", Shape::Three),
    ("processes", Shape::Processes),
];

/// Mean length of each part in us of an idle CPU, by function.
pub const PARTS: &[(&str, &str, u64)] = &[
    ("poll_device", "empty_poll", 45),
    ("do_driver", "driver_rx", 30),
    ("do_tcp", "tcp_rx", 40),
    ("do_app", "app", 60),
    ("do_copy", "copy", 50),
    ("do_timer", "tcp_timer", 25),
];

/// What the program's own functions are.
pub const PACK: &str = r#"
name = "pipeline"
about = "the pipeline of a test"
symbols = ["*pipeline::do_*"]

[[role]]
name = "pipeline"
below = ["*pipeline::do_*"]

[[rule]]
phase = "driver_rx"
order = "first"
symbols = ["*pipeline::do_driver"]

[[rule]]
phase = "tcp_rx"
order = "first"
symbols = ["*pipeline::do_tcp"]

[[rule]]
phase = "app"
order = "first"
symbols = ["*pipeline::do_app"]

[[rule]]
phase = "copy"
order = "first"
symbols = ["*pipeline::do_copy"]

[[rule]]
phase = "tcp_timer"
order = "first"
symbols = ["*pipeline::do_timer"]

[[rule]]
phase = "ack_only"
order = "first"
symbols = ["*pipeline::do_ack"]

[[rule]]
phase = "sync"
order = "first"
symbols = ["*pipeline::do_spin"]
"#;

fn clock_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// CPU time of this thread: what preemption takes is not in it.
fn cpu_ns() -> u64 {
    clock_ns(ClockId::ThreadCPUTime)
}

/// The same clock in all processes.
fn now() -> u64 {
    clock_ns(ClockId::Monotonic)
}

/// Loops that call nothing, so that samples in them are in the function of that name.
macro_rules! parts {
    ($($name:ident)*) => { $(
        #[inline(never)]
        fn $name(turns: u64) {
            let (mut x, mut i) = (turns | 1, 0);
            while i < turns {
                x ^= x << 7;
                x ^= x >> 9;
                i += 1;
            }
            std::hint::black_box(x);
        }
    )* };
}
parts!(calibrate poll_device do_driver do_tcp do_app do_copy do_timer do_ack do_spin);

/// The stages of `spans`.
const STAGES: [&str; 9] = [
    "receive",
    "wait_handoff",
    "tcp_in",
    "wait_wakeup",
    "wait_app",
    "app",
    "wait_send",
    "wait_drain",
    "total",
];

/// A request on its way through threads and processes: plain numbers, so that it fits through a socket too.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request {
    flow: u32,
    /// Number of the frame it came in.
    frame: u32,
    /// Turns of TCP, application, copy.
    turns: [u64; 3],
    /// Counter when it was put into the queue to another thread.
    handed: u64,
    /// Ends of its stages, after its beginning.
    ends: [u64; STAGES.len()],
}

const REQUEST_WORDS: usize = 6 + STAGES.len();

impl Request {
    fn flow(&self) -> Flow {
        Flow::from_raw(self.flow)
    }

    /// What the application does.
    fn work(&self) {
        do_app(self.turns[1]);
        do_copy(self.turns[2]);
    }

    fn to_bytes(self) -> Vec<u8> {
        let head = [u64::from(self.flow), u64::from(self.frame)];
        let words = head.into_iter().chain(self.turns).chain([self.handed]);
        words.chain(self.ends).flat_map(u64::to_ne_bytes).collect()
    }

    fn from_bytes(bytes: &[u8; 8 * REQUEST_WORDS]) -> Request {
        let word = |at: usize| u64::from_ne_bytes(bytes[8 * at..8 * at + 8].try_into().unwrap());
        Request {
            flow: word(0) as u32,
            frame: word(1) as u32,
            turns: [2, 3, 4].map(word),
            handed: word(5),
            ends: std::array::from_fn(|at| word(6 + at)),
        }
    }
}

/// Places in [`Request::ends`].
const BEGUN: usize = 0;
const HANDED: usize = 1;
const TCP: usize = 2;
const DELIVERED: usize = 3;
const WOKEN: usize = 4;
const STARTED: usize = 5;
const ENDED: usize = 6;
const OUT: usize = 7;
const TAKEN: usize = 8;

/// Lengths of the stages as the program's own clock sees them, in ns.
#[derive(Default)]
struct Lengths([Vec<u64>; STAGES.len()]);

impl Lengths {
    fn add(&mut self, request: &Request) {
        let mut ends = request.ends;
        let handed = ends[HANDED] > 0;
        if !handed {
            ends[HANDED] = ends[TCP];
        }
        let mut at = ends[BEGUN];
        for (stage, end) in ends[1..].iter().enumerate() {
            let handoff = stage + 1 == TCP;
            let wakeup = stage + 1 == WOKEN;
            if (handoff && !handed) || (wakeup && *end <= at) {
                continue;
            }
            // What happened before something else was done takes no time.
            let end = at.max(*end);
            self.0[stage].push(end - at);
            at = end;
        }
        self.0[STAGES.len() - 1].push(at - ends[BEGUN]);
    }

    fn requests(&self) -> usize {
        self.0[STAGES.len() - 1].len()
    }

    fn print(&self) {
        for (stage, lengths) in STAGES.iter().zip(&self.0) {
            let sum: u64 = lengths.iter().sum();
            println!("count {stage} {}", lengths.len());
            println!("mean {stage} {}", sum as f64 / lengths.len().max(1) as f64);
        }
    }
}

/// TCP of a request that came in.
fn tcp_in(request: &mut Request) {
    request.ends[TCP] = now();
    probe::emit_with(points::TCP_IN, request.flow(), request.frame, [100, 0, 0]);
    do_tcp(request.turns[0]);
    request.ends[DELIVERED] = now();
    probe::emit_with(points::DELIVER, request.flow(), 100, [0; 3]);
}

/// The reply leaves TCP in a frame.
fn tcp_out(request: &mut Request, frame: u32) {
    request.ends[OUT] = now();
    probe::emit_with6(points::TCP_OUT, request.flow(), frame, [500, 0, 0, 0, 0, 0]);
}

/// A thread takes what another one put into a queue.
fn take_over(request: &mut Request) {
    let age = probe::now().raw().saturating_sub(request.handed) as u32;
    probe::emit_with(points::HANDOFF, request.flow(), 0, [0, age, 0]);
}

/// The application on a thread of its own, asleep while there is nothing to do. `next` gives what has come, or waits for
/// it; nothing when it is over.
fn application(
    mut next: impl FnMut(bool) -> Result<Option<Request>, Over>,
    mut done: impl FnMut(Request),
) {
    probe::name_thread("application");
    let mut woken = 0;
    // Whoever takes them is woken up when this thread has nothing to do: the wake-up is no part of the work.
    let mut replies = Vec::new();
    loop {
        let mut request = match next(false) {
            Ok(Some(request)) => request,
            Ok(None) => {
                replies.drain(..).for_each(&mut done);
                probe::emit(points::SLEEP, Flow::NONE, 0);
                let Ok(Some(request)) = next(true) else {
                    return;
                };
                woken = now();
                probe::emit(points::WAKE, Flow::NONE, 3);
                request
            }
            Err(Over) => return,
        };
        request.ends[WOKEN] = woken;
        request.ends[STARTED] = now();
        probe::emit(points::APP_START, request.flow(), 0);
        request.work();
        request.ends[ENDED] = now();
        probe::emit(points::APP_END, request.flow(), 500);
        replies.push(request);
    }
}

/// Nothing comes any more.
struct Over;

fn of_queue(queue: &mpsc::Receiver<Request>, wait: bool) -> Result<Option<Request>, Over> {
    if wait {
        return queue.recv().map(Some).map_err(|_| Over);
    }
    match queue.try_recv() {
        Ok(request) => Ok(Some(request)),
        Err(mpsc::TryRecvError::Empty) => Ok(None),
        Err(mpsc::TryRecvError::Disconnected) => Err(Over),
    }
}

fn of_socket(socket: &mut UnixStream, wait: bool) -> Result<Option<Request>, Over> {
    // There is a whole request or none: it is written at once.
    socket.set_nonblocking(!wait).unwrap();
    let mut bytes = [0; 8 * REQUEST_WORDS];
    match socket.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(Request::from_bytes(&bytes))),
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
        Err(_) => Err(Over),
    }
}

/// What runs beside the driver's thread.
enum Beside {
    Nothing,
    /// The application's thread: to it and back.
    Application(mpsc::Sender<Request>, mpsc::Receiver<Request>),
    /// TCP's thread, which has the application's behind it.
    Stack(mpsc::Sender<ToStack>, mpsc::Receiver<Request>),
    /// The application's process.
    Process(UnixStream),
}

/// What comes to TCP's thread.
enum ToStack {
    Frame(Request),
    Reply(Request),
    End,
}

impl Beside {
    fn start(shape: Shape) -> (Beside, Option<Joined>) {
        match shape {
            Shape::One => (Beside::Nothing, None),
            Shape::Two => {
                let (told, is_told) = mpsc::channel();
                let (is_done, done) = mpsc::channel();
                let thread = std::thread::spawn(move || {
                    application(
                        |wait| of_queue(&is_told, wait),
                        |request| is_done.send(request).unwrap(),
                    );
                });
                (
                    Beside::Application(told, done),
                    Some(Joined::Thread(thread)),
                )
            }
            Shape::Three => {
                let (inbox, taken) = mpsc::channel();
                let (is_out, out) = mpsc::channel();
                let frames = inbox.clone();
                let thread = std::thread::spawn(move || stack(&taken, &inbox, &is_out));
                (Beside::Stack(frames, out), Some(Joined::Thread(thread)))
            }
            Shape::Processes => {
                let path = std::env::var(SOCKET).unwrap();
                let listener = UnixListener::bind(&path).unwrap();
                let child = command("application_process").stdout(Stdio::null()).spawn();
                let (socket, _) = listener.accept().unwrap();
                (
                    Beside::Process(socket),
                    Some(Joined::Process(child.unwrap())),
                )
            }
        }
    }
}

/// What has to end before the program does.
enum Joined {
    Thread(std::thread::JoinHandle<()>),
    Process(std::process::Child),
}

/// TCP on a thread of its own, between driver and application.
fn stack(
    taken: &mpsc::Receiver<ToStack>,
    inbox: &mpsc::Sender<ToStack>,
    out: &mpsc::Sender<Request>,
) {
    probe::name_thread("stack");
    let (to_app, app_is_told) = mpsc::channel();
    let replies = inbox.clone();
    let app = std::thread::spawn(move || {
        application(
            |wait| of_queue(&app_is_told, wait),
            |request| replies.send(ToStack::Reply(request)).unwrap(),
        );
    });
    let mut frame = 0;
    let mut burst = Vec::new();
    for item in taken {
        match item {
            ToStack::Frame(request) if burst.is_empty() => burst.push(request),
            ToStack::Frame(request) => {
                burst.push(request);
                for request in &mut burst {
                    take_over(request);
                    tcp_in(request);
                }
                burst.drain(..).for_each(|r| to_app.send(r).unwrap());
            }
            ToStack::Reply(mut request) => {
                tcp_out(&mut request, frame);
                frame += 1;
                out.send(request).unwrap();
            }
            ToStack::End => break,
        }
    }
    drop(to_app);
    app.join().unwrap();
}

struct Program {
    rounds: PollLoop,
    beside: Beside,
    planted: Planted,
    turns_per_us: u64,
    /// Turns of each of [`PARTS`].
    turns: [u64; PARTS.len()],
    seed: u64,
    /// Frames received and sent.
    frames: [u32; 2],
    lengths: Lengths,
}

impl Program {
    /// About the mean number of turns of a part, counted. No two parts run at a time, so that a turn is as long in each,
    /// even where two CPUs are one core.
    fn part(&mut self, part: usize) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let mean = PARTS[part].2 * self.turns_per_us;
        let turns = mean / 2 + self.seed % mean;
        self.turns[part] += turns;
        turns
    }

    fn empty_rounds(&mut self) {
        for _ in 0..4 {
            let turns = self.part(0);
            self.rounds.begin();
            poll_device(turns);
            self.rounds.rx_burst(0, 0, 32, self.frames[0]);
            self.rounds.end();
        }
    }

    /// A burst of requests: each waits for those before it, all wait for the drain.
    fn round_of_work(&mut self) {
        let burst = self.planted.burst();
        let driver = self.part(1);
        let mut requests: Vec<Request> = (0..burst)
            .map(|n| Request {
                flow: 7 + (self.frames[0] + n) % self.planted.flows(),
                frame: self.frames[0] + n,
                turns: [2, 3, 4].map(|p| self.part(p)),
                ..Request::default()
            })
            .collect();
        let timer = self.part(5);
        self.rounds.begin();
        if self.planted.is_misdirected() {
            self.planted.take_from_other_core(&mut requests);
            self.rounds.worked(burst);
        } else {
            let begun = now();
            requests.iter_mut().for_each(|r| r.ends[BEGUN] = begun);
            do_driver(driver);
            self.planted.in_driver(burst);
            self.rounds.rx_burst(0, burst, 32, self.frames[0]);
        }
        let first = self.frames[1];
        self.handle(&mut requests);
        do_timer(timer);
        self.planted.before_drain(&mut self.rounds, burst);
        let taken = now();
        let sent = self.frames[1] - first;
        self.rounds.tx_burst(0, sent, sent, first);
        self.rounds.end();
        self.frames[0] += burst;
        for mut request in requests {
            request.ends[TAKEN] = taken;
            self.lengths.add(&request);
        }
    }

    /// TCP and application.
    fn handle(&mut self, requests: &mut [Request]) {
        let sent = &mut self.frames[1];
        let mut frame = || {
            *sent += 1;
            *sent - 1
        };
        match &mut self.beside {
            Beside::Nothing => {
                for request in requests.iter_mut() {
                    if self.planted.is_misdirected() {
                        take_over(request);
                    }
                    tcp_in(request);
                    self.planted.after_tcp(request.flow(), &mut frame);
                }
                for request in requests.iter_mut() {
                    request.ends[STARTED] = now();
                    probe::emit(points::APP_START, request.flow(), 0);
                    request.work();
                    self.planted.in_application(request.flow());
                    // The reply leaves TCP before the application is done.
                    tcp_out(request, frame());
                    request.ends[ENDED] = now();
                    probe::emit(points::APP_END, request.flow(), 500);
                }
            }
            Beside::Application(told, done) => {
                requests.iter_mut().for_each(tcp_in);
                requests.iter().for_each(|r| told.send(*r).unwrap());
                for request in requests.iter_mut() {
                    *request = done.recv().unwrap();
                    tcp_out(request, frame());
                }
            }
            Beside::Process(socket) => {
                requests.iter_mut().for_each(tcp_in);
                for request in requests.iter() {
                    socket.write_all(&request.to_bytes()).unwrap();
                }
                for request in requests.iter_mut() {
                    let mut bytes = [0; 8 * REQUEST_WORDS];
                    socket.read_exact(&mut bytes).unwrap();
                    *request = Request::from_bytes(&bytes);
                    tcp_out(request, frame());
                }
            }
            Beside::Stack(frames, out) => {
                for request in requests.iter_mut() {
                    request.ends[HANDED] = now();
                    request.handed = probe::now().raw();
                    frames.send(ToStack::Frame(*request)).unwrap();
                }
                for request in requests.iter_mut() {
                    *request = out.recv().unwrap();
                    frame();
                }
            }
        }
    }
}

fn wait_for_recorder() {
    for wait in 0.. {
        if probe::enabled() {
            break;
        }
        assert!(wait < 20_000, "no recorder listens");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Turns of a part in a microsecond of a CPU that does nothing else.
pub fn turns_per_us() -> u64 {
    const TURNS: u64 = 500_000;
    let one = || {
        let start = cpu_ns();
        calibrate(TURNS);
        cpu_ns() - start
    };
    let shortest = (0..5).map(|_| one()).min().unwrap_or(1);
    (TURNS * 1000 / shortest.max(1)).max(1)
}

/// Not a test: the program that the tests record. It prints its parts and its stages.
#[test]
#[ignore = "the program that the tests record"]
fn program() {
    let plan = std::env::var(PLAN).unwrap();
    let [shape, planted, turns_per_us] = plan.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let (_, shape) = *SHAPES.iter().find(|(name, _)| *name == shape).unwrap();
    let turns_per_us = turns_per_us.parse().unwrap();
    wait_for_recorder();
    let (beside, joined) = Beside::start(shape);
    let mut program = Program {
        rounds: PollLoop::new(),
        beside,
        planted: Planted::new(planted, turns_per_us),
        turns_per_us,
        turns: [0; PARTS.len()],
        seed: 0x9e37_79b9_7f4a_7c15,
        frames: [0; 2],
        lengths: Lengths::default(),
    };
    let start = cpu_ns();
    // Where another thread does the application, this one uses about half of all.
    let several = if shape == Shape::One { 1 } else { 2 };
    while cpu_ns() - start < LENGTH_NS / several {
        for _ in 0..20 {
            program.planted.ask_other_core();
            program.empty_rounds();
            program.round_of_work();
        }
    }
    if let Beside::Stack(frames, _) = &program.beside {
        frames.send(ToStack::End).unwrap();
    }
    program.beside = Beside::Nothing;
    match joined {
        Some(Joined::Thread(thread)) => thread.join().unwrap(),
        Some(Joined::Process(mut child)) => assert!(child.wait().unwrap().success()),
        None => {}
    }
    let all: u64 = program.turns.iter().sum();
    for ((_, phase, _), turns) in PARTS.iter().zip(program.turns) {
        println!("part {phase} {}", turns as f64 / all as f64);
    }
    println!("requests all {}", program.lengths.requests());
    let requests = program.lengths.requests() as f64;
    let [cpu, wall, beside] = program.planted.end().map(|ns| ns as f64 / requests);
    println!("planted cpu {cpu}");
    println!("planted wall {wall}");
    println!("planted beside {beside}");
    program.lengths.print();
}

/// Not a test: the application's process of a program in two.
#[test]
#[ignore = "the application of the program that the tests record"]
fn application_process() {
    wait_for_recorder();
    let mut socket = UnixStream::connect(std::env::var(SOCKET).unwrap()).unwrap();
    let mut replies = socket.try_clone().unwrap();
    application(
        |wait| of_socket(&mut socket, wait),
        |request| {
            replies.set_nonblocking(false).unwrap();
            replies.write_all(&request.to_bytes()).unwrap();
        },
    );
}

/// Runs the tool and what it records before others, where that is allowed, and alike: a recorder that is left out reads
/// rings too late. Where sessions share the CPUs first (sched(7), autogroup), as a session of its own.
const BEFORE_OTHERS: &str = r#"renice -n -20 $$ >/dev/null 2>&1
echo -20 2>/dev/null >/proc/self/autogroup
exec "$0" "$@""#;

/// This test binary as another program.
fn command(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let name = format!("pipeline::{name}");
    command.args(["--exact", &name, "--ignored", "--nocapture"]);
    command
}

/// Records the program; gives where, and what it told.
pub fn recorded(shape: Shape) -> (Place, String) {
    let place = Place::new();
    let out = record(&place, shape, "nothing", turns_per_us(), "bypassprof.mcap");
    (place, out)
}

/// Records the program into a file of this name; gives what it told.
pub fn record(place: &Place, shape: Shape, planted: &str, turns: u64, file: &str) -> String {
    std::fs::write(place.path("pipeline.toml"), PACK).unwrap();
    let (name, _) = SHAPES.iter().find(|(_, s)| *s == shape).unwrap();
    let program = command("program");
    let tool = place.bypassprof(&["record", "-F", FREQUENCY, "-o", file, "--"]);
    let mut record = Command::new("setsid");
    record
        .args(["--wait", "sh", "-c", BEFORE_OTHERS])
        .arg(tool.get_program())
        .args(tool.get_args())
        .current_dir(place.path(""))
        .arg(program.get_program())
        .args(program.get_args())
        .env(PLAN, format!("{name} {planted} {turns}"))
        .env(SOCKET, place.path("socket"));
    let run = Run::of(&mut record);
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    run.out
}

/// The lines of the program's output that begin with `word`: name and number.
pub fn told<'a>(out: &'a str, word: &str) -> Vec<(&'a str, f64)> {
    let lines = out
        .lines()
        .filter_map(|l| l.split_once(&format!("{word} ")));
    let pairs = lines.filter_map(|(_, rest)| rest.split_once(' '));
    pairs
        .map(|(name, n)| (name, n.trim().parse().unwrap()))
        .collect()
}
