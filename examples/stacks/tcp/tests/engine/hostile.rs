//! Frames from anyone: no bytes make the engine panic, and none make it forget its limits.

use crate::link::{A, B, Pair, config, ip, meta};
use proptest::prelude::*;
use stack_tcp::sink::Frames;
use stack_tcp::{Engine, Policy, Time};

fn trusting() -> Policy {
    Policy {
        verify_checksums: false,
        ..Policy::default()
    }
}

proptest! {
    /// Any bytes at all.
    #[test]
    fn any_bytes(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..50)) {
        let mut engine = Engine::new(config(A, trusting()));
        engine.listen(80, 4).unwrap();
        let mut out = Frames::default();
        for (i, frame) in frames.iter().enumerate() {
            let now = Time::from_millis(i as u64 * 10);
            engine.input(now, frame, meta(), &mut out);
            engine.poll_timers(now, &mut out);
        }
    }

    /// Frames of a real conversation with bytes changed, in both directions and at any moment of it.
    #[test]
    fn changed_conversations(
        changes in proptest::collection::vec((0usize..120, 0usize..90, any::<u8>()), 1..200),
        seed in any::<u64>(),
    ) {
        let mut pair = Pair::new(trusting(), trusting(), seed);
        let (a, b) = pair.connect();
        let mut kept: Vec<Vec<u8>> = Vec::new();
        for (which, at, value) in changes {
            for (side, conn) in [(A, a), (B, b)] {
                let mut out = Frames::default();
                let now = pair.now;
                let engine = &mut pair.engines[side];
                let _ = engine.write(conn, &[value; 3000]);
                engine.output(conn, now, &mut out);
                let mut buf = [0; 1000];
                engine.read(conn, &mut buf, now, &mut out);
                kept.extend(out.frames);
            }
            if let Some(frame) = kept.get(which % kept.len().max(1)) {
                let mut frame = frame.clone();
                let at = at % frame.len();
                frame[at] = value;
                for side in [A, B] {
                    pair.on(side, |e, now, out| e.input(now, &frame, meta(), out));
                }
            }
            kept.truncate(120);
            pair.step();
        }
    }
}

/// A segment whose checksum is wrong changes nothing.
#[test]
fn wrong_checksums_are_dropped() {
    let mut pair = Pair::new(Policy::default(), Policy::default(), 1);
    pair.engines[B].listen(80, 4).unwrap();
    let mut out = Frames::default();
    let now = pair.now;
    pair.engines[A].connect(now, ip(B), 80, &mut out).unwrap();
    pair.on(B, |e, now, out| e.input(now, &[0xff; 60], meta(), out));
    assert_eq!(pair.engines[B].counters().drop_not_ours, 1);
    let mut arp = out.frames.remove(0);
    pair.on(B, |e, now, out| e.input(now, &arp, meta(), out));
    arp.truncate(20);
    pair.on(B, |e, now, out| e.input(now, &arp, meta(), out));
    assert_eq!(pair.engines[B].counters().drop_malformed, 1);
}
