//! A stack thread and an application thread.

use super::{DATA, Place, is_full, place, send_call};

/// Its places.
pub const PLACES: &[Place] = &[
    place(
        "mtcp-stack",
        "sleep",
        ("examples/stacks/mtcp/src/stack.rs", "select"),
        "poll(2) for 1 ms",
        |e| e.args[0] == 1000,
    ),
    place(
        "mtcp-stack",
        "wake",
        ("examples/stacks/mtcp/src/stack.rs", "select"),
        "1 a frame, 2 the time was over",
        |e| [1, 2].contains(&e.args[0]),
    ),
    place("mtcp-stack", "deliver", (DATA, "take_payload"), "", |e| {
        e.args[1] >= e.args[0] && e.args[2] > 0
    }),
    place(
        "mtcp-stack",
        "cond_signal",
        ("examples/stacks/mtcp/src/epoll.rs", "flush_epoll_events"),
        "its own: events that wait",
        |e| e.args[0] > 0,
    ),
    place(
        "mtcp-stack",
        "handoff",
        ("examples/stacks/mtcp/src/jobs.rs", "pop"),
        "1 send, 2 ack, 3 close, 4 reset, 5 destroy",
        |e| (1..=5).contains(&e.args[0]) && e.args[2] > 0,
    ),
    place(
        "mtcp-stack",
        "timer",
        ("examples/stacks/mtcp/src/stack.rs", "check_rtm_timeout"),
        "the tick that found work",
        |e| e.args[0] == 6,
    ),
    place(
        "mtcp-stack",
        "full",
        ("examples/stacks/mtcp/src/stack.rs", "receive"),
        "streams at their limit: refused",
        |e| is_full(e, 4, 3),
    ),
    place(
        "mtcp-stack",
        "full",
        ("examples/stacks/mtcp/src/calls.rs", "accepted"),
        "accepted streams that wait: refused",
        |e| e.args[0] >= 1024 && e.args[1] == 3,
    )
    .in_distress(),
    place(
        "mtcp-stack",
        "full",
        ("examples/stacks/mtcp/src/epoll.rs", "flush_epoll_events"),
        "the event queue: waits for the next round",
        |e| is_full(e, 30_000, 2),
    )
    .in_distress(),
    place(
        "mtcp-stack",
        "lock_wait",
        ("examples/stacks/mtcp/src/spin.rs", "spin"),
        "a stream's buffers",
        |e| e.args[0] > 0,
    )
    .in_distress(),
    place(
        "mtcp-app",
        "sleep",
        ("examples/stacks/mtcp/src/epoll.rs", "sleep"),
        "the condition variable",
        |e| e.args[0] == 0,
    ),
    place(
        "mtcp-app",
        "wake",
        ("examples/stacks/mtcp/src/epoll.rs", "sleep"),
        "by its stack thread",
        |e| e.args[0] == 3,
    ),
    place(
        "mtcp-app",
        "handoff",
        ("examples/stacks/mtcp/src/epoll.rs", "wait"),
        "6 events: how long it was runnable",
        |e| e.args[0] == 6 && e.args[2] > 0,
    ),
    place(
        "mtcp-app",
        "handoff",
        ("examples/stacks/mtcp/src/context.rs", "mtcp_accept"),
        "7 accepted streams",
        |e| e.args[0] == 7,
    ),
    place(
        "mtcp-app",
        "send_call",
        ("examples/stacks/mtcp/src/context.rs", "mtcp_write"),
        "pieces of 8 KiB; whether the stack slept",
        |e| send_call(e) && e.args[0] <= 8192,
    ),
    place(
        "mtcp-app",
        "full",
        ("examples/stacks/mtcp/src/context.rs", "mtcp_write"),
        "the send buffer: refused",
        |e| is_full(e, 8192, 3),
    ),
    place(
        "mtcp-app",
        "full",
        ("examples/stacks/mtcp/src/jobs.rs", "push"),
        "a job queue: spin",
        |e| is_full(e, 4, 1),
    )
    .in_distress(),
    place(
        "mtcp-app",
        "lock_wait",
        ("examples/stacks/mtcp/src/spin.rs", "spin"),
        "a stream's buffers",
        |e| e.args[0] > 0,
    )
    .in_distress(),
];
