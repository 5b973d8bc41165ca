//! The kernel's own stack as the server sees it: its waits, its calls. What happens in the kernel is the recorder's business.

use super::{Place, place};

/// Its places.
pub const PLACES: &[Place] = &[
    place(
        "linux",
        "sleep",
        ("examples/httpd/src/linux/worker.rs", "wait"),
        "before epoll_wait",
        |e| [0, 100_000].contains(&e.args[0]),
    ),
    place(
        "linux",
        "wake",
        ("examples/httpd/src/linux/worker.rs", "wait"),
        "after it: 1 events, 2 none in time, 4 a signal",
        |e| [1, 2, 4].contains(&e.args[0]),
    ),
    place(
        "linux",
        "deliver",
        ("examples/httpd/src/linux/connection.rs", "readable"),
        "what read(2) gave; events of the batch that are left",
        |e| e.args[0] > 0 && e.args[1] < 2048,
    ),
    place(
        "linux",
        "app_start",
        ("examples/httpd/src/linux/connection.rs", "readable"),
        "",
        |e| e.args[0] > 0,
    ),
    place(
        "linux",
        "app_end",
        ("examples/httpd/src/linux/connection.rs", "readable"),
        "those that wait for room too",
        |e| e.args[0] <= 200_000,
    ),
    place(
        "linux",
        "send_call",
        ("examples/httpd/src/linux/connection.rs", "send"),
        "free is not known",
        |e| e.args[1] <= e.args[0] && e.args[2] == 0,
    ),
    place(
        "linux",
        "full",
        ("examples/httpd/src/linux/worker.rs", "accept"),
        "descriptors have run out: sleep",
        |e| e.args[1] == 2,
    )
    .in_distress(),
];
