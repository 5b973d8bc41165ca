//! What a polling loop was doing, from its ring's events.
//!
//! In: one ring's events in the order of the ring; out: transitions between *working*, *empty polling* and *unknown*,
//! each with its stamp, nearly in order of time ([`super::timeline`] sorts them). The round decides: `idle_begin` is
//! stamped at the start of the first empty round, `idle_end` at the start of the next working one, so a receive that
//! found something counts as work. After loss nothing is known from the last event before it until an event says so.
//! It refuses to know whether the thread was on a CPU.

use bypassprof_wire::{Event, points};

/// What a polling loop was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PollState {
    /// Rounds that did something, or no loop at all.
    Working = 0,
    /// Rounds that found nothing to do.
    EmptyPolling = 1,
    /// Events were lost, or none had come yet.
    Unknown = 2,
}

/// From `tsc` on the loop was in `state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Counter value.
    pub tsc: u64,
    /// The new state.
    pub state: PollState,
}

/// Follows the state of one ring's loop.
#[derive(Clone, Debug)]
pub struct PollStates {
    state: PollState,
    /// Newest stamp seen: what was lost came after it.
    newest: u64,
    /// Whether the thread has a loop at all; without one it works whenever it runs.
    has_loop: bool,
}

impl PollStates {
    /// A ring whose thread was in state `before` until the first event tells otherwise. `has_loop` says that the ring's
    /// totals count rounds; events of a loop show it too.
    pub fn new(before: PollState, has_loop: bool) -> PollStates {
        PollStates {
            state: before,
            newest: 0,
            has_loop,
        }
    }

    /// Takes the ring's next event.
    #[inline]
    pub fn event(&mut self, event: &Event, out: &mut impl FnMut(Transition)) {
        let tsc = event.tsc.raw();
        match event.point {
            points::LOST => self.lost(tsc, out),
            points::IDLE_BEGIN => {
                self.has_loop = true;
                self.enter(PollState::EmptyPolling, tsc, out);
            }
            points::IDLE_END => {
                self.has_loop = true;
                self.enter(PollState::Working, tsc, out);
            }
            points::LOOP => self.has_loop = true,
            // Empty rounds are sampled too, and side polls happen in them: these say nothing about the round.
            points::SIDE_POLL | points::SLEEP | points::WAKE => {}
            _ if self.state == PollState::Unknown => self.enter(PollState::Working, tsc, out),
            _ => {}
        }
        self.newest = self.newest.max(tsc);
    }

    /// Slots are missing in front of the next event: the recording itself has a gap.
    pub fn gap(&mut self, out: &mut impl FnMut(Transition)) {
        self.lost(self.newest, out);
    }

    /// Whether a polling loop was seen.
    pub fn has_loop(&self) -> bool {
        self.has_loop
    }

    fn lost(&mut self, noticed: u64, out: &mut impl FnMut(Transition)) {
        if self.has_loop {
            let from = if self.newest == 0 {
                noticed
            } else {
                self.newest
            };
            self.enter(PollState::Unknown, from, out);
        }
    }

    fn enter(&mut self, state: PollState, tsc: u64, out: &mut impl FnMut(Transition)) {
        if self.state != state {
            self.state = state;
            out(Transition { tsc, state });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PollState::{EmptyPolling, Unknown, Working};
    use bypassprof_wire::{Flow, Point, Tsc};

    fn run(before: PollState, events: &[(u64, Point)]) -> Vec<(u64, PollState)> {
        let mut states = PollStates::new(before, false);
        let mut seen = Vec::new();
        for &(tsc, point) in events {
            let event = Event {
                tsc: Tsc::from_raw(tsc),
                point,
                flow: Flow::NONE,
                args: [0; 10],
                arg_count: 1,
            };
            states.event(&event, &mut |t| seen.push((t.tsc, t.state)));
        }
        seen
    }

    /// Rounds give the state; what happens inside them does not.
    #[test]
    fn rounds_decide() {
        let events = [
            (10, points::RX_BURST),
            (20, points::IDLE_BEGIN),
            (25, points::LOOP),
            (30, points::IDLE_END),
            (31, points::APP_START),
            (40, points::IDLE_BEGIN),
        ];
        let seen = run(Working, &events);
        assert_eq!(
            seen,
            [(20, EmptyPolling), (30, Working), (40, EmptyPolling)]
        );
    }

    /// Loss reaches back to the last event before it, and ends with work or with the loop's own word.
    #[test]
    fn loss() {
        let events = [
            (20, points::IDLE_BEGIN),
            (90, points::LOST),
            (90, points::SIDE_POLL),
            (95, points::RX_BURST),
            (99, points::IDLE_BEGIN),
            (150, points::LOST),
            (151, points::IDLE_END),
        ];
        let seen = run(Working, &events);
        let expected = [
            (20, EmptyPolling),
            (20, Unknown),
            (95, Working),
            (99, EmptyPolling),
            (99, Unknown),
            (151, Working),
        ];
        assert_eq!(seen, expected);
    }

    /// A thread without a loop works whenever it runs; one that was found running is unknown until it says something.
    #[test]
    fn without_loop_and_found_running() {
        let events = [
            (5, points::APP_START),
            (9, points::LOST),
            (10, points::APP_END),
        ];
        assert_eq!(run(Working, &events), []);
        assert_eq!(run(Unknown, &events), [(5, Working)]);
        assert_eq!(run(Unknown, &[(5, points::IDLE_END)]), [(5, Working)]);
    }
}
