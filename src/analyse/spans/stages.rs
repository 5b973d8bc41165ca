//! The parts of a request's way: their names, their order, and which of them is work and which is waiting.
//!
//! Nothing comes in; out: the tables that histograms, contributions and outputs are indexed by. It refuses to know how
//! the ends of a stage are found.

/// Whether time in a stage is spent or waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something is done for the request.
    Work,
    /// It waits for something.
    Wait,
}

/// A part of a request's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Its name in outputs.
    pub name: &'static str,
    /// Work or waiting.
    pub kind: Kind,
    /// From where to where.
    pub what: &'static str,
}

/// All stages in the order of the way; the last is the whole of it.
pub const STAGES: &[Stage] = &[
    Stage {
        name: "receive",
        kind: Kind::Work,
        what: "the receive burst to TCP: driver, Ethernet, IP, frames of the same burst before it",
    },
    Stage {
        name: "wait_handoff",
        kind: Kind::Wait,
        what: "given by the thread that received it to TCP on another thread",
    },
    Stage {
        name: "tcp_in",
        kind: Kind::Work,
        what: "TCP to made ready for the application",
    },
    Stage {
        name: "wait_wakeup",
        kind: Kind::Wait,
        what: "made ready to the application's thread running again",
    },
    Stage {
        name: "wait_app",
        kind: Kind::Wait,
        what: "made ready (or awake) to the application beginning: queues and requests before it",
    },
    Stage {
        name: "app",
        kind: Kind::Work,
        what: "the application's beginning to its end, its calls into the stack included",
    },
    Stage {
        name: "wait_send",
        kind: Kind::Wait,
        what: "the application's end to the reply's last segment: send buffer, windows, the stack's turn",
    },
    Stage {
        name: "wait_drain",
        kind: Kind::Wait,
        what: "the last segment to the beginning of the burst that gives it to the device",
    },
    Stage {
        name: "transmit",
        kind: Kind::Work,
        what: "the burst that gives it to the device: the driver, a system call where there is one",
    },
    Stage {
        name: "total",
        kind: Kind::Work,
        what: "all of the above",
    },
];

/// What lies between requests, beside their stages.
pub const OUTSIDE: Stage = Stage {
    name: "outside",
    kind: Kind::Wait,
    what: "the end of a request to the beginning of its flow's next one: the client, the link, whatever no event tells",
};

/// Places in [`STAGES`].
pub const TCP_IN: usize = 2;
/// Likewise.
pub const WAIT_APP: usize = 4;
/// Likewise.
pub const APP: usize = 5;
/// Likewise.
pub const WAIT_SEND: usize = 6;
/// Likewise.
pub const WAIT_DRAIN: usize = 7;

/// Stages other than the whole way.
pub const PARTS: usize = STAGES.len() - 1;

/// Whom a request was behind while it waited: these are parts of stages.
pub const BEHIND: &[Stage] = &[
    Stage {
        name: "burst",
        kind: Kind::Wait,
        what: "frames of the same burst were handled before it, the receive call included (part of tcp_in)",
    },
    Stage {
        name: "flow",
        kind: Kind::Wait,
        what: "the application handled earlier requests of its flow: pipelining (part of wait_app)",
    },
    Stage {
        name: "thread",
        kind: Kind::Wait,
        what: "the application's thread handled requests of other flows: its batch (part of wait_app)",
    },
];
