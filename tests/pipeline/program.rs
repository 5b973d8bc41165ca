//! The program that is recorded: rounds of empty polls and of bursts of requests, for so much CPU time.
//!
//! In: shape, what is planted and turns of a microsecond, in the environment; out: lines on stdout (`part PHASE SHARE`,
//! `requests all N`, `count STAGE N`, `mean STAGE NS`, and what a planted slowdown took of a request: CPU time, wall
//! time, and CPU time of the thread beside it, `planted cpu NS` and so on).

use super::beside::{Beside, Joined, ToStack, take_over, tcp_in, tcp_out};
use super::planted::Planted;
use super::request::{BEGUN, BYTES, ENDED, HANDED, Lengths, Request, STARTED, TAKEN};
use super::{PARTS, PLAN, SHAPES, Shape, do_driver, do_timer, poll_device};
use crate::busy::{cpu_ns, now, wait_for_recorder};
use bypassprof_probe::{self as probe, PollLoop, points};
use std::io::{Read, Write};

/// CPU time that the program's first thread uses.
const LENGTH_NS: u64 = 2_000_000_000;

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
    /// About the mean number of turns of a part, counted. No two parts run at a time, so that a turn is as long in
    /// each, even where two CPUs are one core.
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
                    let mut bytes = [0; BYTES];
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
    joined.into_iter().for_each(Joined::wait);
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
