//! Stacks that nobody here wrote: what is to be seen at their borders.

use super::{Place, is_full, place, segment_in, segment_out};

const BORDER: &str = "examples/stacks/border/src/port.rs";
const PORT: &str = "examples/stacks/port/src/lib.rs";
const SMOLTCP: &str = "examples/stacks/smoltcp/src/stack.rs";
const SMOLTCP_CONNS: &str = "examples/stacks/smoltcp/src/conns.rs";
const LWIP: &str = "examples/stacks/lwip/src/stack.rs";
const SHIM: &str = "examples/stacks/lwip/src/shim.c";
const DEMIKERNEL: &str = "examples/stacks/demikernel/src/stack.rs";
const LAYER1: &str = "examples/stacks/demikernel/src/layer1.rs";

/// Segments as they cross the border.
macro_rules! border {
    ($thread:literal) => {
        &[
            place($thread, "tcp_in", (BORDER, "tell_in"), "", segment_in),
            place(
                $thread,
                "tcp_out",
                (BORDER, "tell_out"),
                "no congestion window",
                |e| segment_out(e) && e.args[3] == 0,
            ),
        ]
    };
}

pub const SMOLTCP_BORDER: &[Place] = border!("smoltcp");
pub const LWIP_BORDER: &[Place] = border!("lwip");
pub const DEMIKERNEL_BORDER: &[Place] = border!("demikernel");

/// smoltcp's places.
pub const SMOLTCP_PLACES: &[Place] = &[
    place(
        "smoltcp",
        "drop",
        (SMOLTCP, "receive"),
        "layer tcp: a checksum that is wrong",
        |e| e.args[0] == 4 << 24,
    ),
    place(
        "smoltcp",
        "drop",
        (SMOLTCP, "take"),
        "layer tcp: a RST that is not the peer's",
        |e| e.args[0] == 4 << 24 && e.flow.raw() != 0,
    )
    .in_distress(),
    place(
        "smoltcp",
        "deliver",
        (SMOLTCP, "take"),
        "bytes in the socket's buffer; sockets that wait for their turn",
        |e| e.args[0] > 0 && e.args[2] > 0 && e.flow.raw() != 0,
    ),
    place(
        "smoltcp",
        "send_call",
        (SMOLTCP_CONNS, "send_slice"),
        "`send_slice`",
        |e| e.args[1] <= e.args[0].min(e.args[2]),
    ),
    place(
        "smoltcp",
        "timer",
        (SMOLTCP, "fire"),
        "`poll_at` was due: kind by what it made leave",
        |e| (1..=6).contains(&e.args[0]) && e.flow.raw() != 0,
    ),
    place(
        "smoltcp",
        "full",
        (SMOLTCP, "open"),
        "all sockets are in use: refused",
        |e| is_full(e, 16_384, 3),
    )
    .in_distress(),
    place(
        "smoltcp",
        "full",
        (SMOLTCP_CONNS, "give_way"),
        "handshakes under way: the oldest is given up",
        |e| is_full(e, 4096, 4),
    )
    .in_distress(),
];

/// lwIP's places.
pub const LWIP_PLACES: &[Place] = &[
    place(
        "lwip",
        "drop",
        (LWIP, "receive"),
        "layer tcp, a checksum that is wrong; reason 1: what is kept from the stack",
        |e| e.args[0] == 4 << 24 || e.args[0] & 0xff_ffff == 1,
    ),
    place(
        "lwip",
        "deliver",
        (SHIM, "on_receive"),
        "the `recv` callback; connections that wait for their turn",
        |e| e.args[0] > 0 && e.args[2] > 0 && e.flow.raw() != 0,
    ),
    place(
        "lwip",
        "send_call",
        (SHIM, "shim_send"),
        "`tcp_write`",
        |e| e.args[1] <= e.args[0].min(e.args[2]),
    ),
    place(
        "lwip",
        "timer",
        (LWIP, "check_timeouts"),
        "lwIP's own clocks",
        |e| e.args[0] == 6,
    ),
    place(
        "lwip",
        "full",
        (LWIP, "make_room"),
        "handshakes under way: the oldest is given up",
        |e| is_full(e, 4096, 4),
    )
    .in_distress(),
];

/// Demikernel's places. Its bursts are its own: each round is one wait, each frame is sent at once.
pub const DEMIKERNEL_PLACES: &[Place] = &[
    place(
        "demikernel",
        "rx_burst",
        (PORT, "rx_burst"),
        "at most 4 frames, those with them that the border shows by itself",
        |e| {
            let (most, frames) = ((e.flow.raw() >> 12) & 0xfff, e.flow.raw() & 0xfff);
            (1..=4).contains(&most) && (1..=most).contains(&frames)
        },
    ),
    place(
        "demikernel",
        "tx_burst",
        (PORT, "tx_burst"),
        "each frame at once",
        |e| e.flow.raw() & 0xfff >= 1 && e.args[2] == 0,
    ),
    place(
        "demikernel",
        "full",
        (PORT, "tx_burst"),
        "the device, which takes no more",
        |e| e.args[1] == 1,
    )
    .in_distress(),
    place(
        "demikernel",
        "full",
        (LAYER1, "transmit"),
        "the device: the stack may try again",
        |e| is_full(e, 1, 0),
    )
    .in_distress(),
    place(
        "demikernel",
        "full",
        (LAYER1, "refuse"),
        "connections: the next one is reset",
        |e| is_full(e, 256, 3),
    )
    .in_distress(),
    place(
        "demikernel",
        "drop",
        (LAYER1, "show"),
        "layer tcp, a checksum that is wrong; reason 1: what is kept from the stack",
        |e| e.args[0] == 4 << 24 || e.args[0] & 0xff_ffff == 1,
    ),
    place(
        "demikernel",
        "drop",
        (LAYER1, "tick"),
        "layer tcp, reason 1: a handshake that is given up",
        |e| e.args[0] == 0x0400_0001,
    )
    .in_distress(),
    place(
        "demikernel",
        "wait_any",
        (DEMIKERNEL, "round"),
        "its own: tokens waited for, operations complete",
        |e| e.args[0] >= 1 && e.args[1] >= 1,
    ),
    place(
        "demikernel",
        "deliver",
        (DEMIKERNEL, "handle"),
        "a pop is complete; age 0: its frame came before the recording",
        |e| e.args[0] > 0 && e.args[1] == 1 && e.flow.raw() != 0,
    ),
    place(
        "demikernel",
        "send_call",
        ("examples/stacks/demikernel/src/conn.rs", "send"),
        "`push`: room in pushes, times the bytes of one",
        |e| e.args[1] <= e.args[0].min(e.args[2]),
    ),
    place(
        "demikernel",
        "stall",
        (DEMIKERNEL, "tick"),
        "nothing sent for 100 ms with pushes not acknowledged",
        |e| e.args[0] > 0 && e.flow.raw() != 0,
    )
    .in_distress(),
];
