//! Two engines joined by a link that loses, doubles and reorders frames: what is written arrives, once and in order.

use bypassprof_probe::Burst;
use proptest::prelude::*;
use stack_tcp::sink::Frames;
use stack_tcp::{
    Closing, Config, Congestion, ConnId, Engine, EventKind, FrameMeta, Policy, Recovery, Time,
};
use std::collections::BTreeMap;
use std::time::Duration;

const SERVER: [u8; 4] = [10, 0, 0, 2];

/// A small generator of numbers (Marsaglia's xorshift64*): the same seed, the same losses.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }
}

struct Link {
    now: Time,
    engines: [Engine; 2],
    out: [Frames; 2],
    /// By time of arrival and a number: which side receives what.
    flying: BTreeMap<(Time, u64), (usize, Vec<u8>)>,
    flown: u64,
    chance: Chance,
    /// Frames lost, doubled, delayed of a thousand.
    bad: [u64; 3],
}

impl Link {
    fn new(policies: [Policy; 2], seed: u64, bad: [u64; 3]) -> Link {
        let engine = |last: u8, policy: &Policy| {
            let mac = [2, 0, 0, 0, 0, last];
            let mut config = Config::new(mac, [10, 0, 0, last].into(), 24);
            config.policy = policy.clone();
            config.seed = seed + u64::from(last);
            Engine::new(config)
        };
        let mut engines = [engine(1, &policies[0]), engine(2, &policies[1])];
        engines[1].listen(80, 16).unwrap();
        Link {
            now: Time::from_millis(1000),
            engines,
            out: Default::default(),
            flying: BTreeMap::new(),
            flown: 0,
            chance: Chance(seed | 1),
            bad,
        }
    }

    fn connect(&mut self) -> ConnId {
        let (engine, out) = (&mut self.engines[0], &mut self.out[0]);
        engine.connect(self.now, SERVER.into(), 80, out).unwrap()
    }

    /// Puts what engines sent on the link, moves to the next thing that happens and lets it happen. False: nothing will.
    fn step(&mut self) -> bool {
        for side in 0..2 {
            for frame in std::mem::take(&mut self.out[side].frames) {
                if self.chance.below(1000) < self.bad[0] {
                    continue;
                }
                let copies = 1 + u64::from(self.chance.below(1000) < self.bad[1]);
                for _ in 0..copies {
                    let late = if self.chance.below(1000) < self.bad[2] {
                        400
                    } else {
                        0
                    };
                    let at = self.now + Duration::from_micros(50 + late);
                    self.flown += 1;
                    self.flying
                        .insert((at, self.flown), (1 - side, frame.clone()));
                }
            }
        }
        let arrival = self.flying.first_key_value().map(|(k, _)| k.0);
        let timers = self.engines.iter().filter_map(Engine::next_deadline);
        let Some(next) = timers.chain(arrival).min() else {
            return false;
        };
        self.now = self.now.max(next);
        while let Some(entry) = self.flying.first_entry()
            && entry.key().0 <= self.now
        {
            let (side, frame) = entry.remove();
            let meta = FrameMeta {
                checksum_ok: false,
                frame_no: 0,
                burst: Burst::now(),
            };
            self.engines[side].input(self.now, &frame, meta, &mut self.out[side]);
        }
        for side in 0..2 {
            self.engines[side].poll_timers(self.now, &mut self.out[side]);
            self.engines[side].flush_acks(self.now, usize::MAX, &mut self.out[side]);
            self.engines[side].flush_data(self.now, usize::MAX, &mut self.out[side]);
        }
        true
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

/// Sends `len` bytes from the server to the client over a link; returns what arrived and the link.
fn download(policies: [Policy; 2], seed: u64, bad: [u64; 3], len: usize) -> (Vec<u8>, Link) {
    let mut link = Link::new(policies, seed, bad);
    let conn = link.connect();
    let (data, mut sent, mut got) = (bytes(len), 0, Vec::new());
    let mut server = None;
    let mut buf = vec![0; 10_000];
    for _ in 0..2_000_000 {
        while let Some(event) = link.engines[1].pop_event() {
            if let EventKind::Accepted(_) = event.kind {
                server = Some(event.conn);
            }
        }
        if let Some(server) = server
            && sent < len
        {
            let n = link.engines[1].write(server, &data[sent..]).unwrap();
            sent += n;
            if n > 0 {
                link.engines[1].output(server, link.now, &mut link.out[1]);
            }
            if sent == len {
                link.engines[1].close(server, link.now, &mut link.out[1]);
            }
        }
        let mut ended = false;
        while let Some(event) = link.engines[0].pop_event() {
            match event.kind {
                EventKind::Closed(why) => {
                    assert_eq!(why, Closing::Done, "after {} bytes", got.len())
                }
                EventKind::PeerClosed => ended = true,
                _ => {}
            }
        }
        loop {
            let n = link.engines[0].read(conn, &mut buf, link.now, &mut link.out[0]);
            got.extend_from_slice(&buf[..n]);
            if n == 0 {
                break;
            }
        }
        if ended {
            link.engines[0].close(conn, link.now, &mut link.out[0]);
        }
        if !link.step() {
            break;
        }
    }
    (got, link)
}

fn policies() -> impl Strategy<Value = Policy> {
    let kinds = [
        Policy::default(),
        Policy::fstack(),
        Policy::ix(),
        Policy::mtcp(),
        Policy::tas(),
        Policy {
            sack: false,
            timestamps: false,
            congestion: Congestion::NewReno,
            ..Policy::default()
        },
        Policy {
            window_scaling: false,
            recovery: Recovery::GoBackN,
            congestion: Congestion::None,
            ..Policy::default()
        },
    ];
    proptest::sample::select(
        kinds
            .map(|p| Policy {
                verify_checksums: true,
                offload_checksums: false,
                ..p
            })
            .to_vec(),
    )
}

/// A clean link carries a megabyte at once, without a single retransmission, and both sides forget the connection.
#[test]
fn clean_link() {
    let (got, link) = download([Policy::default(), Policy::fstack()], 7, [0; 3], 1 << 20);
    assert!(got == bytes(1 << 20), "{} bytes", got.len());
    assert_eq!(link.engines[1].counters().retransmits, 0);
    assert_eq!(link.engines.map(|e| e.connections()), [0, 0]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// A bad link carries a quarter of a megabyte intact, whatever the policies of both ends.
    #[test]
    fn bad_link(
        client in policies(),
        server in policies(),
        seed in any::<u32>(),
        bad in prop_oneof![Just([20, 0, 0]), Just([50, 20, 50]), Just([0, 50, 200]), Just([100, 0, 0])],
    ) {
        let (got, link) = download([client, server], u64::from(seed), bad, 1 << 18);
        prop_assert!(got == bytes(1 << 18), "{} bytes, {:?}", got.len(), link.engines[1].counters());
        prop_assert_eq!(link.engines.map(|e| e.connections()), [0, 0]);
    }

    /// No frame makes an engine panic, whatever it says.
    #[test]
    fn any_frames(seed in any::<u64>(), frames in proptest::collection::vec((0usize..60, any::<u8>(), 0usize..90), 1..60)) {
        let mut link = Link::new([Policy::default(), Policy::default()], seed, [0; 3]);
        let conn = link.connect();
        for (at, value, len) in frames {
            // Real frames with one byte changed or cut short, so that they get past the first checks.
            let mangled: Vec<_> = link.out.iter().map(|o| o.frames.clone()).collect();
            for (side, sent) in mangled.into_iter().enumerate() {
                for mut frame in sent {
                    if let Some(byte) = frame.get_mut(at) { *byte = value; }
                    frame.truncate(len.max(20));
                    let meta = FrameMeta { checksum_ok: true, frame_no: 0, burst: Burst::now() };
                    link.engines[1 - side].input(link.now, &frame, meta, &mut link.out[1 - side]);
                }
            }
            let _ = link.engines[0].write(conn, &[0; 100]);
            link.engines[0].output(conn, link.now, &mut link.out[0]);
            if !link.step() { break; }
        }
    }
}
