//! In which order threads are shown.
//!
//! In: a key; out: rows in its order, those of which it is not known last, equal ones by number, so that rows keep their
//! places while nothing changes. It refuses to know which keys are pressed.

use super::view::ThreadView;
use std::cmp::Ordering;

/// What threads are sorted by, the most of it first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Key {
    /// Time on a CPU with work.
    #[default]
    Useful,
    /// Time on a CPU without.
    Empty,
    /// Time off CPU.
    OffCpu,
    /// Frames received and sent.
    Packets,
    /// Frames in a receive.
    Burst,
    /// Cycles for each frame.
    Cycles,
    /// Things dropped and queues found full.
    Drops,
    /// Depth of queues.
    Depth,
    /// Name, from A on.
    Name,
}

impl Key {
    /// All of them with their names for options and titles.
    pub const ALL: [(Key, &'static str); 9] = [
        (Key::Useful, "useful"),
        (Key::Empty, "empty"),
        (Key::OffCpu, "off-cpu"),
        (Key::Packets, "packets"),
        (Key::Burst, "burst"),
        (Key::Cycles, "cycles"),
        (Key::Drops, "drops"),
        (Key::Depth, "depth"),
        (Key::Name, "name"),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        let named = Key::ALL.iter().find(|k| k.0 == self);
        named.map_or("", |k| k.1)
    }

    /// The one so many places further on in the list, which goes round.
    #[must_use]
    pub fn next(self, places: isize) -> Key {
        let all = Key::ALL.len() as isize;
        let at = Key::ALL.iter().position(|k| k.0 == self).unwrap_or(0) as isize;
        Key::ALL[(at + places).rem_euclid(all) as usize].0
    }

    fn value(self, thread: &ThreadView) -> Option<f64> {
        let (times, rates) = (&thread.times, &thread.rates);
        match self {
            // Of a thread without probes time on a CPU is all that is known.
            Key::Useful => times.useful.or(times.on_cpu),
            Key::Empty => times.empty_poll,
            Key::OffCpu => times.off_cpu,
            Key::Packets => Some(rates.rx_packets? + rates.tx_packets?),
            Key::Burst => rates.rx_burst,
            Key::Cycles => rates.cycles_per_packet,
            Key::Drops => Some((thread.drops + thread.fulls) as f64),
            Key::Depth => Some(thread.depth?.mean),
            Key::Name => None,
        }
    }
}

/// Puts threads in order.
pub fn sort(threads: &mut [ThreadView], key: Key) {
    threads.sort_by(|a, b| {
        let by_value = match (key.value(a), key.value(b)) {
            (Some(a), Some(b)) => b.total_cmp(&a),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        };
        let by_name = match key {
            Key::Name => a.name.cmp(&b.name),
            _ => Ordering::Equal,
        };
        by_value
            .then(by_name)
            .then((a.pid, a.tid).cmp(&(b.pid, b.tid)))
    });
}

#[cfg(test)]
mod tests {
    use super::super::view::Times;
    use super::*;

    fn thread(tid: u32, name: &str, useful: Option<f64>) -> ThreadView {
        ThreadView {
            tid,
            name: name.to_owned(),
            times: Times {
                useful,
                ..Times::default()
            },
            ..ThreadView::default()
        }
    }

    /// The most first, the unknown last, equal ones by number; names from A on; keys go round.
    #[test]
    fn order() {
        let mut threads = vec![
            thread(1, "b", None),
            thread(4, "a", Some(0.2)),
            thread(2, "c", Some(0.2)),
            thread(3, "d", Some(0.9)),
        ];
        let tids = |threads: &[ThreadView]| threads.iter().map(|t| t.tid).collect::<Vec<_>>();
        sort(&mut threads, Key::Useful);
        assert_eq!(tids(&threads), [3, 2, 4, 1]);
        sort(&mut threads, Key::Name);
        assert_eq!(tids(&threads), [4, 1, 2, 3]);
        assert_eq!(Key::Useful.next(-1), Key::Name);
        assert_eq!(Key::Name.next(1), Key::Useful);
    }
}
