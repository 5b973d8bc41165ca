//! Phases: whose cycles. The one list of names that packs, tables and pictures share.
//!
//! In: nothing; out: names and what they mean. Which function belongs to which phase is data: see [`super::packs`].

/// The phase of a stack in which no rule spoke.
pub const UNKNOWN: &str = "unknown";
/// Polling for nothing, and the turning of a loop.
pub const POLL: &str = "poll";
/// Polling what the service never uses.
pub const POLL_SIDE: &str = "poll.side";
/// Processes that have nothing to do with what is recorded.
pub const OTHER: &str = "other";

/// Every phase that a rule may name, with its meaning, in the order of pictures.
pub const PHASES: &[(&str, &str)] = &[
    ("idle", "the CPU asleep or in the idle task"),
    (
        POLL,
        "the loop itself: empty NICs and queues, reading its clock",
    ),
    (
        POLL_SIDE,
        "polling something that the service never uses (KNI, NVMe)",
    ),
    (
        "driver_rx",
        "receiving from the device, or what stands for one",
    ),
    ("driver_tx", "sending to the device"),
    (
        "eth_ip",
        "Ethernet, ARP, IP: parsing, routing, writing headers",
    ),
    ("tcp_rx", "TCP: segments that came in"),
    (
        "tcp_tx",
        "TCP: segments that go out, segmentation in software",
    ),
    ("ack_only", "sending segments that carry nothing but an ACK"),
    (
        "tcp_timer",
        "TCP timers and control loops of congestion control",
    ),
    ("csum", "checksums in software"),
    (
        "crypto",
        "ciphers and digests, and drivers of devices for them",
    ),
    (
        "api",
        "the interface between stack and application: sockets, events, queues",
    ),
    ("app", "the application itself"),
    ("copy", "copying data"),
    ("alloc", "getting, clearing and giving back memory"),
    (
        "sync",
        "locks, wake-ups, switching threads on behalf of the stack",
    ),
    ("irq", "interrupts and what they drag in"),
    ("kernel_syscall", "entering and leaving the kernel"),
    ("sched", "a scheduler of coroutines in user space"),
    ("recorder", "taking samples and writing events"),
    (OTHER, "processes that are not part of the service"),
];

/// The phase with a name, as the constant that all of the program compares.
pub fn named(name: &str) -> Option<&'static str> {
    PHASES.iter().map(|p| p.0).find(|p| *p == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every phase has a colour of its own in pictures.
    #[test]
    fn phases_have_colours() {
        for (phase, _) in PHASES {
            assert_ne!(
                flamegraphs::colour_of(phase),
                flamegraphs::UNKNOWN_COLOUR,
                "{phase}"
            );
        }
        assert_eq!(named("copy"), Some("copy"));
        assert_eq!(named("copying"), None);
    }
}
