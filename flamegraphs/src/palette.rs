//! Colour means phase: one colour per kind of work, the same in every picture.
//!
//! In: the name of a phase; out: its colour. Families keep apart for readers who do not see red and green alike: greys
//! do nothing useful, blues move frames, greens speak TCP, yellows are the application and its interface, reds are the
//! price of doing it (copies, memory, locks), purples are the kernel. Within a family lightness tells members apart.

/// A colour as red, green and blue.
pub type Rgb = (u8, u8, u8);

/// The colour of a phase that the table does not have.
pub const UNKNOWN_COLOUR: Rgb = (232, 232, 232);

const COLOURS: &[(&str, Rgb)] = &[
    ("idle", (222, 222, 222)),
    ("poll", (189, 189, 189)),
    ("poll.side", (158, 158, 158)),
    ("driver_rx", (86, 180, 233)),
    ("driver_tx", (58, 134, 196)),
    ("eth_ip", (153, 213, 201)),
    ("tcp_rx", (0, 158, 115)),
    ("tcp_tx", (61, 184, 147)),
    ("ack_only", (0, 121, 88)),
    ("tcp_timer", (118, 199, 171)),
    ("csum", (188, 128, 62)),
    ("crypto", (128, 106, 44)),
    ("api", (240, 228, 66)),
    ("app", (230, 159, 0)),
    ("copy", (213, 94, 0)),
    ("alloc", (232, 138, 74)),
    ("sync", (171, 66, 20)),
    ("irq", (163, 115, 176)),
    ("kernel_syscall", (204, 154, 196)),
    ("sched", (204, 121, 167)),
    ("recorder", (120, 198, 216)),
    ("other", (206, 196, 181)),
    ("unknown", UNKNOWN_COLOUR),
];

/// The colour of a phase; [`UNKNOWN_COLOUR`] for a name that is none.
pub fn colour_of(phase: &str) -> Rgb {
    COLOURS
        .iter()
        .find(|(name, _)| *name == phase)
        .map_or(UNKNOWN_COLOUR, |&(_, colour)| colour)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No two phases share a colour, and black text can be read on each (contrast of at least 3 to 1).
    #[test]
    fn distinct_and_readable() {
        for (at, (name, colour)) in COLOURS.iter().enumerate() {
            for (other, again) in &COLOURS[at + 1..] {
                assert_ne!(colour, again, "{name} and {other}");
            }
            let linear = |c: u8| (f64::from(c) / 255.0).powf(2.2);
            let (r, g, b) = *colour;
            let luminance = 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
            assert!((luminance + 0.05) / 0.05 >= 3.0, "{name}: {luminance}");
        }
        assert_eq!(colour_of("no such phase"), UNKNOWN_COLOUR);
    }
}
