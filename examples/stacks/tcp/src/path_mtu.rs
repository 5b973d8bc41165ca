//! How large packets may be on the way to a peer (RFC 1191).
//!
//! In: what routers report; out: sizes for new connections, for ten minutes. It refuses to judge who reports: the caller
//! has found the packet that is quoted among those it has on its way (RFC 5927 7).

use crate::time::Time;
use std::collections::HashMap;
use std::time::Duration;

/// No path is believed to be narrower: with less, a lie could make every packet carry next to nothing (as Linux has it).
pub(crate) const LEAST: u16 = 552;
/// How long a report holds (RFC 1191 6.3).
const HOLDS: Duration = Duration::from_secs(600);
/// Peers that are remembered.
const MOST: usize = 1024;
/// Sizes that links have (RFC 1191 7.1), for routers that do not tell theirs.
const PLATEAUS: [u16; 8] = [32_000, 17_914, 8166, 4352, 2002, 1492, 1006, LEAST];

/// Reports by peer.
#[derive(Debug, Default)]
pub(crate) struct PathMtu {
    known: HashMap<u32, (u16, Time)>,
    swept: Time,
}

impl PathMtu {
    /// The size for a report of `told` bytes (0: the router does not say) about a packet of `length` bytes.
    pub fn reported(told: u16, length: u16) -> u16 {
        let told = if told == 0 {
            let below = PLATEAUS.into_iter().find(|&size| size < length);
            below.unwrap_or(LEAST)
        } else {
            told
        };
        told.max(LEAST)
    }

    /// Remembers a size.
    pub fn remember(&mut self, peer: u32, size: u16, now: Time) {
        if self.known.len() >= MOST && !self.known.contains_key(&peer) {
            if now.since(self.swept) < Duration::from_secs(1) {
                return;
            }
            self.swept = now;
            self.known.retain(|_, (_, since)| now.since(*since) < HOLDS);
            if self.known.len() >= MOST {
                return;
            }
        }
        self.known.insert(peer, (size, now));
    }

    /// The size to begin with, if a report about this peer still holds.
    pub fn get(&self, peer: u32, now: Time) -> Option<u16> {
        let &(size, since) = self.known.get(&peer)?;
        (now.since(since) < HOLDS).then_some(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told is taken down to a floor; old routers' silence means the next plateau; reports end after ten minutes.
    #[test]
    fn sizes_and_age() {
        assert_eq!(PathMtu::reported(1400, 1500), 1400);
        assert_eq!(PathMtu::reported(68, 1500), LEAST);
        assert_eq!(PathMtu::reported(0, 1500), 1492);
        assert_eq!(PathMtu::reported(0, 500), LEAST);
        let mut paths = PathMtu::default();
        let at = |s: u64| Time::from_millis(s * 1000);
        paths.remember(7, 1400, at(1));
        assert_eq!(paths.get(7, at(600)), Some(1400));
        assert_eq!(paths.get(7, at(602)), None);
        for peer in 0..5000 {
            paths.remember(peer, 1000, at(2));
        }
        assert!(paths.known.len() <= MOST);
    }
}
