//! The two halves on threads of their own, as they are meant to be: no wake-up and no byte gets lost between them.

use crate::parts::{Bodies, config};
use stack_memlink::{Client, Link, LinkDevice, Loss, PORT};
use stack_mtcp::create;
use stack_tcp::Time;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Streams whose buffers are far smaller than what passes them, so that both halves wait for each other all the time:
/// the application for room and for bytes, the stack for jobs. One lost event or job and a stream stands still.
#[test]
fn halves_never_miss_each_other() {
    const STREAMS: usize = 16;
    for spin in [false, true] {
        let link = Link::default();
        let mut config = config(4096);
        config.policy.receive_buffer = 4096;
        config.events = 2;
        config.idle_timeout = None;
        config.spin = spin;
        config.sleep = Duration::from_micros(100);
        let (mut stack, mut mtcp) = create(config, LinkDevice::new(&link, 2048, 2048), 0);
        stack.listen(PORT).unwrap();
        let mut app = Bodies::new(60_000);
        (app.request, app.read_at_once) = (30_000, 700);
        let mut client = Client::new(60_000, app.request);
        let (stop, mut loss) = (AtomicBool::new(false), Loss::one_in(None));
        let start = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| stack.run_main_loop(&stop).unwrap());
            scope.spawn(|| while app.wait(&mut mtcp) {});
            for _ in 0..STREAMS {
                client.connect(Time::ZERO);
            }
            // Far more than is needed; a stream that stands still would stand still for ever.
            while client.whole < STREAMS && start.elapsed() < Duration::from_secs(60) {
                let now = Time::from_nanos(start.elapsed().as_nanos() as u64);
                client.send(&link, &mut loss);
                let arrived = client.receive(&link, &mut loss, now);
                if arrived.is_empty() {
                    thread::yield_now();
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(client.whole, STREAMS);
    }
}
