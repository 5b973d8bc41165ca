//! Which point stands where in which stack: what the test holds against every event that a server makes, and what
//! `docs/reference/points-by-stack.md` is written from.

mod fstack;
mod ix;
mod linux;
mod mtcp;
mod tas;
mod third_party;

use bypassprof_wire::Event;

/// One place of a point in a stack.
pub struct Place {
    /// The thread, without its number.
    pub thread: &'static str,
    /// The point's name.
    pub point: &'static str,
    /// Where it stands in the code: file below `examples/` (or `probes/`), function.
    pub at: (&'static str, &'static str),
    /// What its arguments say here, where that is particular.
    pub says: &'static str,
    /// Whether an event can be one of this place.
    pub sane: fn(&Event) -> bool,
    /// Whether it has to fire in the test's run.
    pub seen: bool,
}

impl Place {
    /// It fires only in a distress that the test cannot make at will.
    const fn in_distress(mut self) -> Place {
        self.seen = false;
        self
    }
}

/// A stack's places.
pub struct Stack {
    /// Its name.
    pub name: &'static str,
    /// The page, and where on it, that lists what is to be seen.
    pub listed: (&'static str, &'static str),
    /// All of them.
    pub places: &'static [&'static [Place]],
}

const ROUNDS: &str = "probes/probe/src/rounds.rs";
const PORT: &str = "examples/stacks/port/src/lib.rs";
const INPUT: &str = "examples/stacks/tcp/src/input.rs";
const DATA: &str = "examples/stacks/tcp/src/input/data.rs";
const JOB: &str = "examples/httpjob/src/job.rs";

const fn place(
    thread: &'static str,
    point: &'static str,
    at: (&'static str, &'static str),
    says: &'static str,
    sane: fn(&Event) -> bool,
) -> Place {
    Place {
        thread,
        point,
        at,
        says,
        sane,
        seen: true,
    }
}

fn payload(e: &Event) -> u32 {
    e.args[1] & 0xff_ffff
}

fn burst(e: &Event, most: u32) -> bool {
    let (high, low) = ((e.flow.raw() >> 12) & 0xfff, e.flow.raw() & 0xfff);
    high == most && (1..=most).contains(&low)
}

fn handed_over(e: &Event, most: u32, triggers: &[u32]) -> bool {
    let (accepted, asked) = ((e.flow.raw() >> 12) & 0xfff, e.flow.raw() & 0xfff);
    accepted <= asked && (1..=most).contains(&asked) && triggers.contains(&e.args[2])
}

fn is_full(e: &Event, capacity: u32, action: u32) -> bool {
    (e.args[0], e.args[1]) == (capacity, action)
}

/// Of a round in full the parts are no more than the whole.
fn whole_round(e: &Event) -> bool {
    e.args[1..6]
        .iter()
        .map(|&part| u64::from(part))
        .sum::<u64>()
        <= u64::from(e.args[0])
        && e.args[7] >= 1
}

fn segment_in(e: &Event) -> bool {
    e.flow.raw() != 0 && payload(e) <= 1460
}

fn segment_out(e: &Event) -> bool {
    e.flow.raw() != 0 && e.args[1] >> 24 <= 4 && payload(e) <= 1460 && e.args[5] <= 5
}

fn send_call(e: &Event) -> bool {
    e.args[1] == e.args[0].min(e.args[2]) && e.args[3] <= 1
}

/// The rounds of a polling thread.
macro_rules! rounds {
    ($thread:literal) => {
        &[
            place($thread, "idle_begin", (ROUNDS, "end_of_nothing"), "", |e| {
                e.args[0] == 0
            }),
            place($thread, "idle_end", (ROUNDS, "tell_work"), "", |e| {
                e.wide() < 1 << 40
            }),
            place($thread, "loop", (ROUNDS, "tell_sample"), "", whole_round),
        ]
    };
}

/// The bursts of a polling thread, and a device that is full.
macro_rules! bursts {
    ($thread:literal, rx $rx:literal, tx $tx:literal $triggers:expr) => {
        &[
            place(
                $thread,
                "rx_burst",
                (PORT, "rx_burst"),
                concat!("at most ", $rx, " frames"),
                |e| burst(e, $rx),
            ),
            place(
                $thread,
                "tx_burst",
                (PORT, "tx_burst"),
                concat!("at most ", $tx, " frames wait"),
                |e| handed_over(e, $tx, &$triggers),
            ),
            place(
                $thread,
                "full",
                (PORT, "frame"),
                "frames that wait in the device, which takes no more",
                |e| e.args[0] <= $tx && [1, 3].contains(&e.args[1]),
            )
            .in_distress(),
        ]
    };
}

/// The engine of mtcp, fstack and ix.
macro_rules! engine {
    ($thread:literal) => {
        &[
            place($thread, "tcp_in", (INPUT, "tcp_input"), "", segment_in),
            place(
                $thread,
                "tcp_out",
                ("examples/stacks/tcp/src/output.rs", "segment"),
                "",
                segment_out,
            ),
            place(
                $thread,
                "timer",
                ("examples/stacks/tcp/src/expiry.rs", "run_timers"),
                "one connection's",
                |e| (1..=5).contains(&e.args[0]) && e.flow.raw() != 0,
            ),
            place(
                $thread,
                "drop",
                ("examples/stacks/tcp/src/demux.rs", "reject"),
                "layer ip: what is wrong with a frame",
                |e| e.args[0] >> 24 == 3,
            ),
            place(
                $thread,
                "drop",
                ("examples/stacks/tcp/src/demux.rs", "drop_syn"),
                "layer tcp: no room for a connection",
                |e| e.args[0] == 0x0400_0004,
            )
            .in_distress(),
            place(
                $thread,
                "drop",
                (DATA, "take_payload"),
                "layer socket: no room in the receive buffer",
                |e| e.args[0] == 0x0500_0001,
            )
            .in_distress(),
        ]
    };
}

/// The job of whoever reads by copying.
macro_rules! job {
    ($thread:literal, $at:expr) => {
        &[
            place($thread, "app_start", ($at, "answer"), "", |e| e.args[0] > 0),
            place(
                $thread,
                "app_end",
                ($at, "answer"),
                "those that wait for room too",
                |e| e.args[0] <= 200_000,
            ),
        ]
    };
}

/// Where the stacks of the study are described.
const STUDIED: &str = "../design/stacks.md";
/// Where those of others are.
const OTHERS: &str = "third-party-stacks.md";

/// All stacks.
pub const STACKS: &[Stack] = &[
    Stack {
        name: "linux",
        listed: (STUDIED, "4.3"),
        places: &[linux::PLACES],
    },
    Stack {
        name: "mtcp",
        listed: (STUDIED, "5.3"),
        places: &[
            rounds!("mtcp-stack"),
            bursts!("mtcp-stack", rx 64, tx 2048 [1, 3]),
            engine!("mtcp-stack"),
            mtcp::PLACES,
            job!("mtcp-app", JOB),
        ],
    },
    Stack {
        name: "fstack",
        listed: (STUDIED, "6.3"),
        places: &[
            rounds!("fstack"),
            bursts!("fstack", rx 32, tx 4095 [1, 2, 3]),
            engine!("fstack"),
            fstack::PLACES,
            job!("fstack", JOB),
        ],
    },
    Stack {
        name: "ix",
        listed: (STUDIED, "7.3"),
        places: &[
            rounds!("ix"),
            bursts!("ix", rx 64, tx 64 [1, 3]),
            engine!("ix"),
            ix::PLACES,
        ],
    },
    Stack {
        name: "tas",
        listed: (STUDIED, "8.3"),
        places: &[
            rounds!("tas-fp"),
            bursts!("tas-fp", rx 16, tx 32 [1, 3]),
            tas::PLACES,
            job!("tas-app", JOB),
        ],
    },
    Stack {
        name: "demikernel",
        listed: (STUDIED, "9.3"),
        places: &[
            rounds!("demikernel"),
            third_party::DEMIKERNEL_BORDER,
            third_party::DEMIKERNEL_PLACES,
            job!("demikernel", JOB),
        ],
    },
    Stack {
        name: "smoltcp",
        listed: (OTHERS, "Points"),
        places: &[
            rounds!("smoltcp"),
            bursts!("smoltcp", rx 32, tx 64 [1, 3]),
            third_party::SMOLTCP_BORDER,
            third_party::SMOLTCP_PLACES,
            job!("smoltcp", JOB),
        ],
    },
    Stack {
        name: "lwip",
        listed: (OTHERS, "Points"),
        places: &[
            rounds!("lwip"),
            bursts!("lwip", rx 32, tx 64 [1, 3]),
            third_party::LWIP_BORDER,
            third_party::LWIP_PLACES,
            job!("lwip", JOB),
        ],
    },
];
