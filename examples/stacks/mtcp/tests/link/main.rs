//! The pair of threads against a client engine over a link in memory, in time that the test makes: one thread plays both
//! halves in turn, so that what happens in which round is no matter of luck.

mod limits;
mod order;
mod parts;
mod threads;

use parts::{Bodies, config, run};
use std::time::Duration;

/// A device with room enough: frames that may wait, and frames of a burst.
const WIDE: (usize, usize) = (2048, 2048);

/// 64 streams get their small bodies, and 4 their megabytes in pieces of 8 KiB, through a link that loses nothing.
#[test]
fn bodies_come_whole() {
    let stack = run(config(8 * 1024), WIDE, (64, 64), None);
    assert_eq!(stack.engine().counters().accepted, 64);
    let stack = run(config(1 << 20), WIDE, (4, 1 << 20), None);
    assert_eq!(stack.engine().counters().retransmits, 0);
}

/// They do where the send buffer holds a small part of a body, so that the application is refused and told of room.
#[test]
fn bodies_pass_a_small_send_buffer() {
    run(config(8 * 1024), WIDE, (4, 300_000), None);
}

/// They do where one frame in fifty is lost, by retransmission from the first byte that is missing.
#[test]
fn bodies_survive_loss() {
    let stack = run(config(64 * 1024), WIDE, (8, 300_000), Some(50));
    assert!(stack.engine().counters().retransmits > 0);
}

/// They do through a device with room for few frames, which is flushed and tried again at once.
#[test]
fn bodies_survive_a_full_device() {
    let mut config = config(64 * 1024);
    config.tx_ring = 8;
    let stack = run(config, (8, 3), (8, 200_000), None);
    assert_eq!(stack.engine().counters().sink_full, 0);
}

/// They do through one that refuses frames the stack thought there was room for: the engine sends them again.
#[test]
fn bodies_survive_a_device_that_refuses() {
    let stack = run(config(64 * 1024), (20, 20), (8, 200_000), None);
    assert!(stack.engine().counters().sink_full > 0);
}

/// Requests longer than the receive buffer come whole: what finds no room waits with the peer.
#[test]
fn long_requests_pass_a_small_receive_buffer() {
    let mut config = config(64 * 1024);
    config.policy.receive_buffer = 4096;
    let mut app = Bodies::new(100);
    app.request = 100_000;
    app.read_at_once = 1000;
    parts::run_app(config, WIDE, app, (3, 100), None, Duration::from_secs(60));
}
