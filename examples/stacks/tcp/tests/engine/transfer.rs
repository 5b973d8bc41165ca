//! Streams between two engines arrive whole, whatever the link does and whatever the policies are.

use crate::link::{A, B, Faults, Pair};
use proptest::prelude::*;
use stack_tcp::{Closing, Congestion, EventKind, Policy, Recovery};

fn stream(len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect()
}

/// Sends `len` bytes from A to B and closes both sides; how the link was used is in the pair.
fn carry(pair: &mut Pair, len: usize) {
    let (a, b) = pair.connect();
    let data = stream(len);
    let (mut written, mut got) = (0, Vec::new());
    let mut buf = vec![0; 16 * 1024];
    let mut peer_closed = false;
    pair.until(|pair| {
        if written < data.len() {
            pair.on(A, |e, now, out| {
                written += e.write(a, &data[written..]).unwrap();
                e.output(a, now, out);
                if written == data.len() {
                    e.shutdown(a, now, out);
                }
            });
        }
        let n = pair.on(B, |e, now, out| e.read(b, &mut buf, now, out));
        got.extend_from_slice(&buf[..n]);
        while let Some(event) = pair.engines[B].pop_event() {
            peer_closed |= event.kind == EventKind::PeerClosed;
        }
        (peer_closed && got.len() >= data.len()).then_some(())
    });
    assert!(got == data, "{} of {} bytes", got.len(), data.len());
    pair.on(B, |e, now, out| e.close(b, now, out));
    let end = pair.until(|pair| {
        std::iter::from_fn(|| pair.engines[A].pop_event())
            .map(|e| e.kind)
            .find(|k| matches!(k, EventKind::Closed(_)))
    });
    assert_eq!(end, EventKind::Closed(Closing::Done));
    pair.on(A, |e, now, out| e.close(a, now, out));
    pair.until(|pair| {
        let left: usize = pair.engines.iter().map(|e| e.connections()).sum();
        (left == 0).then_some(())
    });
}

/// On a clean link nothing is sent twice.
#[test]
fn clean_link_needs_no_repairs() {
    let mut pair = Pair::new(Policy::default(), Policy::default(), 1);
    carry(&mut pair, 1 << 20);
    for engine in &pair.engines {
        assert_eq!(engine.counters().retransmits, 0);
        assert_eq!(engine.counters().drop_window, 0);
    }
    assert_eq!(pair.engines[A].counters().bytes_out, 1 << 20);
    assert_eq!(pair.engines[B].counters().bytes_in, 1 << 20);
}

/// Every published policy carries a mebibyte over a bad link.
#[test]
fn every_policy_survives_a_bad_link() {
    let plain = Policy {
        congestion: Congestion::NewReno,
        sack: false,
        timestamps: false,
        window_scaling: false,
        ..Policy::default()
    };
    for policy in [
        Policy::default(),
        Policy::fstack(),
        Policy::mtcp(),
        Policy {
            verify_checksums: true,
            offload_checksums: false,
            ..Policy::ix()
        },
        Policy {
            verify_checksums: true,
            offload_checksums: false,
            ..Policy::tas()
        },
        plain,
    ] {
        let mut pair = Pair::new(policy.clone(), policy, 5);
        pair.faults = Faults {
            lost: 20,
            repeated: 20,
            reordered: 50,
            corrupted: 5,
        };
        carry(&mut pair, 1 << 20);
        assert!(pair.engines[A].counters().retransmits > 0);
    }
}

/// Isolated losses are repaired by SACK without waiting for a timer.
#[test]
fn sack_repairs_without_timeouts() {
    let mut pair = Pair::new(Policy::default(), Policy::default(), 3);
    pair.faults.lost = 3;
    carry(&mut pair, 1 << 20);
    let counters = pair.engines[A].counters();
    assert!(counters.fast_recoveries > 0);
    assert!(
        counters.timeouts <= 1,
        "{} timeouts for {} losses",
        counters.timeouts,
        counters.retransmits
    );
}

/// Policies of every kind, as far as a link needs sums in software.
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
            nagle: true,
            recovery: Recovery::GoBackN,
            congestion: Congestion::None,
            ..Policy::default()
        },
        Policy {
            ecn: true,
            receive_buffer: 10_000,
            congestion: Congestion::DctcpRate {
                initial: 1_250_000,
                step: 1_250_000,
            },
            ..Policy::default()
        },
    ];
    let summed = |policy: Policy| Policy {
        verify_checksums: true,
        offload_checksums: false,
        ..policy
    };
    proptest::sample::select(kinds.map(summed).to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Half a mebibyte arrives whole whatever the policies of both ends, for any seed and any mix of losses, copies,
    /// changes of order and wrong bytes; then both sides forget the connection.
    #[test]
    fn any_link_carries_all(
        seed in any::<u64>(),
        ends in (policies(), policies()),
        lost in 0u64..60,
        repeated in 0u64..100,
        reordered in 0u64..200,
        corrupted in 0u64..30,
    ) {
        let mut pair = Pair::new(ends.0, ends.1, seed);
        pair.faults = Faults { lost, repeated, reordered, corrupted };
        carry(&mut pair, 1 << 19);
    }
}
