//! Where a core's published limits end: streams that are too many, or do nothing for too long.

use crate::parts::{Bodies, STEP, config};
use stack_memlink::{Client, Link, LinkDevice, Loss, PORT};
use stack_mtcp::{MtcpConfig, create};
use stack_tcp::Time;
use std::time::Duration;

/// Runs `connections` for `time` of the link's time, with requests of `request` bytes of which the application waits for
/// one more: they never end by themselves. What is left: the application, the client, streams that the core has.
fn waiting(config: MtcpConfig, connections: usize, time: Duration) -> (Bodies, Client, usize) {
    let link = Link::default();
    let (mut stack, mut mtcp) = create(config, LinkDevice::new(&link, 256, 256), 0);
    stack.listen(PORT).unwrap();
    let mut app = Bodies::new(64);
    app.request = 2;
    let mut client = Client::new(64, 1);
    let (mut now, mut loss) = (Time::ZERO, Loss::one_in(None));
    for _ in 0..connections {
        client.connect(now);
    }
    while now.since(Time::ZERO) < time {
        now = now + 20 * STEP;
        client.send(&link, &mut loss);
        stack.round(now);
        app.turn(&mut mtcp);
        client.receive(&link, &mut loss, now);
    }
    let streams = stack.engine().connections();
    (app, client, streams)
}

/// A stream that does nothing is reset after the idle time and the application is told; with no such time it stays.
#[test]
fn idle_streams_end() {
    let time = Duration::from_secs(31);
    let (app, client, streams) = waiting(config(8192), 5, time);
    assert_eq!((app.ended, client.ended.len(), streams), (5, 5, 0));
    let mut patient = config(8192);
    patient.idle_timeout = None;
    let (app, client, streams) = waiting(patient, 5, time);
    assert_eq!((app.ended, client.ended.len(), streams), (0, 0, 5));
}

/// Streams beyond the limit are not taken, and those within it are served on.
#[test]
fn streams_beyond_the_limit_are_refused() {
    let mut few = config(8192);
    few.max_streams = 4;
    let (app, _, streams) = waiting(few, 9, Duration::from_secs(2));
    assert_eq!((app.open(), streams), (4, 4));
}
