//! What the traced program does.
#![allow(unsafe_code)]

use bypassprof_probe::{self as probe, Flow, Point, PollLoop, points};
use std::io::BufRead;
use std::sync::{Arc, Barrier};
use std::thread;

/// Threads of the part that makes many.
pub const THREADS: usize = 10_000;
/// Of them at a time.
pub const AT_A_TIME: usize = 200;

/// Runs the part that the environment names.
pub fn run() {
    let Ok(part) = std::env::var("BYPASSPROF_TEST_PART") else {
        return;
    };
    // The first probe: makes the control file, switched off.
    probe::emit(points::TIMER, Flow::NONE, 0);
    say("ready");
    assert!(wait());
    match part.as_str() {
        "events" => events(),
        "rounds" => rounds(PollLoop::new()),
        "unstamped" => rounds(PollLoop::unstamped()),
        "checksums" => checksums(),
        "threads" => threads(),
        "forks" => forks(),
        "nobody" => nobody(),
        "steps" => steps(),
        _ => panic!("there is no part {part}"),
    }
    say("done");
    wait();
}

fn say(line: &str) {
    println!("\n{line}");
}

fn wait() -> bool {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).unwrap() > 0
}

fn events() {
    let flow = Flow::from_raw(7);
    let own = probe::register("cache_miss");
    assert_eq!(own, probe::register("cache_miss"));
    probe::name_thread("worker");
    for i in 0..1000 {
        probe::emit(points::APP_START, flow, i);
        probe::emit_with6(points::TCP_OUT, flow, i, [1, 2, 3, 4, 5, 6]);
        let burst = probe::Burst::now();
        burst.emit_with(points::TCP_IN, flow, i, [1, 2, 3]);
        burst.emit(own, flow, i);
        burst.emit(points::APP_END, flow, i);
    }
    probe::count_rx_bytes(100);
}

fn rounds(mut rounds: PollLoop) {
    for turn in 0..100u32 {
        for _ in 0..turn {
            rounds.begin();
            rounds.rx_burst(0, 0, 32, 0);
            rounds.end();
        }
        rounds.begin();
        match turn % 4 {
            0 => {
                rounds.rx_burst(3, 2, 32, turn);
                rounds.tx_burst(3, 2, 1, turn);
            }
            1 => rounds.worked(1),
            2 => probe::emit(points::TIMER, Flow::NONE, 1),
            _ => probe::emit(points::SLEEP, Flow::NONE, 1),
        }
        rounds.end();
    }
}

/// The last argument of event `n` of the part that is killed.
pub fn checksum(n: u32, flow: Flow, args: &[u32]) -> u32 {
    let start = n ^ flow.raw().rotate_left(7);
    args.iter().fold(start, |sum, arg| {
        sum.rotate_left(5) ^ arg.wrapping_mul(0x9e37_79b9)
    })
}

/// Events of one, two and three slots that can tell whether they are whole, until someone ends it.
fn checksums() {
    for n in 0u32.. {
        let flow = Flow::from_raw(n.wrapping_mul(0x85eb_ca6b));
        let args: [u32; 6] = std::array::from_fn(|at| n.wrapping_mul(at as u32 + 3));
        match n % 3 {
            0 => {
                let [a, b, ..] = args;
                let sum = checksum(n, flow, &[a, b]);
                probe::emit_with(Point::from_id(300), flow, n, [a, b, sum]);
            }
            1 => {
                let [a, b, c, d, e, _] = args;
                let sum = checksum(n, flow, &[a, b, c, d, e]);
                probe::emit_with6(Point::from_id(301), flow, n, [a, b, c, d, e, sum]);
            }
            _ => probe::emit(
                Point::from_id(302),
                Flow::from_raw(checksum(n, Flow::NONE, &[])),
                n,
            ),
        }
    }
}

fn threads() {
    for _ in 0..THREADS / AT_A_TIME {
        let all_wrote = Arc::new(Barrier::new(AT_A_TIME));
        let batch: Vec<_> = (0..AT_A_TIME)
            .map(|_| {
                let all_wrote = all_wrote.clone();
                thread::Builder::new()
                    .stack_size(64 << 10)
                    .spawn(move || {
                        for i in 0..10 {
                            probe::emit(points::TIMER, Flow::NONE, i);
                        }
                        all_wrote.wait();
                    })
                    .unwrap()
            })
            .collect();
        for thread in batch {
            thread.join().unwrap();
        }
    }
}

fn forks() {
    let own = probe::register("before_fork");
    let emit = |count| (0..count).for_each(|i| probe::emit(own, Flow::NONE, i));
    emit(5);
    let burst = probe::Burst::now();
    // SAFETY: the child calls nothing that needs other threads, and leaves by _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // A stamp of the parent's ring: goes nowhere, breaks nothing.
        burst.emit(own, Flow::NONE, 99);
        emit(7);
        // SAFETY: ends this process.
        unsafe { libc::_exit(0) };
    }
    // SAFETY: no status is asked for.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    burst.emit(own, Flow::NONE, 5);
    emit(2);
    say(&format!("child {child}"));
}

/// Gives up root and then starts a thread.
fn nobody() {
    // SAFETY: changes the user of all threads.
    let changed = unsafe { libc::setgid(65534) == 0 && libc::setuid(65534) == 0 };
    assert!(changed);
    in_thread(10);
}

/// Ten events in a new thread and a hundred in this one, at each go.
fn steps() {
    loop {
        in_thread(10);
        for i in 0..100 {
            probe::emit(points::TIMER, Flow::NONE, i);
        }
        say("step");
        if !wait() {
            return;
        }
    }
}

fn in_thread(count: u32) {
    let emit = move || (0..count).for_each(|i| probe::emit(points::TIMER, Flow::NONE, i));
    thread::spawn(emit).join().unwrap();
}
