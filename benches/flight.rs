//! A day of the flight recorder: does an event cost more at its end, and does anything grow?
//!
//! `cargo bench --bench flight`. A day's events of a server of 6250 requests a second, eight events each, are told one right
//! after the other, which takes a minute or two: positions, totals and turns of the ring are those of a whole day, only
//! the clock is not (`two_days` of `probes/ring/tests/ring/look.rs` has a clock that is). Each batch of them is followed by one of the
//! floor, reading the counter and storing 16 bytes into a ring as large, and by a thread that tells ten events and ends.
//! It fails if what must stay as it is grew after the first tenth, or if an event's cost, by the floor beside it, is more
//! than a tenth higher in the last tenth than in the first.

mod floor;

use bypassprof_probe::{self as probe, Flow, PollLoop, points};
use bypassprof_ring::reader::{ControlHandle, RingLook, SessionDir, Writing};
use floor::{Floor, SESSION, counter};
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

/// 86,400 seconds of 6250 requests, each of eight events.
const EVENTS: u64 = 86_400 * 6250 * 8;
/// Parts of the day that are told apart.
const PARTS: u64 = 10;
/// Batches of a part.
const BATCHES: u64 = 400;
/// Requests of a receive burst.
const BURST: u32 = 16;
/// Slots of the floor's batch.
const FLOOR: u64 = 1 << 18;
/// What the flight recorder may take in all, and what its first thread gets of it in slots.
const FLIGHT: (&str, usize) = ("64M", 1 << 19);
/// How much more an event may cost at the end.
const DRIFT: f64 = 1.1;

/// What must not grow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sizes {
    /// KiB, of this process.
    resident: u64,
    /// KiB and number of files, in the session's directory.
    session: (u64, u64),
    descriptors: u64,
    mappings: u64,
}

impl Sizes {
    fn now() -> Result<Sizes, Box<dyn std::error::Error>> {
        let status = fs::read_to_string("/proc/self/status")?;
        let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|l| l.trim().strip_suffix(" kB"));
        let mut session = (0, 0);
        for entry in fs::read_dir(place()?)? {
            session.0 += entry?.metadata()?.len() / 1024;
            session.1 += 1;
        }
        Ok(Sizes {
            resident: resident.ok_or("no VmRSS")?.trim().parse()?,
            session,
            descriptors: fs::read_dir("/proc/self/fd")?.count() as u64,
            mappings: fs::read_to_string("/proc/self/maps")?.lines().count() as u64,
        })
    }

    /// What is larger than before, beyond what a thread's stack may take or not.
    fn grown(&self, before: &Sizes) -> Option<&'static str> {
        let pairs = [
            ("resident memory", self.resident, before.resident + 1024),
            ("the session's files", self.session.0, before.session.0),
            ("the number of its files", self.session.1, before.session.1),
            ("open files", self.descriptors, before.descriptors),
            ("mappings", self.mappings, before.mappings + 2),
        ];
        let grown = pairs.into_iter().find(|(_, now, most)| now > most);
        grown.map(|(what, ..)| what)
    }
}

fn place() -> Result<PathBuf, Box<dyn std::error::Error>> {
    Ok(std::env::var_os(SESSION).ok_or("no session")?.into())
}

/// This process's own files, looked at as a snapshot does.
fn look() -> Result<(ControlHandle, Vec<RingLook>), Box<dyn std::error::Error>> {
    let session = SessionDir::look(&place()?)?;
    let keys = session.processes()?;
    let own = keys.into_iter().find(|k| k.pid == std::process::id());
    let control = session.look_at_control(own.ok_or("no control file")?)?;
    let rings = control.rings().into_iter();
    let rings = rings.map(|place| session.look_at(&control, place, Writing::Goes));
    let rings = rings.collect::<Result<_, _>>()?;
    Ok((control, rings))
}

/// Requests as a polling server tells them; some rounds find nothing. Returns how many events it told by itself.
fn requests(rounds: &mut PollLoop, count: u64) -> u64 {
    let mut frame = 0;
    for _ in 0..count / u64::from(BURST) {
        rounds.begin();
        let burst = rounds.rx_burst(0, BURST, 32, frame);
        for n in 0..BURST {
            let flow = Flow::from_raw(n);
            burst.emit_with(points::TCP_IN, flow, frame + n, [64, 0, 65_535]);
            burst.emit(points::DELIVER, flow, 64);
            burst.emit(points::HANDOFF, flow, 1);
            burst.emit(points::APP_START, flow, 64);
            probe::emit(points::SEND_CALL, flow, 151);
            probe::emit(points::APP_END, flow, 151);
            burst.emit(points::TCP_OUT, flow, frame + n);
            burst.emit(points::TCP_OUT, flow, frame + n);
        }
        rounds.tx_burst(0, BURST, BURST, frame);
        rounds.end();
        for _ in 0..3 {
            rounds.begin();
            rounds.rx_burst(0, 0, 32, frame);
            rounds.end();
        }
        frame += BURST;
    }
    count / u64::from(BURST) * u64::from(BURST) * 8
}

/// What nine of ten batches do not undercut: what other programs take of the CPU falls out.
fn quick(of: &mut [f64]) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 10).copied().unwrap_or(f64::NAN)
}

fn measure() -> Result<(), Box<dyn std::error::Error>> {
    let floor = Floor::new(FLIGHT.1);
    let mut rounds = PollLoop::new();
    let batch = EVENTS / PARTS / BATCHES / 8;
    // Makes the ring, and gets everything into its place.
    requests(&mut rounds, batch);
    println!(
        "{EVENTS} events in parts of a tenth; of {BATCHES} batches each, what a tenth undercuts"
    );
    println!(
        "{:>4} {:>13} {:>13} {:>7} {:>12} {:>12} {:>6} {:>6} {:>8}",
        "part",
        "ticks, event",
        "ticks, floor",
        "ratio",
        "resident",
        "session",
        "files",
        "open",
        "mappings"
    );
    let mut parts: Vec<(f64, Sizes)> = Vec::new();
    let mut told = 0;
    for part in 1..=PARTS {
        let (mut events, mut floors) = (Vec::new(), Vec::new());
        for _ in 0..BATCHES {
            let start = counter();
            let count = requests(&mut rounds, batch);
            let middle = counter();
            for i in 0..FLOOR {
                floor.store(counter(), i);
            }
            let end = counter();
            told += count;
            let event = middle.wrapping_sub(start) as f64 / count as f64;
            let least = end.wrapping_sub(middle) as f64 / FLOOR as f64;
            events.push(event);
            floors.push(least);
            let short = || (0..10).for_each(|n| probe::emit(points::TIMER, Flow::NONE, n));
            std::thread::spawn(short)
                .join()
                .map_err(|_| "a thread broke")?;
        }
        let sizes = Sizes::now()?;
        let (event, least) = (quick(&mut events), quick(&mut floors));
        let ratio = event / least;
        println!(
            "{part:>4} {event:>13.2} {least:>13.2} {ratio:>7.3} {:>8} KiB {:>8} KiB {:>6} {:>6} {:>8}",
            sizes.resident, sizes.session.0, sizes.session.1, sizes.descriptors, sizes.mappings
        );
        parts.push((ratio, sizes));
    }
    let (control, rings) = look()?;
    let ring = rings.iter().max_by_key(|r| r.totals().events);
    let totals = ring.ok_or("no ring")?.totals();
    println!(
        "{told} events told in {} threads; the first one's ring has {} of them, {} dropped; {} threads without a ring",
        PARTS * BATCHES + 1,
        totals.events,
        totals.dropped_slots,
        control.unreached()
    );
    if totals.events < told || totals.dropped_slots + control.unreached() > 0 {
        return Err("events are missing".into());
    }
    let (first, last) = (parts[0], parts[parts.len() - 1]);
    if let Some(what) = last.1.grown(&first.1) {
        return Err(format!("{what} grew: {:?}, then {:?}", first.1, last.1).into());
    }
    let drift = last.0 / first.0;
    println!("an event's cost in the last part is {drift:.3} of that in the first");
    if drift > DRIFT {
        return Err(format!("that is more than {DRIFT}").into());
    }
    Ok(())
}

fn main() -> ExitCode {
    floor::in_a_session(&[("BYPASSPROF_FLIGHT", FLIGHT.0)], measure)
}
