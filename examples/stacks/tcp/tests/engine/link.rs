//! A simulated link between two engines: it delays, drops, repeats, reorders and corrupts frames.

use bypassprof_probe::Burst;
use stack_tcp::sink::Frames;
use stack_tcp::{Config, ConnId, Engine, Event, FrameMeta, Policy, Time};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

/// What the link does to frames, in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub lost: u64,
    pub repeated: u64,
    pub reordered: u64,
    /// One byte, anywhere in the frame, becomes another.
    pub corrupted: u64,
}

pub const A: usize = 0;
pub const B: usize = 1;
const DELAY: Duration = Duration::from_micros(100);

pub fn ip(side: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, side as u8 + 1)
}

pub fn config(side: usize, policy: Policy) -> Config {
    let mut config = Config::new([2, 0, 0, 0, 0, side as u8 + 1], ip(side), 24);
    config.policy = policy;
    config.seed = side as u64 + 40;
    config
}

pub fn meta() -> FrameMeta {
    FrameMeta {
        checksum_ok: false,
        frame_no: 0,
        burst: Burst::now(),
    }
}

/// Two engines and the link between them.
pub struct Pair {
    pub engines: [Engine; 2],
    pub now: Time,
    pub faults: Faults,
    random: u64,
    /// Frames under way by arrival and order of sending, with their receiver.
    wire: BTreeMap<(Time, u64), (usize, Vec<u8>)>,
    sent: u64,
}

impl Pair {
    pub fn new(a: Policy, b: Policy, seed: u64) -> Pair {
        Pair {
            engines: [Engine::new(config(A, a)), Engine::new(config(B, b))],
            now: Time::from_millis(1000),
            faults: Faults::default(),
            random: seed | 1,
            wire: BTreeMap::new(),
            sent: 0,
        }
    }

    fn chance(&mut self, thousandths: u64) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 1000 < thousandths
    }

    /// Lets one engine work and puts its frames on the link.
    pub fn on<R>(
        &mut self,
        side: usize,
        work: impl FnOnce(&mut Engine, Time, &mut Frames) -> R,
    ) -> R {
        let mut out = Frames::default();
        let result = work(&mut self.engines[side], self.now, &mut out);
        for frame in out.frames {
            let copies = 1 + u64::from(self.chance(self.faults.repeated));
            for _ in 0..copies {
                if self.chance(self.faults.lost) {
                    continue;
                }
                let mut arrival = self.now + DELAY;
                if self.chance(self.faults.reordered) {
                    arrival = arrival + DELAY * (1 + (self.random >> 20) as u32 % 5);
                }
                let mut frame = frame.clone();
                if self.chance(self.faults.corrupted) {
                    let at = (self.random >> 24) as usize % frame.len();
                    frame[at] ^= ((self.random >> 16) as u8).max(1);
                }
                self.sent += 1;
                self.wire.insert((arrival, self.sent), (1 - side, frame));
            }
        }
        result
    }

    /// What a polling loop does in every round.
    fn serve(&mut self) {
        for side in [A, B] {
            self.on(side, |e, now, out| {
                e.poll_timers(now, out);
                e.flush_acks(now, usize::MAX, out);
                e.flush_data(now, usize::MAX, out);
            });
        }
    }

    /// Moves time to the next arrival or deadline and lets it happen; `false` when nothing will happen any more.
    pub fn step(&mut self) -> bool {
        self.serve();
        let arrival = self.wire.first_key_value().map(|((at, _), _)| *at);
        let deadlines = self.engines.iter().filter_map(Engine::next_deadline);
        let Some(next) = deadlines.chain(arrival).min() else {
            return false;
        };
        self.now = self.now.max(next);
        if arrival == Some(next)
            && let Some((_, (side, frame))) = self.wire.pop_first()
        {
            self.on(side, |e, now, out| e.input(now, &frame, meta(), out));
        }
        self.serve();
        true
    }

    /// Steps until `done` finds what it looks for; panics when it never comes.
    pub fn until<R>(&mut self, mut done: impl FnMut(&mut Pair) -> Option<R>) -> R {
        for _ in 0..2_000_000 {
            if let Some(found) = done(self) {
                return found;
            }
            assert!(self.step(), "the link went quiet at {:?}", self.now);
        }
        panic!("no end in sight at {:?}", self.now);
    }

    /// The next event of one side.
    pub fn event(&mut self, side: usize) -> Event {
        self.until(|pair| pair.engines[side].pop_event())
    }

    /// A connection from A to a listener of B; its two names.
    pub fn connect(&mut self) -> (ConnId, ConnId) {
        let _ = self.engines[B].listen(80, 16);
        let a = self
            .on(A, |e, now, out| e.connect(now, ip(B), 80, out))
            .unwrap();
        let connected = self.event(A);
        assert_eq!(connected.conn, a);
        let b = self.event(B).conn;
        (a, b)
    }
}
