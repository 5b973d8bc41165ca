//! One request's way in counter ticks: what other answers about requests are made of.
//!
//! In: the ends of its stages as events tell them; out: the same in order, so that the lengths of all stages add up to
//! the whole way exactly. It refuses to know clocks.

use super::stages::{BEHIND, PARTS, TCP_IN, WAIT_APP};

/// For each stage, which of [`Way::rings`] has the thread that is at work on the request, or that it waits for.
const AT: [usize; PARTS] = [0, 0, 0, 1, 1, 1, 2, 2, 2];

/// A request's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The flow.
    pub flow: u32,
    /// When it began: counter value.
    pub start: u64,
    /// The end of each stage; `None` where nothing tells: its time is in the next one that is known.
    pub ends: [Option<u64>; PARTS],
    /// Rings of the threads that received, handled and sent.
    pub rings: [Option<u32>; 3],
    /// For each of [`BEHIND`], ticks.
    pub behind: [u64; BEHIND.len()],
}

/// A stage of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Its place in [`super::STAGES`].
    pub stage: usize,
    /// Ring of its thread.
    pub ring: Option<u32>,
    /// Counter value of its beginning.
    pub from: u64,
    /// And of its end.
    pub to: u64,
}

impl Way {
    /// A way whose stages end then. One that would end before the one before it takes no time: a reply may leave before
    /// the application is done with it. Nobody was behind others for longer than the stage took.
    pub fn new(
        flow: u32,
        start: u64,
        ends: [Option<u64>; PARTS],
        rings: [Option<u32>; 3],
        behind: [u64; BEHIND.len()],
    ) -> Way {
        let mut at = start;
        let ends = ends.map(|end| {
            at = end?.max(at);
            Some(at)
        });
        let mut way = Way {
            flow,
            start,
            ends,
            rings,
            behind: [0; BEHIND.len()],
        };
        let lengths = way.lengths();
        let [burst, of_flow, of_thread] = behind;
        let in_app = lengths[WAIT_APP].unwrap_or(0);
        let of_flow = of_flow.min(in_app);
        way.behind = [
            burst.min(lengths[TCP_IN].unwrap_or(0)),
            of_flow,
            of_thread.min(in_app - of_flow),
        ];
        way
    }

    /// The stages that are known, in order.
    pub fn stretches(&self) -> impl Iterator<Item = Stretch> + '_ {
        let mut at = self.start;
        self.ends
            .iter()
            .enumerate()
            .filter_map(move |(stage, end)| {
                let to = (*end)?;
                let from = std::mem::replace(&mut at, to);
                Some(Stretch {
                    stage,
                    ring: self.rings[AT[stage]],
                    from,
                    to,
                })
            })
    }

    /// The length of each stage.
    pub fn lengths(&self) -> [Option<u64>; PARTS] {
        let mut at = self.start;
        self.ends.map(|end| {
            let end = end?;
            Some(end - std::mem::replace(&mut at, end))
        })
    }

    /// The length of the whole way.
    pub fn total(&self) -> u64 {
        let end = self.ends.iter().rev().find_map(|end| *end);
        end.map_or(0, |end| end - self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Each stage is the thread's that works on the request or is waited for.
    #[test]
    fn whose_stage() {
        let ends = [1, 2, 3, 4, 5, 6, 7, 8, 9].map(Some);
        let way = Way::new(1, 0, ends, [Some(10), Some(20), Some(30)], [0; 3]);
        let of: Vec<_> = way
            .stretches()
            .map(|s| (super::super::STAGES[s.stage].name, s.ring.unwrap()))
            .collect();
        let expected = [
            ("receive", 10),
            ("wait_handoff", 10),
            ("tcp_in", 10),
            ("wait_wakeup", 20),
            ("wait_app", 20),
            ("app", 20),
            ("wait_send", 30),
            ("wait_drain", 30),
            ("transmit", 30),
        ];
        assert_eq!(of, expected);
    }

    proptest! {
        /// Stages add up to the whole way, and nobody is behind others for longer than that.
        #[test]
        fn adds_up(
            start in 0u64..50,
            ends in proptest::array::uniform9(proptest::option::of(0u64..100)),
            behind in proptest::array::uniform3(0u64..100),
        ) {
            let way = Way::new(1, start, ends, [Some(0); 3], behind);
            let lengths = way.lengths();
            prop_assert_eq!(lengths.iter().flatten().sum::<u64>(), way.total());
            prop_assert!(way.behind[0] <= lengths[TCP_IN].unwrap_or(0));
            prop_assert!(way.behind[1] + way.behind[2] <= lengths[WAIT_APP].unwrap_or(0));
        }
    }
}
