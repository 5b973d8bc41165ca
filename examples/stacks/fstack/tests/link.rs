//! The stack against a client engine over a link in memory, in time that the test makes: intact bodies, whatever is lost.

use stack_fstack::{App, FstackConfig, Kevent, Kqueue, Sockets, Stack};
use stack_memlink::{Client, Link, LinkDevice, Loss, PORT, SERVER, arp_request, body};
use stack_netio::Device;
use stack_tcp::{ConnId, Time};
use std::collections::HashMap;
use std::time::Duration;

const STEP: Duration = Duration::from_micros(20);
/// A device with room enough.
const WIDE: (usize, usize) = (1024, 1024);

/// Answers whatever it is sent with one body, and counts its turns.
struct Bodies {
    body: Vec<u8>,
    sent: HashMap<ConnId, usize>,
    events: Vec<Kevent>,
    turns: usize,
}

impl Bodies {
    fn new(len: usize) -> Bodies {
        Bodies {
            body: body(len),
            sent: HashMap::new(),
            events: Kqueue::batch(16),
            turns: 0,
        }
    }
}

impl App for Bodies {
    fn turn<D: Device>(&mut self, sockets: &mut Sockets<'_, D>) {
        self.turns += 1;
        for index in 0..sockets.ff_kevent(&mut self.events) {
            let Kevent { conn, ended, .. } = self.events[index];
            while sockets.ff_read(conn, &mut [0; 64]) > 0 {
                self.sent.entry(conn).or_insert(0);
            }
            if let Some(sent) = self.sent.get_mut(&conn) {
                *sent += sockets.ff_write(conn, &self.body[*sent..]).unwrap_or(0);
            }
            if ended {
                self.sent.remove(&conn);
                sockets.ff_close(conn);
            }
        }
    }
}

/// Runs `connections` to their ends; one frame in `lose_one_in` is lost each way. The stack and its application.
fn run(
    config: FstackConfig,
    (room, takes): (usize, usize),
    (connections, body): (usize, usize),
    lose_one_in: Option<u64>,
) -> (Stack<LinkDevice>, Bodies) {
    let link = Link::default();
    let mut stack = Stack::new(config, LinkDevice::new(&link, room, takes));
    stack.listen(PORT, 128).unwrap();
    let (mut app, mut client) = (Bodies::new(body), Client::new(body, 1));
    let mut now = Time::ZERO;
    for _ in 0..connections {
        client.connect(now);
    }
    let mut loss = Loss::one_in(lose_one_in);
    // Two minutes of the link's time; a link that works needs far less.
    for _ in 0..6_000_000 {
        now = now + STEP;
        client.send(&link, &mut loss);
        stack.round(&mut app, now);
        client.receive(&link, &mut loss, now);
        assert_eq!(client.ended, []);
        if client.whole == connections && app.sent.is_empty() {
            return (stack, app);
        }
    }
    panic!("{} of {connections} bodies came whole", client.whole);
}

fn config() -> FstackConfig {
    FstackConfig::new(SERVER.into(), 24)
}

/// 64 connections get their small bodies, and 4 their megabytes, through a link that loses nothing.
#[test]
fn bodies_come_whole() {
    let (stack, _) = run(config(), WIDE, (64, 64), None);
    assert_eq!(stack.engine().counters().accepted, 64);
    let (stack, _) = run(config(), WIDE, (4, 1 << 20), None);
    assert_eq!(stack.engine().counters().retransmits, 0);
}

/// They do where one frame in fifty is lost, by retransmission.
#[test]
fn bodies_survive_loss() {
    let (stack, _) = run(config(), WIDE, (8, 1 << 20), Some(50));
    assert!(stack.engine().counters().retransmits > 0);
}

/// They do through a device with room for less than a batch: what it refuses comes again.
#[test]
fn bodies_survive_a_full_device() {
    let (stack, _) = run(config(), (20, 20), (8, 200_000), None);
    assert!(stack.engine().counters().sink_full > 0);
}

/// A single frame waits for the drain timer; with no delay it leaves with its round.
#[test]
fn lone_frames_wait_for_the_drain_timer() {
    for (delay, rounds) in [(100, 5), (0, 1)] {
        let link = Link::default();
        let mut config = config();
        config.tx_delay = Duration::from_micros(delay);
        let mut stack = Stack::new(config, LinkDevice::new(&link, 64, 64));
        let mut app = Bodies::new(1);
        let mut now = Time::from_millis(1);
        stack.round(&mut app, now);
        let mut side = stack.injector(1);
        side.hand_over(arp_request()).unwrap();
        let mut waited = 0;
        while link.arrived() == 0 {
            waited += 1;
            now = now + STEP;
            stack.round(&mut app, now);
            assert!(waited <= rounds);
        }
        assert_eq!(waited, rounds, "rounds of 20 us for a delay of {delay} us");
    }
}

/// The application is called for packets and once a drain interval, not in every round.
#[test]
fn callbacks_come_with_packets_or_ticks() {
    let link = Link::default();
    let mut stack = Stack::new(config(), LinkDevice::new(&link, 64, 64));
    let mut app = Bodies::new(1);
    let mut now = Time::ZERO;
    for _ in 0..50 {
        now = now + STEP;
        stack.round(&mut app, now);
    }
    assert_eq!(app.turns, 10);
    link.put([arp_request()]);
    now = now + STEP;
    assert!(stack.round(&mut app, now));
    assert_eq!(app.turns, 11);
}

/// The side ring's frames leave as they are if it is polled, and stay where they are if not.
#[test]
fn side_ring_is_polled_only_by_choice() {
    for poll in [true, false] {
        let link = Link::default();
        let mut config = config();
        config.side_poll = poll;
        let mut stack = Stack::new(config, LinkDevice::new(&link, 64, 64));
        let mut side = stack.side_injector().unwrap();
        side.hand_over(vec![7; 60]).unwrap();
        let mut app = Bodies::new(1);
        stack.round(&mut app, Time::from_millis(1));
        stack.round(&mut app, Time::from_millis(2));
        let expected: &[Vec<u8>] = if poll { &[vec![7; 60]] } else { &[] };
        assert_eq!(link.take(), expected);
    }
}
