//! The rules about gaps, as two tables: which pieces each speaks about, and which counts have to have moved.
//!
//! In: the counts of both sides and the direction of the pieces; out: lines of evidence, or nothing. A rule refuses to
//! know how large the pieces are.

use super::Pair;
use super::Piece::{self, ByCount, Rest};
use crate::analyse::compare::tally::Counted;

/// A rule: which pieces it speaks about, and what has to be seen besides.
pub struct Rule {
    /// Its name: as in design/stacks.md section 10 where it is one of those, `C` for others.
    pub id: &'static str,
    /// Stacks of the side that has more; empty: any.
    pub stacks: &'static [&'static str],
    /// What that side does, as the end of a sentence.
    pub title: &'static str,
    /// What to try.
    pub advice: &'static str,
    /// Pieces that it takes if they go the same way.
    pub takes: &'static [(&'static str, Piece)],
    /// Evidence besides the pieces themselves.
    pub needs: Evidence,
}

/// What has to be seen of counts; "moved" is: believed to have changed, and more where the pieces are larger.
pub enum Evidence {
    /// Nothing: the pieces are enough.
    Pieces,
    /// The pieces are enough; that a count moved is told if it did.
    Tells(Counted),
    /// The same of a count that is less where the pieces are larger: fewer bursts, longer waits.
    TellsLess(Counted),
    /// Each of these moved.
    Each(&'static [Counted]),
    /// At least one of these moved.
    AnyOf(&'static [Counted]),
    /// Something of the rule's own: it is given the sign of the pieces.
    Own(fn(&Pair<'_>, f64) -> Option<Vec<String>>),
}

impl Evidence {
    /// A line for each count that speaks for the cause, where `way` is the sign of the pieces; `None`: it is not there.
    pub fn lines(&self, pair: &Pair<'_>, way: f64) -> Option<Vec<String>> {
        let moved = |what: &Counted| pair.moved(*what, way);
        match self {
            Evidence::Pieces => Some(Vec::new()),
            Evidence::Tells(what) => Some(moved(what).into_iter().collect()),
            Evidence::TellsLess(what) => Some(pair.moved(*what, -way).into_iter().collect()),
            Evidence::Each(counts) => counts.iter().map(moved).collect(),
            Evidence::AnyOf(counts) => {
                let lines: Vec<_> = counts.iter().filter_map(moved).collect();
                (!lines.is_empty()).then_some(lines)
            }
            Evidence::Own(own) => own(pair, way),
        }
    }
}

const ANY: &[&str] = &[];
/// Where segments with nothing but an ACK are paid for.
const ACKS: &[(&str, Piece)] = &[
    ("ack_only", ByCount),
    ("ack_only", Rest),
    ("eth_ip", ByCount),
    ("csum", ByCount),
];
/// Where waiting for locks and waking threads up is paid for.
const SYNC: &[(&str, Piece)] = &[("sync", ByCount), ("sync", Rest)];

/// Rules about latency; the first whose evidence is there takes a piece.
pub const LATENCY: &[Rule] = &[
    Rule {
        id: "F1",
        stacks: &["fstack"],
        title: "lets replies wait for the timer that drains the transmit queue",
        advice: "a shorter drain delay (pkt_tx_delay 0)",
        takes: &[("wait_drain", Rest)],
        needs: Evidence::Own(drained_by_timer),
    },
    Rule {
        id: "C8",
        stacks: ANY,
        title: "waits for its CPUs, which other programs have",
        advice: "a CPU for each thread that polls, and no other program on it; it says nothing about the server",
        takes: &[("wait_cpu", Rest)],
        needs: Evidence::Pieces,
    },
    Rule {
        id: "M1",
        stacks: &["mtcp"],
        title: "hands each request over between two threads that sleep in between",
        advice: "I/O that spins instead of sleeping, or stack and application on one thread",
        takes: &[("wait_wakeup", Rest), ("wait_send", Rest)],
        needs: Evidence::Each(&[Counted::Wakes]),
    },
    Rule {
        id: "T1",
        stacks: &["tas"],
        title: "sends each request across cores through queues",
        advice: "nothing short of another division of work: `per_request` of compare has the age of what crosses",
        takes: &[
            ("wait_handoff", Rest),
            ("wait_app", Rest),
            ("wait_send", Rest),
            ("wait_wakeup", Rest),
        ],
        needs: Evidence::Each(&[Counted::Handoffs, Counted::HandoffNs]),
    },
    Rule {
        id: "IX1",
        stacks: ANY,
        title: "can send only a part of each reply at once: the rest waits for window or buffer",
        advice: "a larger send buffer or window",
        takes: &[("wait_send", Rest)],
        needs: Evidence::Each(&[Counted::ShortSends]),
    },
    Rule {
        id: "C1",
        stacks: ANY,
        title: "hands frames or requests over from the thread that received them to another",
        advice: "spread flows so that the queue they arrive on is their thread's (RSS key and table)",
        takes: &[
            ("wait_handoff", Rest),
            ("receive", Rest),
            ("tcp_in", Rest),
            ("wait_app", Rest),
            ("wait_send", Rest),
        ],
        needs: Evidence::Own(handed_over_by_the_same_stack),
    },
    Rule {
        id: "C7",
        stacks: ANY,
        title: "hands each request over between threads, and it waits in between",
        advice: "stack and application on one thread, or a thread that spins for what is handed over",
        takes: &[
            ("wait_handoff", Rest),
            ("wait_app", Rest),
            ("wait_send", Rest),
        ],
        needs: Evidence::Each(&[Counted::Handoffs]),
    },
    Rule {
        id: "S1",
        stacks: ANY,
        title: "lets replies wait to be given to the device",
        advice: "a burst at the end of each round, or a shorter drain delay",
        takes: &[("wait_drain", Rest)],
        needs: Evidence::TellsLess(Counted::TxBursts),
    },
    Rule {
        id: "S2",
        stacks: ANY,
        title: "lets requests wait for the application's thread to wake up",
        advice: "poll for longer before sleeping, or keep stack and application on one thread",
        takes: &[("wait_wakeup", Rest)],
        needs: Evidence::Tells(Counted::Wakes),
    },
    Rule {
        id: "S3",
        stacks: ANY,
        title: "lets requests wait for the application behind others",
        advice: "smaller batches, more threads, or less work for each request",
        takes: &[("wait_app", Rest)],
        needs: Evidence::TellsLess(Counted::RxBursts),
    },
    Rule {
        id: "S4",
        stacks: ANY,
        title: "lets replies wait in the stack after the application is done",
        advice: "a larger send buffer or window, or handing sends to the stack before the next turn",
        takes: &[("wait_send", Rest)],
        needs: Evidence::Pieces,
    },
];

/// Rules about work on CPUs; the first whose evidence is there takes a piece.
pub const WORK: &[Rule] = &[
    Rule {
        id: "F4",
        stacks: &["fstack"],
        title: "sends more segments with nothing but an ACK: one for each request, beside the reply",
        advice: "delay ACKs so that they ride on the reply",
        takes: ACKS,
        needs: Evidence::Each(&[Counted::Acks]),
    },
    Rule {
        id: "M4",
        stacks: &["mtcp"],
        title: "sends its list of ACKs before the application has replied",
        advice: "delay ACKs until the application's thread has run",
        takes: ACKS,
        needs: Evidence::Each(&[Counted::Acks]),
    },
    Rule {
        id: "S5",
        stacks: ANY,
        title: "sends more segments with nothing but an ACK",
        advice: "delay ACKs so that they ride on the reply",
        takes: ACKS,
        needs: Evidence::Each(&[Counted::Acks]),
    },
    Rule {
        id: "C2",
        stacks: ANY,
        title: "goes to the device more often: fewer frames in each burst",
        advice: "larger bursts, or a burst at the end of each round",
        takes: &[("driver_rx", ByCount), ("driver_tx", ByCount)],
        needs: Evidence::AnyOf(&[Counted::RxBursts, Counted::TxBursts]),
    },
    Rule {
        id: "C3",
        stacks: ANY,
        title: "waits for locks",
        advice: "shorter holds, or a lock for each core",
        takes: SYNC,
        needs: Evidence::Own(waits_for_locks_often),
    },
    Rule {
        id: "C4",
        stacks: ANY,
        title: "wakes threads up: locks, scheduler and context switches",
        advice: "poll for longer before sleeping, or hand over in batches",
        takes: SYNC,
        needs: Evidence::Each(&[Counted::Wakes]),
    },
    Rule {
        id: "C5",
        stacks: ANY,
        title: "copies more",
        advice: "`flamegraph --diff` shows who calls the copies; hand buffers over instead",
        takes: &[("copy", Rest)],
        needs: Evidence::Pieces,
    },
    Rule {
        id: "C6",
        stacks: ANY,
        title: "enters the kernel for more",
        advice: "batch system calls, or poll in user space",
        takes: &[("kernel_syscall", Rest)],
        needs: Evidence::Pieces,
    },
    Rule {
        id: "M3",
        stacks: ANY,
        title: "computes more checksums in software",
        advice: "checksum offload",
        takes: &[("csum", ByCount), ("csum", Rest)],
        needs: Evidence::Pieces,
    },
    Rule {
        id: "L2",
        stacks: ANY,
        title: "gets and gives back more memory",
        advice: "pools of buffers; segmentation offload, where it is for segments",
        takes: &[("alloc", Rest)],
        needs: Evidence::Pieces,
    },
];

/// The side with more sends bursts by timer.
fn drained_by_timer(pair: &Pair<'_>, way: f64) -> Option<Vec<String>> {
    let timer = pair.count(Counted::TimerDrains)?;
    let more = if way > 0.0 { timer.b } else { timer.a };
    (more >= 0.01).then(|| {
        vec![format!(
            "bursts sent by timer, a request: {:.2} -> {:.2}",
            timer.a, timer.b
        )]
    })
}

/// More is handed over, and not by design: another stack may do so, and no table mends that.
fn handed_over_by_the_same_stack(pair: &Pair<'_>, way: f64) -> Option<Vec<String>> {
    let same = pair.stacks[0] == pair.stacks[1];
    same.then(|| Evidence::Each(&[Counted::Handoffs]).lines(pair, way))?
}

/// Locks are waited for more, and not rarely: a few waits that are long are waits for a holder that was preempted:
/// asleep, not spinning.
fn waits_for_locks_often(pair: &Pair<'_>, way: f64) -> Option<Vec<String>> {
    let waits = pair.count(Counted::LockWaits)?;
    let often = waits.a.max(waits.b) >= 0.01;
    often.then(|| Evidence::Each(&[Counted::LockWaits, Counted::LockNs]).lines(pair, way))?
}
