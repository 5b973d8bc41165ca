//! What is ready, as F-Stack's kqueue keeps it: one note a connection, a list of those with news.
//!
//! In: the engine's events; out: batches for the application, each connection once however much happened to it. News are
//! told once (`EV_CLEAR`): whoever is told of data reads until there is none. It refuses to know what the data is.

use stack_tcp::{ConnId, Engine, EventKind};
use std::collections::VecDeque;

/// What is new on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kevent {
    /// Which.
    pub conn: ConnId,
    /// A listener has it; from here on it is the application's to close.
    pub accepted: bool,
    /// There is data to read.
    pub readable: bool,
    /// There is room again after a write that took less than offered.
    pub writable: bool,
    /// The peer sends no more, or the connection is over.
    pub ended: bool,
}

impl Kevent {
    fn nothing(conn: ConnId) -> Kevent {
        Kevent {
            conn,
            accepted: false,
            readable: false,
            writable: false,
            ended: false,
        }
    }
}

/// The notes of all connections.
#[derive(Debug, Default)]
pub struct Kqueue {
    /// By the connection's index; `Some` for those in `ready`.
    notes: Vec<Option<Kevent>>,
    ready: VecDeque<ConnId>,
}

impl Kqueue {
    /// Takes the engine's news.
    #[inline]
    pub fn take_news(&mut self, engine: &mut Engine) {
        while let Some(event) = engine.pop_event() {
            self.knote(event.conn, event.kind);
        }
    }

    #[inline(never)]
    fn knote(&mut self, conn: ConnId, kind: EventKind) {
        let index = conn.index();
        if self.notes.len() <= index {
            self.notes.resize(index + 1, None);
        }
        let note = match &mut self.notes[index] {
            Some(note) if note.conn == conn => note,
            // News of a predecessor that is closed already are nobody's.
            place => {
                self.ready.push_back(conn);
                place.insert(Kevent::nothing(conn))
            }
        };
        match kind {
            EventKind::Accepted(_) => note.accepted = true,
            EventKind::Connected | EventKind::Writable => note.writable = true,
            EventKind::Readable => note.readable = true,
            EventKind::PeerClosed | EventKind::Closed(_) => note.ended = true,
        }
    }

    /// Fills `out` with news, oldest first; how many.
    #[inline(never)]
    pub fn kqueue_scan(&mut self, out: &mut [Kevent]) -> usize {
        let mut found = 0;
        while found < out.len() {
            let Some(conn) = self.ready.pop_front() else {
                break;
            };
            match self.notes.get_mut(conn.index()) {
                Some(place) if place.is_some_and(|note| note.conn == conn) => {
                    if let Some(note) = place.take() {
                        out[found] = note;
                        found += 1;
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// Forgets a connection that is closed.
    pub fn forget(&mut self, conn: ConnId) {
        if let Some(place) = self.notes.get_mut(conn.index())
            && place.is_some_and(|note| note.conn == conn)
        {
            *place = None;
        }
    }

    /// A batch's worth of empty events, to be filled by [`Kqueue::kqueue_scan`].
    pub fn batch(size: usize) -> Vec<Kevent> {
        vec![Kevent::nothing(ConnId::from_raw(0)); size]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kqueue_with(news: &[(u64, EventKind)]) -> Kqueue {
        let mut kqueue = Kqueue::default();
        for &(conn, kind) in news {
            kqueue.knote(ConnId::from_raw(conn), kind);
        }
        kqueue
    }

    /// News of one connection come as one event, oldest connection first, and once.
    #[test]
    fn news_are_merged_and_told_once() {
        let mut kqueue = kqueue_with(&[
            (5, EventKind::Readable),
            (3, EventKind::Writable),
            (5, EventKind::PeerClosed),
        ]);
        let mut out = Kqueue::batch(4);
        assert_eq!(kqueue.kqueue_scan(&mut out), 2);
        assert_eq!(out[0].conn, ConnId::from_raw(5));
        assert!(out[0].readable && out[0].ended && !out[0].writable);
        assert!(out[1].writable && !out[1].ended);
        assert_eq!(kqueue.kqueue_scan(&mut out), 0);
    }

    /// A connection that is forgotten, or whose place another one took, is not told of; a small batch leaves the rest.
    #[test]
    fn stale_news_are_dropped() {
        let second = (1 << 32) | 7;
        let mut kqueue = kqueue_with(&[
            (7, EventKind::Readable),
            (8, EventKind::Readable),
            (second, EventKind::Readable),
            (9, EventKind::Readable),
        ]);
        kqueue.forget(ConnId::from_raw(8));
        let mut out = Kqueue::batch(1);
        assert_eq!(kqueue.kqueue_scan(&mut out), 1);
        assert_eq!(out[0].conn, ConnId::from_raw(second));
        assert_eq!(kqueue.kqueue_scan(&mut out), 1);
        assert_eq!(out[0].conn, ConnId::from_raw(9));
        assert_eq!(kqueue.kqueue_scan(&mut out), 0);
    }
}
