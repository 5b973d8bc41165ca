//! The catalogue of points: named places on a data path, their numbers and the meaning of their fields.
//!
//! In: nothing; out: constants for writers, descriptions for readers and for `docs/reference/points.md`, which is
//! generated from [`CATALOGUE`]. Numbers are part of the format: new points are appended, none is ever reused.
//! A program's own points get numbers from [`FIRST_OWN`] on and are described in its ring files.

/// The number of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point(u16);

impl Point {
    /// A point by number; any number is accepted, [`Point::is_valid`] tells whether it can mark an event.
    #[inline(always)]
    pub const fn from_id(id: u16) -> Point {
        Point(id)
    }

    /// The number.
    #[inline(always)]
    pub const fn id(self) -> u16 {
        self.0
    }

    /// Whether the number can stand at the head of an event. Numbers that this catalogue does not have yet count as
    /// valid: a newer program may be read by an older recorder.
    pub const fn is_valid(self) -> bool {
        (self.0 != 0 && self.0 <= LAST_OWN) || self.0 == EPOCH.0 || self.0 == LOST.0
    }

    /// The catalogue's description; `None` for a program's own points and reserved numbers.
    pub const fn info(self) -> Option<&'static PointInfo> {
        if self.0 != 0 && (self.0 as usize) <= CATALOGUE.len() {
            Some(&CATALOGUE[self.0 as usize - 1])
        } else {
            None
        }
    }
}

/// The first number given to a program's own points.
pub const FIRST_OWN: u16 = 256;
/// The last number a program's own point may have.
pub const LAST_OWN: u16 = 0xfeff;
/// A slot that continues the event before it; it has no stamp.
pub const CONT: Point = Point(0xffff);
/// A slot with all 64 bits of the counter.
pub const EPOCH: Point = Point(0xfffe);
/// A slot that counts slots which could not be written.
pub const LOST: Point = Point(0xfffd);

/// What a point means and what its fields hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointInfo {
    /// Name in reports and in the C header.
    pub name: &'static str,
    /// What happened when it fired.
    pub what: &'static str,
    /// Meaning of the 32-bit flow field: `flow`, or what the point packs there.
    pub flow: &'static str,
    /// Meaning of the arguments in order; the first rides in the head slot, the others three to a continuation slot.
    pub args: &'static [&'static str],
}

macro_rules! catalogue {
    ($($id:literal $constant:ident $name:literal $what:literal flow: $flow:literal args: [$($arg:literal),*];)*) => {
        $(#[doc = $what] pub const $constant: Point = Point($id);)*
        /// Every point of the catalogue; entry `i` describes point `i + 1`.
        pub const CATALOGUE: &[PointInfo] = &[$(PointInfo { name: $name, what: $what, flow: $flow, args: &[$($arg),*] }),*];
        const _: () = { let ids = [$($id),*]; let mut i = 0; while i < ids.len() { assert!(ids[i] == i + 1); i += 1; } };
    };
}

catalogue! {
    1 IDLE_BEGIN "idle_begin" "First empty round after work, stamped at that round's start: empty polling from here on."
        flow: "0" args: ["0"];
    2 IDLE_END "idle_end" "Start of the first working round after empty ones."
        flow: "high half of the count" args: ["empty rounds since idle_begin, low half"];
    3 LOOP "loop" "One sampled round, stamped in full; empty rounds are sampled too."
        flow: "frames received << 16 | frames sent" args: ["ticks of the whole round", "ticks in nic", "ticks in rings", "ticks in timers", "ticks in side polls", "ticks in app", "application events", "one in how many rounds is sampled", "0", "0"];
    4 RX_BURST "rx_burst" "Frames were received; stamped before the receive call."
        flow: "queue << 24 | capacity << 12 | frames" args: ["running number of the first frame on this queue"];
    5 TX_BURST "tx_burst" "Frames were handed to the device."
        flow: "queue << 24 | accepted << 12 | asked" args: ["running number of the first frame on this queue", "age of the oldest frame in ticks", "trigger: 0 at once, 1 batch full, 2 timer, 3 end of round", "0"];
    6 TCP_IN "tcp_in" "A TCP segment entered the stack."
        flow: "flow" args: ["running number of the frame", "TCP flags << 24 | payload bytes", "bytes newly acknowledged", "peer's window in bytes"];
    7 TCP_OUT "tcp_out" "A TCP segment left the stack."
        flow: "flow" args: ["running number of the frame", "kind << 24 | payload bytes; kind: 0 data, 1 pure ack, 2 retransmission, 3 probe, 4 control", "bytes in flight", "congestion window in bytes", "peer's window in bytes", "limit: 0 none, 1 app, 2 cwnd, 3 peer, 4 buffer, 5 pace", "0"];
    8 DELIVER "deliver" "Data or an event was made ready for the application."
        flow: "flow" args: ["bytes", "depth of the queue it joined", "ticks since its rx_burst", "what: 0 data, 1 acknowledged bytes, 2 connection"];
    9 APP_START "app_start" "The application began to handle a request."
        flow: "flow" args: ["running number of the request on its thread"];
    10 APP_END "app_end" "The application finished a request."
        flow: "flow" args: ["bytes of the reply"];
    11 SEND_CALL "send_call" "The application asked the stack to send."
        flow: "flow" args: ["bytes asked", "bytes accepted", "bytes free in the send buffer before the call", "1 if the stack slept and was not woken, else 0"];
    12 DROP "drop" "Something was dropped."
        flow: "flow, or 0" args: ["layer << 24 | reason; layer: 1 nic, 2 eth, 3 ip, 4 tcp, 5 socket"];
    13 FULL "full" "A queue was full."
        flow: "flow, or 0" args: ["capacity", "action: 0 drop, 1 spin, 2 sleep, 3 refuse, 4 abort", "tries, where it was tried again at once", "0"];
    14 SLEEP "sleep" "The thread is about to block."
        flow: "0" args: ["longest sleep in us, 0 without limit"];
    15 WAKE "wake" "The thread runs again."
        flow: "flow, or 0" args: ["cause: 0 unknown, 1 packet, 2 timeout, 3 peer thread, 4 signal"];
    16 HANDOFF "handoff" "An item crossed from one thread's queue to this thread."
        flow: "flow, or 0" args: ["queue", "depth left", "age in ticks", "0"];
    17 TIMER "timer" "A timer ran."
        flow: "flow, or 0" args: ["kind: 1 retransmit, 2 delayed ack, 3 persist, 4 keepalive, 5 time-wait, 6 tick", "lateness in ns", "0", "0"];
    18 LOCK_WAIT "lock_wait" "A lock was taken after waiting."
        flow: "flow, or 0" args: ["ticks waited"];
    19 SLOW_PATH "slow_path" "A packet left the fast path."
        flow: "flow" args: ["reason: 1 syn, 2 flags, 3 options, 4 state"];
    20 STALL "stall" "Unacknowledged or unsent data, and nothing was sent for a long time."
        flow: "flow" args: ["ticks since the last segment left", "bytes unacknowledged", "bytes unsent", "0"];
    21 SIDE_POLL "side_poll" "Something besides the network was polled in a sampled round."
        flow: "0" args: ["ticks"];
    22 TRIGGER "trigger" "The program asked for a snapshot of its rings."
        flow: "0" args: ["a number of the program's choice"];
    23 FRAME_IN "frame_in" "A received frame that was looked at; stamped as its rx_burst."
        flow: "flow by its headers, else the device's hash" args: ["running number of the frame on its queue", "TCP flags << 24 | bytes", "TCP sequence number", "age in ns by the frame's own stamp, 0xffffffff if not known"];
    24 FRAME_OUT "frame_out" "A frame that was looked at and that the device took; stamped as its tx_burst."
        flow: "flow by its headers, else the device's hash" args: ["running number of the frame on its queue", "TCP flags << 24 | bytes", "TCP sequence number", "age in ns by the frame's own stamp, 0xffffffff if not known"];
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names are unique and fit the C header; arguments fit in four slots.
    #[test]
    fn catalogue_is_sound() {
        let mut names: Vec<_> = CATALOGUE.iter().map(|p| p.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CATALOGUE.len());
        for point in CATALOGUE {
            assert!(
                point
                    .name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{}",
                point.name
            );
            assert!(
                matches!(point.args.len(), 1 | 4 | 7 | 10),
                "{}: {} args",
                point.name,
                point.args.len()
            );
        }
        assert!(CATALOGUE.len() < FIRST_OWN as usize);
    }

    /// Reserved numbers are no events; own ones are.
    #[test]
    fn validity() {
        assert!(!Point::from_id(0).is_valid());
        assert!(!CONT.is_valid());
        assert!(LOST.is_valid() && EPOCH.is_valid() && RX_BURST.is_valid());
        assert!(Point::from_id(FIRST_OWN).is_valid());
        assert!(!Point::from_id(LAST_OWN + 1).is_valid());
    }
}
