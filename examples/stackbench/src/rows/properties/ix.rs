//! IX: large sends wait for the 64 KiB send window (IX1); acknowledgements ride on replies, batches grow with the load
//! and delay nothing (IX4).

use super::{Evidence, Property, Verdict};
use crate::Failure;
use crate::events::Told;
use crate::load::Load;
use crate::site::Stack;
use bypassprof_wire::{Event, points};

const BODY: usize = 1 << 20;
/// Of IX4's load.
const CONNECTIONS: f64 = 64.0;
/// Windows of 64 KiB in a body.
const WINDOWS: f64 = 16.0;

/// IX1: shown if each body's sending is cut short about once a window, goes on only after the peer acknowledged, and is
/// quicker when the window alone is larger.
pub fn send_window(evidence: &mut Evidence) -> Result<Property, Failure> {
    let load = Load {
        body: Some(BODY),
        ..Load::closed(1, evidence.time)
    };
    let body = BODY.to_string();
    let mut run = |window: &str| {
        let arguments = ["--body", &body, "--ix-send-window", window];
        evidence.run(
            Stack::Ix,
            format!("record-1m-window-{window}"),
            &arguments,
            load,
        )
    };
    let (narrow, wide) = (run("65536")?, run("1048576")?);
    let pending = Pending::of(narrow.application()?);
    let cuts = pending.cuts as f64 / narrow.requests();
    let mb = |bytes: f64| bytes / 1e6;
    let (slow, quick) = (
        mb(narrow.figures.bytes_per_second),
        mb(wide.figures.bytes_per_second),
    );
    let seen = format!(
        "for each 1 MiB body the sending is cut short {cuts:.1} times, {} times it went on without room; a send was pending \
         {:.0} % of the time, of which {:.0} % was empty polling; {slow:.0} MB/s, with a window of 1 MiB {quick:.0} MB/s",
        pending.early,
        100.0 * pending.share,
        100.0 * pending.empty
    );
    let property = Property::new(
        "IX1",
        "large sends leave the core at 35 % busy: 64 KiB send window, each acknowledgement passes the application before \
         more is sent",
    );
    let property = property.seen(seen, &[&narrow, &wide]);
    let waits = cuts >= WINDOWS * 0.9 && pending.early == 0;
    Ok(match (waits, quick > slow * 1.3) {
        (true, true) => property.verdict(
            Verdict::Shown,
            format!(
                "the window alone makes {:.1} times the throughput",
                quick / slow
            ),
        ),
        (true, false) => property.verdict(
            Verdict::InPart,
            format!(
                "sends wait for the window, but a larger one makes {:.1} times the throughput only",
                quick / slow
            ),
        ),
        _ => property.verdict(Verdict::NotShown, "sends do not wait for the window"),
    })
}

/// Times in which a send was cut short and not done.
#[derive(Default)]
struct Pending {
    cuts: u64,
    /// Sends that went on before the peer acknowledged.
    early: u64,
    /// Of the time from the first request to the last.
    share: f64,
    /// Of that, empty polling.
    empty: f64,
}

impl Pending {
    fn of(thread: &Told) -> Pending {
        let Some((from, to)) = thread.served() else {
            return Pending::default();
        };
        let mut seen = Pending::default();
        let (mut waits, mut room, mut polling) = (false, true, false);
        let (mut pending, mut empty, mut last) = (0, 0, from);
        for event in &thread.events {
            let tsc = event.tsc.raw().clamp(last, to.max(last));
            if waits {
                pending += tsc - last;
                empty += if polling { tsc - last } else { 0 };
            }
            last = tsc;
            match event.point {
                points::SEND_CALL => {
                    seen.early += u64::from(!room);
                    waits = event.args[1] < event.args[0];
                    seen.cuts += u64::from(waits);
                    room = !waits;
                }
                points::DELIVER if event.args[3] == 1 => room = true,
                points::IDLE_BEGIN => polling = true,
                points::IDLE_END => polling = false,
                _ => {}
            }
        }
        seen.share = pending as f64 / (to - from).max(1) as f64;
        seen.empty = empty as f64 / pending.max(1) as f64;
        seen
    }
}

/// IX4: shown if pure acknowledgements are below 2 % of data under load, nothing sleeps or hands over, and batches are of
/// one frame at 1 connection and larger at 64; the best rate of all is the other half of it.
pub fn piggyback_and_batches(evidence: &mut Evidence) -> Result<Property, Failure> {
    let one = evidence.small(Stack::Ix, 1, &[])?;
    let many = evidence.small(Stack::Ix, CONNECTIONS as u32, &[])?;
    // Clients end their connections when the load is over; those FINs have nothing to ride on.
    let acks = (many.segments(1) * many.requests() - CONNECTIONS).max(0.0);
    let share = acks / (many.segments(0) * many.requests());
    let sync = [
        points::SLEEP,
        points::WAKE,
        points::HANDOFF,
        points::LOCK_WAIT,
    ];
    let sync: u64 = sync.iter().map(|&point| many.count(point)).sum();
    let (single, _) = batches(one.application()?);
    let (mean, most) = batches(many.application()?);
    let (best, rate) = evidence
        .rates
        .iter()
        .max_by(|a, b| a.1.total_cmp(b.1))
        .map_or((None, 0.0), |(stack, rate)| (Some(*stack), *rate));
    let seen = format!(
        "at 64 connections {:.2} % pure acknowledgements of data segments (those of the clients' FINs left out), {sync} sleeps, wake-ups, hand-overs and waits for \
         locks; a batch has {single:.1} frames at 1 connection and {mean:.1} at 64, {most} at most; best rate at 64: {}",
        100.0 * share,
        best.map_or("not measured in this run".to_string(), |stack| {
            format!("{} with {rate:.0} requests/s", stack.name())
        })
    );
    let property = Property::new(
        "IX4",
        "best rate on one core: 0.3 % pure acknowledgements, no locks, no sleeps, rounds of up to 64 packets without delay",
    );
    let property = property.seen(seen, &[&one, &many]);
    let mechanism = share < 0.02 && sync == 0 && single < 1.5 && mean > 2.0 && most <= 64;
    Ok(match (mechanism, best) {
        (true, Some(Stack::Ix)) => property.verdict(Verdict::Shown, "mechanism and outcome"),
        (true, Some(other)) => property.verdict(
            Verdict::InPart,
            format!(
                "the mechanism is there; in rate {} leads here",
                other.name()
            ),
        ),
        (true, None) => property.verdict(
            Verdict::InPart,
            "the mechanism is there; rates were not measured in this run",
        ),
        (false, _) => property.verdict(Verdict::NotShown, "one of the counts is off"),
    })
}

/// Mean and largest number of frames received at once.
fn batches(thread: &Told) -> (f64, u32) {
    let frames = |e: &Event| e.flow.raw() & 0xfff;
    let bursts: Vec<u32> = thread.at(points::RX_BURST).map(frames).collect();
    let sum: f64 = bursts.iter().map(|&n| f64::from(n)).sum();
    let most = bursts.iter().copied().max().unwrap_or(0);
    (sum / bursts.len().max(1) as f64, most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use points::{APP_START, DELIVER, IDLE_BEGIN, IDLE_END, SEND_CALL};

    /// A send that was cut short is pending until all is taken; going on without the peer's word is early.
    #[test]
    fn sends_that_are_cut_short_are_pending() {
        let events = [
            (0, APP_START, [0; 4]),
            (10, SEND_CALL, [100, 60, 60, 0]),
            (20, IDLE_BEGIN, [0; 4]),
            (40, IDLE_END, [0; 4]),
            (45, DELIVER, [60, 0, 0, 1]),
            (50, SEND_CALL, [40, 40, 60, 0]),
            (100, APP_START, [0; 4]),
        ];
        let pending = Pending::of(&Told::of(&events));
        assert_eq!((pending.cuts, pending.early), (1, 0));
        assert_eq!((pending.share, pending.empty), (0.4, 0.5));
        let early = [&events[..4], &events[5..]].concat();
        assert_eq!(Pending::of(&Told::of(&early)).early, 1);
    }
}
