//! Rounds of calls, packets and conditions.

use super::{Place, is_full, place, send_call};

/// Its places.
pub const PLACES: &[Place] = &[
    place(
        "ix",
        "side_poll",
        ("examples/stacks/ix/src/side.rs", "nvme_sched"),
        "one round in 1021",
        |e| e.args[0] > 0,
    ),
    place(
        "ix",
        "deliver",
        ("examples/stacks/ix/src/conditions.rs", "tell"),
        "the array's depth; 0 `recv`, 1 `sent`, 2 `knock`, `ended`, `dead`",
        |e| {
            (1..=8192).contains(&e.args[1]) && e.args[3] <= 2 && (e.args[0] > 0) == (e.args[3] != 2)
        },
    ),
    place(
        "ix",
        "app_start",
        ("examples/httpd/src/ix/job.rs", "go_on"),
        "",
        |e| e.args[0] > 0,
    ),
    place(
        "ix",
        "app_end",
        ("examples/httpd/src/ix/job.rs", "go_on"),
        "those that wait for room too",
        |e| e.args[0] <= 200_000,
    ),
    place(
        "ix",
        "send_call",
        ("examples/stacks/ix/src/net.rs", "ixev_send"),
        "what is left of the 64 KiB",
        |e| send_call(e) && e.args[2] <= 65_536,
    ),
    place(
        "ix",
        "full",
        ("examples/stacks/ix/src/net.rs", "ixev_send"),
        "the window of 64 KiB: refused",
        |e| is_full(e, 65_536, 3),
    ),
    place(
        "ix",
        "full",
        ("examples/stacks/ix/src/elastic.rs", "usys_collect"),
        "the array of conditions: the rest waits",
        |e| is_full(e, 8192, 3),
    )
    .in_distress(),
    place(
        "ix",
        "full",
        ("examples/stacks/ix/src/elastic.rs", "ix_handle_events"),
        "the array of calls: the rest waits",
        |e| is_full(e, 8192, 3),
    )
    .in_distress(),
    place(
        "ix",
        "full",
        ("examples/stacks/ix/src/elastic.rs", "abort"),
        "the core's payload memory: abort",
        |e| e.args[1] == 4,
    )
    .in_distress(),
];
