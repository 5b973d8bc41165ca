//! A request of the pipeline on its way, and how long each stage of it took by the program's own clock.
//!
//! In: when each stage ended; out: lines that tests compare with `spans`. It refuses to know on which threads that was.

use super::{do_app, do_copy};
use bypassprof_probe::Flow;

/// The stages of `spans`.
pub const STAGES: [&str; 9] = [
    "receive",
    "wait_handoff",
    "tcp_in",
    "wait_wakeup",
    "wait_app",
    "app",
    "wait_send",
    "wait_drain",
    "total",
];

/// A request on its way through threads and processes: plain numbers, so that it fits through a socket too.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request {
    pub flow: u32,
    /// Number of the frame it came in.
    pub frame: u32,
    /// Turns of TCP, application, copy.
    pub turns: [u64; 3],
    /// Counter when it was put into the queue to another thread.
    pub handed: u64,
    /// Ends of its stages, after its beginning.
    pub ends: [u64; STAGES.len()],
}

/// Numbers that a request is made of.
const WORDS: usize = 6 + STAGES.len();
/// Bytes of a request in a socket.
pub const BYTES: usize = 8 * WORDS;

impl Request {
    /// Its connection.
    pub fn flow(&self) -> Flow {
        Flow::from_raw(self.flow)
    }

    /// What the application does.
    pub fn work(&self) {
        do_app(self.turns[1]);
        do_copy(self.turns[2]);
    }

    /// Its words, as they go through a socket.
    pub fn to_bytes(self) -> Vec<u8> {
        let head = [u64::from(self.flow), u64::from(self.frame)];
        let words = head.into_iter().chain(self.turns).chain([self.handed]);
        words.chain(self.ends).flat_map(u64::to_ne_bytes).collect()
    }

    /// The same back.
    pub fn from_bytes(bytes: &[u8; BYTES]) -> Request {
        let word = |at: usize| u64::from_ne_bytes(bytes[8 * at..8 * at + 8].try_into().unwrap());
        Request {
            flow: word(0) as u32,
            frame: word(1) as u32,
            turns: [2, 3, 4].map(word),
            handed: word(5),
            ends: std::array::from_fn(|at| word(6 + at)),
        }
    }
}

/// Places in [`Request::ends`].
pub const BEGUN: usize = 0;
pub const HANDED: usize = 1;
pub const TCP: usize = 2;
pub const DELIVERED: usize = 3;
pub const WOKEN: usize = 4;
pub const STARTED: usize = 5;
pub const ENDED: usize = 6;
pub const OUT: usize = 7;
pub const TAKEN: usize = 8;

/// Lengths of the stages as the program's own clock sees them, in ns.
#[derive(Default)]
pub struct Lengths([Vec<u64>; STAGES.len()]);

impl Lengths {
    /// Adds a request that is over.
    pub fn add(&mut self, request: &Request) {
        let mut ends = request.ends;
        let handed = ends[HANDED] > 0;
        if !handed {
            ends[HANDED] = ends[TCP];
        }
        let mut at = ends[BEGUN];
        for (stage, end) in ends[1..].iter().enumerate() {
            let handoff = stage + 1 == TCP;
            let wakeup = stage + 1 == WOKEN;
            if (handoff && !handed) || (wakeup && *end <= at) {
                continue;
            }
            // What happened before something else was done takes no time.
            let end = at.max(*end);
            self.0[stage].push(end - at);
            at = end;
        }
        self.0[STAGES.len() - 1].push(at - ends[BEGUN]);
    }

    /// How many were added.
    pub fn requests(&self) -> usize {
        self.0[STAGES.len() - 1].len()
    }

    /// Writes the lines `count STAGE N` and `mean STAGE NS`.
    pub fn print(&self) {
        for (stage, lengths) in STAGES.iter().zip(&self.0) {
            let sum: u64 = lengths.iter().sum();
            println!("count {stage} {}", lengths.len());
            println!("mean {stage} {}", sum as f64 / lengths.len().max(1) as f64);
        }
    }
}
