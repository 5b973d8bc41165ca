//! Numbers as they stand in the columns of a live view: short, and a dash where nothing is known.

use crate::analyse::live::view::ThreadView;

/// A count or rate in at most five characters.
pub fn short(number: Option<f64>) -> String {
    let Some(n) = number else {
        return "-".to_owned();
    };
    match n {
        n if n < 9.95 && n.fract() != 0.0 => format!("{n:.1}"),
        n if n < 9_999.5 => format!("{n:.0}"),
        n if n < 99_950.0 => format!("{:.1}k", n / 1e3),
        n if n < 999_500.0 => format!("{:.0}k", n / 1e3),
        n if n < 99_950_000.0 => format!("{:.1}M", n / 1e6),
        n if n < 999_500_000.0 => format!("{:.0}M", n / 1e6),
        n => format!("{:.1}G", n / 1e9),
    }
}

/// Things dropped and queues found full, where either was.
pub fn drops(thread: &ThreadView) -> String {
    match (thread.probes, thread.drops, thread.fulls) {
        (false, ..) => "-".to_owned(),
        (true, 0, 0) => "0".to_owned(),
        (true, drops, 0) => short(Some(drops as f64)),
        (true, drops, fulls) => format!(
            "{}+{}f",
            short(Some(drops as f64)),
            short(Some(fulls as f64))
        ),
    }
}

/// Mean depth of its queues and the greatest.
pub fn depth(thread: &ThreadView) -> String {
    thread.depth.map_or_else(
        || "-".to_owned(),
        |d| format!("{}/{}", short(Some(d.mean)), short(Some(f64::from(d.max)))),
    )
}

/// Heads of a thread's columns behind its name and its bar, and how wide they are.
pub const COLUMNS: [(&str, u16); 5] = [
    ("pkt/s", 6),
    ("burst", 6),
    ("cyc/pkt", 8),
    ("drops", 9),
    ("depth", 8),
];

/// What stands in them.
pub fn row(thread: &ThreadView) -> [String; 5] {
    let rates = &thread.rates;
    let packets = rates.rx_packets.zip(rates.tx_packets).map(|(r, t)| r + t);
    [
        short(packets),
        short(rates.rx_burst),
        short(rates.cycles_per_packet),
        drops(thread),
        depth(thread),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However large, it fits its column.
    #[test]
    fn short_numbers() {
        let texts = [
            0.0, 0.25, 9.96, 512.0, 9_999.0, 10_000.0, 99_999.0, 1e6, 123e6, 5e9,
        ];
        let texts = texts.map(|n| short(Some(n)));
        let expected = [
            "0", "0.2", "10", "512", "9999", "10.0k", "100k", "1.0M", "123M", "5.0G",
        ];
        assert_eq!(texts, expected);
        assert_eq!(short(None), "-");
    }
}
