//! One loop with everything.

use super::{DATA, Place, is_full, place, send_call};

/// Its places.
pub const PLACES: &[Place] = &[
    place(
        "fstack",
        "handoff",
        (
            "examples/stacks/fstack/src/main_loop.rs",
            "process_dispatch_ring",
        ),
        "the core it came to; depth left, age",
        |e| e.args[0] < 2 && e.args[2] > 0,
    ),
    place(
        "fstack",
        "full",
        ("examples/stacks/fstack/src/rings.rs", "dispatch"),
        "a dispatch ring: the frame is dropped",
        |e| is_full(e, 2048, 0),
    )
    .in_distress(),
    place(
        "fstack",
        "drop",
        ("examples/stacks/fstack/src/rings.rs", "dispatch"),
        "layer eth: the same frame",
        |e| e.args[0] == 0x0200_0001,
    )
    .in_distress(),
    place(
        "fstack",
        "deliver",
        (DATA, "take_payload"),
        "the socket's wake-up",
        |e| e.args[1] >= e.args[0] && e.args[2] > 0,
    ),
    place(
        "fstack",
        "send_call",
        ("examples/stacks/tcp/src/engine.rs", "write"),
        "`ff_write`",
        send_call,
    ),
    place(
        "fstack",
        "full",
        ("examples/stacks/tcp/src/engine.rs", "write"),
        "the send buffer, EAGAIN: refused",
        |e| e.args[0] >= 256 * 1024 && e.args[1] == 3,
    ),
    place(
        "fstack",
        "timer",
        ("examples/stacks/fstack/src/main_loop.rs", "tick"),
        "the clock of 10 ms and its lateness",
        |e| e.args[0] == 6,
    ),
];
