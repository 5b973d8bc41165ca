//! What a probe costs, beside the floor measured in the same run: reading the counter and storing 16 bytes.
//!
//! `cargo bench --bench probes`. Batches of each case are interleaved over many rounds and the best of each counts, so
//! that the machine's mood falls out; figures are ratios to the floor, with the targets of docs/architecture.md, section
//! 11. The ring is emptied between the timed parts, so nothing is dropped. A tight loop is a probe's worst case: inside
//! real work the stores cost less.

mod floor;

use bypassprof_probe::{self as probe, Burst, Flow, PollLoop, points};
use bypassprof_ring::reader::{ControlHandle, Drained, RingFile, SessionDir};
use bypassprof_wire::layout::Mode;
use floor::{Floor, SESSION, counter};
use std::hint::black_box;
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

const ROUNDS: usize = 300;
/// Events of one timed part; all of them fit into the ring.
const EVENTS: u64 = 4096;
/// Packets in a burst.
const BURST: u64 = 16;

/// The recorder's end of this very process.
struct Reader {
    control: ControlHandle,
    ring: Option<RingFile>,
    session: SessionDir,
    copy: Drained,
}

impl Reader {
    fn new() -> Result<Reader, Box<dyn std::error::Error>> {
        // The first use makes the control file.
        probe::emit(points::WAKE, Flow::NONE, 0);
        let path = std::env::var_os(SESSION).ok_or("no session")?;
        let uid = std::fs::metadata("/proc/self")?.uid();
        let session = SessionDir::open(path.as_ref(), uid)?;
        let keys = session.processes()?;
        let own = keys.into_iter().find(|k| k.pid == std::process::id());
        let control = session.control(own.ok_or("no control file")?)?;
        control.set_limits(1 << 16, 0);
        control.switch_on(Mode::Drain);
        probe::emit(points::WAKE, Flow::NONE, 0);
        let mut reader = Reader {
            control,
            ring: None,
            session,
            copy: Drained::with_capacity(1 << 16),
        };
        let place = reader.control.rings().pop().ok_or("no ring")?;
        reader.ring = Some(reader.session.ring(&reader.control, place)?);
        Ok(reader)
    }

    /// Asks the writer, which is this thread, for a mode, and writes until it is in it.
    fn turn_to(&mut self, mode: Mode) {
        for _ in 0..1 << 18 {
            self.empty();
            match &self.ring {
                Some(ring) if ring.owner().mode != mode => ring.wish(mode),
                _ => return,
            }
            for i in 0..1 << 10 {
                probe::emit(points::APP_START, Flow::NONE, i);
            }
        }
    }

    /// Empties the ring; how many slots were dropped so far.
    fn empty(&mut self) -> u64 {
        let Some(ring) = &mut self.ring else { return 0 };
        while ring
            .drain(&mut self.copy)
            .is_ok_and(|taken| taken.slots > 0)
        {
            self.copy.clear();
        }
        ring.totals().dropped_slots
    }
}

/// One thing to measure.
struct Case {
    name: &'static str,
    /// Which case it is compared with, and how much more it may cost.
    target: Option<(&'static str, f64)>,
    /// Whether points are switched on, and what a full ring does.
    on: Option<Mode>,
    /// How many of them one call runs.
    count: u64,
    run: fn(&mut Floor, &mut PollLoop, &mut PollLoop),
    best: f64,
}

fn cases() -> Vec<Case> {
    let case = |name, target, on: bool, count, run| Case {
        name,
        target,
        on: on.then_some(Mode::Drain),
        count,
        run,
        best: f64::INFINITY,
    };
    let mut cases = vec![
        case(
            "floor: counter + 16-byte store",
            None,
            true,
            EVENTS,
            |floor, _, _| {
                for i in 0..EVENTS {
                    floor.store(counter(), i);
                }
            },
        ),
        case("floor: counter", None, true, EVENTS, |_, _, _| {
            for _ in 0..EVENTS {
                black_box(counter());
            }
        }),
        case("floor: 16-byte store", None, true, EVENTS, |floor, _, _| {
            for i in 0..EVENTS {
                floor.store(black_box(i), i);
            }
        }),
        case(
            "floor: load + predicted branch",
            None,
            true,
            EVENTS,
            |floor, _, _| {
                for i in 0..EVENTS {
                    if floor.on.load(Ordering::Relaxed) != 0 {
                        floor.store(i, i);
                    }
                    black_box(i);
                }
            },
        ),
        case(
            "event, stamped",
            Some(("floor: counter + 16-byte store", 1.05)),
            true,
            EVENTS,
            |_, _, _| {
                for i in 0..EVENTS {
                    probe::emit(points::APP_START, Flow::from_raw(7), i as u32);
                }
            },
        ),
        case(
            "event inside a stamped burst",
            Some(("floor: 16-byte store", 1.3)),
            true,
            EVENTS,
            |_, _, _| {
                let burst = Burst::now();
                for i in 0..EVENTS {
                    burst.emit(points::APP_START, Flow::from_raw(7), black_box(i as u32));
                }
            },
        ),
        case(
            "packet through rx and tx, 4 events, burst of 16",
            Some(("floor: counter", 1.0)),
            true,
            EVENTS / 4,
            |_, rounds, _| {
                for _ in 0..EVENTS / 4 / BURST {
                    rounds.begin();
                    let burst = rounds.rx_burst(0, BURST as u32, 32, 0);
                    for i in 0..BURST as u32 {
                        let flow = Flow::from_raw(i);
                        burst.emit(points::TCP_IN, flow, i);
                        burst.emit(points::APP_START, flow, i);
                        burst.emit(points::APP_END, flow, i);
                        burst.emit(points::TCP_OUT, flow, i);
                    }
                    rounds.tx_burst(0, BURST as u32, BURST as u32, 0);
                    rounds.end();
                }
            },
        ),
        case(
            "point switched off",
            Some(("floor: load + predicted branch", 1.2)),
            false,
            EVENTS,
            |_, _, _| {
                for i in 0..EVENTS {
                    probe::emit(points::APP_START, Flow::from_raw(7), i as u32);
                    black_box(i);
                }
            },
        ),
        case(
            "empty round, start stamped",
            Some(("floor: counter", 1.05)),
            true,
            EVENTS,
            |_, rounds, _| {
                for _ in 0..EVENTS {
                    rounds.begin();
                    rounds.rx_burst(0, 0, 32, 0);
                    rounds.end();
                }
            },
        ),
        case(
            "empty round, not stamped",
            None,
            true,
            EVENTS,
            |_, _, unstamped| {
                for _ in 0..EVENTS {
                    unstamped.begin();
                    unstamped.rx_burst(0, 0, 32, 0);
                    unstamped.end();
                }
            },
        ),
    ];
    // The same with the flight recorder on, beside themselves in drain mode.
    for (name, of) in IN_FLIGHT {
        if let Some(drained) = cases.iter().find(|c| c.name == *of) {
            let flown = Case {
                name,
                target: Some((of, 1.05)),
                on: Some(Mode::Flight),
                best: f64::INFINITY,
                ..*drained
            };
            cases.push(flown);
        }
    }
    cases
}

/// Cases that are measured in flight mode too.
const IN_FLIGHT: &[(&str, &str)] = &[
    ("event, stamped, in flight mode", "event, stamped"),
    (
        "event inside a stamped burst, in flight mode",
        "event inside a stamped burst",
    ),
    (
        "packet through rx and tx, in flight mode",
        "packet through rx and tx, 4 events, burst of 16",
    ),
];

fn measure() -> Result<(), Box<dyn std::error::Error>> {
    let mut reader = Reader::new()?;
    let (mut floor, mut stamped, mut unstamped) =
        (Floor::new(1 << 15), PollLoop::new(), PollLoop::unstamped());
    let mut cases = cases();
    for round in 0..ROUNDS {
        for case in &mut cases {
            match case.on {
                Some(mode) => {
                    reader.control.switch_on(mode);
                    reader.turn_to(mode);
                }
                None => reader.control.switch_off(),
            }
            // Once to get the caches ready, once for the clock.
            (case.run)(&mut floor, &mut stamped, &mut unstamped);
            reader.empty();
            let start = counter();
            (case.run)(&mut floor, &mut stamped, &mut unstamped);
            let ticks = counter().wrapping_sub(start) as f64 / case.count as f64;
            if round > 0 {
                case.best = case.best.min(ticks);
            }
        }
    }
    let dropped = reader.empty();
    println!("{:<49} {:>8} {:>8} {:>8}", "", "ticks", "ratio", "target");
    for case in &cases {
        print!("{:<49} {:>8.2}", case.name, case.best);
        match case.target {
            Some((beside, target)) => {
                let floor = cases
                    .iter()
                    .find(|c| c.name == beside)
                    .map_or(1.0, |c| c.best);
                println!(" {:>8.3} {target:>8.2}  of {beside}", case.best / floor);
            }
            None => println!(),
        }
    }
    println!("ticks of the counter, best of {ROUNDS} batches; {dropped} slots dropped");
    Ok(())
}

fn main() -> ExitCode {
    floor::in_a_session(&[], measure)
}
