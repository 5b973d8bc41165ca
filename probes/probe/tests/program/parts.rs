//! What the traced program does.

use bypassprof_probe::{self as probe, Flow, PollLoop, points};
use std::io::BufRead;

/// Runs the part that the environment names.
pub fn run() {
    let Ok(part) = std::env::var("BYPASSPROF_TEST_PART") else {
        return;
    };
    // The first probe: makes the control file, switched off.
    probe::emit(points::TIMER, Flow::NONE, 0);
    say("ready");
    wait();
    match part.as_str() {
        "events" => events(),
        "rounds" => rounds(PollLoop::new()),
        "unstamped" => rounds(PollLoop::unstamped()),
        _ => panic!("there is no part {part}"),
    }
    say("done");
    wait();
}

fn say(line: &str) {
    println!("\n{line}");
}

fn wait() {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).unwrap();
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
