//! Who has which Ethernet address (RFC 826), how long that is believed (RFC 1122 2.3.2.1), and who waits to know.
//!
//! In: what ARP packets say; out: addresses, and whether it is time to ask. It refuses to send.

use crate::event::ConnId;
use crate::time::Time;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

/// Neighbours that are remembered.
const MOST: usize = 4096;
/// What was heard longer ago is used, but asked for again.
const FRESH: Duration = Duration::from_secs(60);
/// What was heard longer ago is forgotten.
const OLD: Duration = Duration::from_secs(20 * 60);
/// A neighbour is asked for at most so often (RFC 1122 2.3.2.1).
const BETWEEN_ASKS: Duration = Duration::from_secs(1);
/// Asks after which nobody is taken to be there.
const MOST_ASKS: u8 = 3;

#[derive(Debug, Default)]
struct Neighbour {
    mac: Option<[u8; 6]>,
    heard: Time,
    asked: Option<Time>,
    asks: u8,
    waiting: BTreeSet<ConnId>,
}

impl Neighbour {
    fn is_over(&self, now: Time) -> bool {
        let asked = self.asked.is_some_and(|at| now.since(at) < OLD);
        now.since(self.heard) >= OLD && !asked
    }
}

/// The neighbours of an engine.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    known: HashMap<u32, Neighbour>,
    swept: Time,
}

impl Neighbours {
    /// The address of a neighbour, if it is known and not too old.
    pub fn mac(&self, ip: u32, now: Time) -> Option<[u8; 6]> {
        let neighbour = self.known.get(&ip)?;
        neighbour.mac.filter(|_| now.since(neighbour.heard) < OLD)
    }

    /// Someone wants to send to `ip`, or doubts its address: `waits` hears of the next answer. Whether to ask now.
    pub fn wanted(&mut self, ip: u32, waits: Option<ConnId>, now: Time) -> bool {
        if !self.has_room(ip, now) {
            // Asked for all the same, but nobody is told: the next try finds the way.
            return true;
        }
        let neighbour = self.known.entry(ip).or_default();
        neighbour.waiting.extend(waits);
        let fresh = neighbour.mac.is_some() && now.since(neighbour.heard) < FRESH;
        if fresh && waits.is_none() {
            return false;
        }
        let due = neighbour
            .asked
            .is_none_or(|at| now.since(at) >= BETWEEN_ASKS);
        if due {
            neighbour.asked = Some(now);
            neighbour.asks = neighbour.asks.saturating_add(1);
        }
        due
    }

    /// Whether `ip` was asked for again and again and never answered.
    pub fn is_absent(&self, ip: u32) -> bool {
        let gone = |n: &Neighbour| n.mac.is_none() && n.asks >= MOST_ASKS;
        self.known.get(&ip).is_some_and(gone)
    }

    /// `ip` says that it is at `mac`. Who is known is updated; who talks to us becomes known. Those who waited are returned.
    pub fn heard(&mut self, ip: u32, mac: [u8; 6], to_us: bool, now: Time) -> BTreeSet<ConnId> {
        let remembered = self.known.contains_key(&ip) || (to_us && self.has_room(ip, now));
        if !remembered {
            return BTreeSet::new();
        }
        let neighbour = self.known.entry(ip).or_default();
        neighbour.mac = Some(mac);
        neighbour.heard = now;
        neighbour.asks = 0;
        std::mem::take(&mut neighbour.waiting)
    }

    /// A connection that waited for `ip` is gone.
    pub fn left(&mut self, ip: u32, conn: ConnId) {
        if let Some(neighbour) = self.known.get_mut(&ip) {
            neighbour.waiting.remove(&conn);
        }
    }

    /// Room for one more; looks for old ones at most once a second.
    fn has_room(&mut self, ip: u32, now: Time) -> bool {
        if self.known.len() < MOST || self.known.contains_key(&ip) {
            return true;
        }
        if now.since(self.swept) >= BETWEEN_ASKS {
            self.swept = now;
            self.known.retain(|_, n| !n.is_over(now));
        }
        self.known.len() < MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(index: u32) -> ConnId {
        ConnId::from_raw(u64::from(index))
    }

    /// Asked once a second; whoever waited hears; what is old is asked for again and at last forgotten.
    #[test]
    fn asks_hears_and_ages() {
        let mut all = Neighbours::default();
        let at = Time::from_millis;
        assert!(all.wanted(9, Some(conn(1)), at(5000)));
        assert!(!all.wanted(9, Some(conn(2)), at(5900)));
        assert!(all.wanted(9, Some(conn(2)), at(6000)));
        assert!(!all.is_absent(9));
        assert!(all.wanted(9, Some(conn(2)), at(7000)) && all.is_absent(9));
        all.wanted(9, Some(conn(3)), at(7100));
        all.left(9, conn(3));
        let heard = all.heard(9, [7; 6], true, at(7500));
        assert_eq!(heard, [conn(1), conn(2)].into());
        assert_eq!(all.mac(9, at(7500)), Some([7; 6]));
        assert!(!all.is_absent(9) && !all.wanted(9, None, at(8500)));
        assert!(all.wanted(9, None, at(7500 + 60_000)));
        assert_eq!(all.mac(9, at(7500 + 60_000)), Some([7; 6]));
        assert_eq!(all.mac(9, at(7500 + 20 * 60_000)), None);
    }

    /// Strangers that talk to others are not remembered, and not more than there is room for; old ones make room.
    #[test]
    fn is_bounded() {
        let mut all = Neighbours::default();
        let (early, late) = (Time::from_millis(5000), Time::from_millis(5_000_000));
        all.heard(1, [1; 6], false, early);
        assert_eq!(all.mac(1, early), None);
        for ip in 0..5000 {
            all.heard(ip, [1; 6], true, early);
        }
        assert_eq!(all.known.len(), MOST);
        assert_eq!(all.mac(4999, early), None);
        all.heard(4999, [2; 6], true, late);
        assert_eq!(all.mac(4999, late), Some([2; 6]));
    }
}
