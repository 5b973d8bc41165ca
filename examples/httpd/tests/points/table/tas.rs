//! Fast path, slow path, application.

use super::{Place, ROUNDS, is_full, place, segment_in, segment_out, send_call, whole_round};

/// Its places.
pub const PLACES: &[Place] = &[
    place(
        "tas-fp",
        "tcp_in",
        (
            "examples/stacks/tas/src/fast/frames.rs",
            "fast_flows_packet",
        ),
        "established flows alone",
        segment_in,
    ),
    place(
        "tas-fp",
        "tcp_out",
        ("examples/stacks/tas/src/fast/port.rs", "told"),
        "no congestion window; limit none, app, peer or pace",
        |e| segment_out(e) && e.args[3] == 0 && [0, 1, 3, 5].contains(&e.args[5]),
    ),
    place(
        "tas-fp",
        "slow_path",
        (
            "examples/stacks/tas/src/fast/frames.rs",
            "fast_kernel_packet",
        ),
        "1 SYN, 2 flags, 3 no timestamps, 4 no flow, parked or no TCP",
        |e| (1..=4).contains(&e.args[0]),
    ),
    place(
        "tas-fp",
        "handoff",
        ("examples/stacks/tas/src/fast/context.rs", "write"),
        "ARX as it is written: age since `rx_burst`",
        |e| e.args[0] & 0xff00 == 0x100 && e.args[1] >= 1,
    ),
    place(
        "tas-fp",
        "handoff",
        ("examples/stacks/tas/src/fast/context.rs", "bump_taken"),
        "ATX as it is read: age since written",
        |e| e.args[0] & 0xff00 == 0x200 && e.args[2] > 0,
    ),
    place(
        "tas-fp",
        "handoff",
        ("examples/stacks/tas/src/fast/frames.rs", "poll_forwarded"),
        "the forwarding ring",
        |e| e.args[0] & 0xff00 == 0x300,
    ),
    place(
        "tas-fp",
        "handoff",
        ("examples/stacks/tas/src/fast/orders.rs", "fast_kernel_poll"),
        "from the slow path",
        |e| e.args[0] & 0xff00 == 0x500,
    ),
    place(
        "tas-fp",
        "tas_qman_fire",
        ("examples/stacks/tas/src/fast/orders.rs", "poll_qman"),
        "its own: ns late, kB/s, bytes unsent",
        |e| e.flow.raw() != 0,
    ),
    place(
        "tas-fp",
        "drop",
        ("examples/stacks/tas/src/fast/frames.rs", "settle"),
        "layer eth not ours, ip or tcp bad",
        |e| [0x0200_0001, 0x0300_0001, 0x0400_0001].contains(&e.args[0]),
    ),
    place(
        "tas-fp",
        "sleep",
        ("examples/stacks/tas/src/fast/sleep.rs", "wait"),
        "",
        |_| true,
    ),
    place(
        "tas-fp",
        "wake",
        ("examples/stacks/tas/src/fast/sleep.rs", "wait"),
        "1 the device, 2 the time was over, 3 a doorbell",
        |e| (1..=3).contains(&e.args[0]),
    ),
    place(
        "tas-fp",
        "lock_wait",
        ("examples/stacks/tas/src/table.rs", "util_spin_lock"),
        "a flow's lock",
        |e| e.args[0] > 0,
    )
    .in_distress(),
    place(
        "tas-fp",
        "full",
        (
            "examples/stacks/tas/src/fast/frames.rs",
            "fast_kernel_packet",
        ),
        "the queue to the slow path: the frame is lost",
        |e| is_full(e, 16_384, 0),
    )
    .in_distress(),
    place(
        "tas-fp",
        "full",
        ("examples/stacks/tas/src/fast/frames.rs", "forward"),
        "a forwarding ring: the frame is lost",
        |e| is_full(e, 32_768, 0),
    )
    .in_distress(),
    place(
        "tas-fp",
        "full",
        ("examples/stacks/tas/src/fast/context.rs", "write"),
        "ARX: news are added up",
        |e| is_full(e, 65_536, 2),
    )
    .in_distress(),
    place(
        "tas-sp",
        "idle_begin",
        (ROUNDS, "end_of_nothing"),
        "",
        |e| e.args[0] == 0,
    ),
    place(
        "tas-sp",
        "idle_end",
        (ROUNDS, "tell_work"),
        "the empty fraction",
        |e| e.wide() < 1 << 40,
    ),
    place("tas-sp", "loop", (ROUNDS, "tell_sample"), "", whole_round).in_distress(),
    place(
        "tas-sp",
        "handoff",
        ("examples/stacks/tas/src/slow.rs", "packet"),
        "from the fast path",
        |e| e.args[0] & 0xff00 == 0x400 && e.args[2] > 0,
    ),
    place(
        "tas-sp",
        "tas_cc_round",
        ("examples/stacks/tas/src/slow/congestion.rs", "cc_poll"),
        "its own: connections whose turn it was, ns, all connections",
        |e| e.args[0] >= 1 && e.args[1] > 0 && e.args[2] >= 1,
    ),
    place(
        "tas-sp",
        "timer",
        (
            "examples/stacks/tas/src/slow/congestion.rs",
            "issue_retransmits",
        ),
        "1 sends again, 3 asks for the window",
        |e| [1, 3].contains(&e.args[0]) && e.flow.raw() != 0,
    ),
    place(
        "tas-sp",
        "sleep",
        ("examples/stacks/tas/src/slow.rs", "wait"),
        "",
        |_| true,
    ),
    place(
        "tas-sp",
        "wake",
        ("examples/stacks/tas/src/slow.rs", "wait"),
        "2 the time was over, 3 a doorbell",
        |e| [2, 3].contains(&e.args[0]),
    ),
    place(
        "tas-sp",
        "lock_wait",
        ("examples/stacks/tas/src/table.rs", "util_spin_lock"),
        "a flow's lock",
        |e| e.args[0] > 0,
    )
    .in_distress(),
    place(
        "tas-sp",
        "drop",
        ("examples/stacks/tas/src/slow.rs", "refuse"),
        "layer tcp: nobody listens, or no room",
        |e| e.args[0] == 0x0400_0002,
    )
    .in_distress(),
    place(
        "tas-sp",
        "drop",
        ("examples/stacks/tas/src/slow/handshake.rs", "accept"),
        "layer socket: the backlog is full",
        |e| e.args[0] == 0x0500_0001,
    )
    .in_distress(),
    place(
        "tas-sp",
        "drop",
        ("examples/stacks/tas/src/slow/teardown.rs", "send_reset"),
        "layer socket: a connection that is reset",
        |e| e.args[0] == 0x0500_0002,
    )
    .in_distress(),
    place(
        "tas-sp",
        "full",
        ("examples/stacks/tas/src/slow.rs", "flush"),
        "the queue to a core: the frame is lost",
        |e| is_full(e, 16_384, 0),
    )
    .in_distress(),
    place(
        "tas-app",
        "handoff",
        (
            "examples/stacks/tas/src/client/context/poll.rs",
            "event_arx_connupdate",
        ),
        "ARX as it is read: age since written",
        |e| e.args[0] & 0xff00 == 0x100 && e.args[2] > 0,
    ),
    place(
        "tas-app",
        "deliver",
        (
            "examples/stacks/tas/src/client/context/poll.rs",
            "event_arx_connupdate",
        ),
        "bytes, depth left, age since `rx_burst`",
        |e| e.args[3] <= 2,
    ),
    place(
        "tas-app",
        "deliver",
        (
            "examples/stacks/tas/src/client/context/poll.rs",
            "kernel_poll",
        ),
        "a connection, and what came before it",
        |e| e.args[3] <= 2,
    ),
    place(
        "tas-app",
        "send_call",
        (
            "examples/stacks/tas/src/client/context/calls.rs",
            "tas_write",
        ),
        "room in the transmit ring",
        |e| send_call(e) && e.args[2] <= 8192,
    ),
    place(
        "tas-app",
        "tas_bump",
        (
            "examples/stacks/tas/src/client/context/poll.rs",
            "conns_bump",
        ),
        "its own: age of the oldest write, bytes read, bytes written (neither: its end)",
        |e| e.args[1] <= 8192 && e.args[2] <= 8192,
    ),
    place(
        "tas-app",
        "full",
        (
            "examples/stacks/tas/src/client/context/poll.rs",
            "conns_bump",
        ),
        "ATX: bumps wait",
        |e| e.args[1] == 2,
    )
    .in_distress(),
    place(
        "tas-app",
        "idle_begin",
        (ROUNDS, "end_of_nothing"),
        "",
        |e| e.args[0] == 0,
    ),
    place("tas-app", "idle_end", (ROUNDS, "tell_work"), "", |e| {
        e.wide() < 1 << 40
    }),
    place("tas-app", "loop", (ROUNDS, "tell_sample"), "", whole_round).in_distress(),
    place(
        "tas-app",
        "sleep",
        ("examples/stacks/tas/src/client/context/poll.rs", "wait"),
        "",
        |e| e.args[0] > 0,
    ),
    place(
        "tas-app",
        "wake",
        ("examples/stacks/tas/src/client/context/poll.rs", "wait"),
        "2 the time was over, 3 a doorbell",
        |e| [2, 3].contains(&e.args[0]),
    ),
];
