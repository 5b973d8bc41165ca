//! What the peer has told of data beyond a hole, and what to send again because of it (RFC 2018, 6675).
//!
//! In: SACK blocks; out: holes and an estimate of what is in flight. It refuses to know windows and timers.

use crate::seq::Seq;

/// Duplicates that show a loss (RFC 5681).
pub(crate) const DUPLICATES: u32 = 3;

/// Ranges that arrived although something before them is missing: in order, apart from each other.
#[derive(Debug, Default)]
pub(crate) struct Scoreboard {
    ranges: Vec<(Seq, Seq)>,
}

/// More ranges than any sane receiver tells apart; those that do not fit are forgotten, which costs a retransmission.
const MOST_RANGES: usize = 128;

impl Scoreboard {
    /// Takes a block that lies within `una` and `max`; others are ignored. Whether it told something new.
    pub fn add(&mut self, (start, end): (Seq, Seq), una: Seq, max: Seq) -> bool {
        if !start.after(una) || end.after(max) || !start.before(end) {
            return false;
        }
        let before = self.sacked();
        // Once, on the first loss.
        self.ranges.reserve(MOST_RANGES + 1 - self.ranges.len());
        let (mut from, mut to) = (start, end);
        self.ranges.retain(|&(s, e)| {
            let apart = e.before(from) || s.after(to);
            if !apart {
                from = from.min(s);
                to = to.max(e);
            }
            apart
        });
        let place = self.ranges.iter().position(|r| r.0.after(from));
        self.ranges
            .insert(place.unwrap_or(self.ranges.len()), (from, to));
        self.ranges.truncate(MOST_RANGES);
        self.sacked() > before
    }

    /// Everything before `una` is acknowledged.
    pub fn acknowledged(&mut self, una: Seq) {
        self.ranges.retain_mut(|r| {
            r.0 = r.0.max(una);
            r.0.before(r.1)
        });
    }

    /// Nothing is known any more.
    pub fn clear(&mut self) {
        self.ranges.clear();
    }

    /// Bytes that arrived.
    pub fn sacked(&self) -> u32 {
        self.ranges.iter().map(|r| r.1.since(r.0)).sum()
    }

    /// The first hole at or after `from` that is taken for lost: at least `beyond` bytes arrived after it began.
    pub fn hole(&self, from: Seq, beyond: u32) -> Option<(Seq, Seq)> {
        let mut start = from;
        let mut after = self.sacked();
        for &(s, e) in &self.ranges {
            if start.before(s) {
                return (after >= beyond).then_some((start, s));
            }
            after -= e.since(s);
            start = start.max(e);
        }
        None
    }

    /// Bytes between `una` and `next` that may still be on their way: not told as arrived, and not lost unless they have
    /// been sent again (those before `again`).
    pub fn in_flight(&self, una: Seq, next: Seq, again: Seq, beyond: u32) -> u32 {
        let mut total = 0;
        let mut start = una;
        let mut after = self.sacked();
        for &(s, e) in &self.ranges {
            total += if after >= beyond {
                again.min(s).since(start)
            } else {
                s.since(start)
            };
            after -= e.since(s);
            start = start.max(e);
        }
        total + next.since(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Holes are found in order once enough lies behind them, and what is in flight is counted once.
    #[test]
    fn holes_and_flight() {
        let mut board = Scoreboard::default();
        let (una, max) = (Seq(100), Seq(1000));
        assert!(board.add((Seq(200), Seq(300)), una, max));
        assert!(!board.add((Seq(200), Seq(300)), una, max));
        assert!(!board.add((Seq(900), Seq(1100)), una, max));
        assert!(board.add((Seq(500), Seq(700)), una, max));
        assert!(board.add((Seq(300), Seq(350)), una, max));
        assert_eq!(board.sacked(), 350);
        assert_eq!(board.hole(una, 300), Some((Seq(100), Seq(200))));
        assert_eq!(board.hole(Seq(200), 300), None);
        assert_eq!(board.hole(Seq(200), 200), Some((Seq(350), Seq(500))));
        assert_eq!(board.in_flight(una, max, una, 200), 300);
        assert_eq!(board.in_flight(una, max, Seq(400), 200), 450);
        board.acknowledged(Seq(520));
        assert_eq!(board.sacked(), 180);
    }
}
