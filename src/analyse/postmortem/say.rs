//! An event in words.
//!
//! In: an event and the names of its program's own points; out: its name, its flow, and a short phrase of what its
//! arguments say. Phrases follow the catalogue in `bypassprof_wire::points`.

use bypassprof_wire::{Event, Point, points};

/// Whether the point's flow field holds a flow.
pub fn has_flow(point: Point) -> bool {
    point
        .info()
        .is_none_or(|info| info.flow.starts_with("flow"))
}

/// What the event's arguments say. Ticks are told as such: their length is a matter of clocks.
pub fn phrase(event: &Event) -> String {
    let [a, b, c, d, ..] = event.args;
    let packed = event.flow.raw();
    let wide = event.wide();
    let pick = |names: &[&'static str], at: u32| names.get(at as usize).copied().unwrap_or("?");
    match event.point {
        points::IDLE_BEGIN => "nothing to do from here on".to_owned(),
        points::IDLE_END => format!("work again after {wide} empty rounds"),
        points::LOOP => format!("a whole round of {a} ticks"),
        points::RX_BURST => format!(
            "{} frames from queue {}, of room for {}",
            packed & 0xfff,
            packed >> 24,
            (packed >> 12) & 0xfff
        ),
        points::TX_BURST => format!(
            "{} of {} frames to queue {}",
            (packed >> 12) & 0xfff,
            packed & 0xfff,
            packed >> 24
        ),
        points::TCP_IN => format!("{} bytes in, frame {a}{}", b & 0xff_ffff, flags(b >> 24)),
        points::TCP_OUT => format!(
            "{} bytes out ({}), {c} in flight",
            b & 0xff_ffff,
            pick(&["data", "ack", "again", "probe", "control"], b >> 24)
        ),
        points::DELIVER => format!("{a} bytes to the application, {b} waiting in the queue"),
        points::APP_START => format!("request {a} of this thread begins"),
        points::APP_END => format!("request done, {a} bytes of reply"),
        points::SEND_CALL => format!("{b} of {a} bytes taken, {c} were free"),
        points::DROP => format!(
            "dropped at {}, reason {}",
            pick(&["?", "nic", "eth", "ip", "tcp", "socket"], a >> 24),
            a & 0xff_ffff
        ),
        points::FULL => format!(
            "a queue of {a} is full: {}",
            pick(&["drop", "spin", "sleep", "refuse", "abort"], b)
        ),
        points::SLEEP if a == 0 => "goes to sleep".to_owned(),
        points::SLEEP => format!("goes to sleep for {a} us at most"),
        points::WAKE => format!(
            "runs again: {}",
            pick(&["?", "packet", "timeout", "another thread", "signal"], a)
        ),
        points::HANDOFF => format!("from queue {a}, {b} left in it, {c} ticks old"),
        points::TIMER => {
            let kinds = [
                "?",
                "retransmit",
                "delayed ack",
                "persist",
                "keepalive",
                "time-wait",
                "tick",
            ];
            format!("{}, {b} ns late", pick(&kinds, a))
        }
        points::LOCK_WAIT => format!("a lock after {a} ticks"),
        points::SLOW_PATH => format!(
            "off the fast path: {}",
            pick(&["?", "syn", "flags", "options", "state"], a)
        ),
        points::STALL => {
            format!("nothing sent for {a} ticks: {b} bytes unacknowledged, {c} unsent")
        }
        points::SIDE_POLL => format!("{a} ticks"),
        points::LOST => format!("{wide} slots did not fit"),
        _ => match event.arg_count {
            1 => format!("{a}"),
            _ => format!("{a}, {b}, {c}, {d}"),
        },
    }
}

/// TCP's flags by their letters.
fn flags(bits: u32) -> String {
    let letters = "FSRPAUEC".chars().enumerate();
    let set: String = letters
        .filter(|(at, _)| (bits >> at) & 1 == 1)
        .map(|(_, letter)| letter)
        .collect();
    match set.is_empty() {
        true => set,
        false => format!(", {set}"),
    }
}
