//! The stack against a client engine over a link in memory, in time that the test makes: order and bounds of a round,
//! memory that belongs to the application until it is acknowledged, intact bodies whatever is lost.

mod bodies;

use bodies::Bodies;
use stack_ix::{IxConfig, SidePoll, Stack, TokenState, What};
use stack_memlink::{Client, Ends, Link, LinkDevice, Loss, PORT, SERVER, arp_request};
use stack_tcp::{Closing, Time};
use std::time::Duration;

const STEP: Duration = Duration::from_micros(20);

/// Both sides and what lies between them.
struct World {
    link: Link,
    stack: Stack<LinkDevice>,
    app: Bodies,
    client: Client,
    now: Time,
    /// What is lost, each way.
    loss: Loss,
    /// How connections may end beside the client's own close.
    expected: Option<Closing>,
}

impl World {
    /// A stack whose device has room for `room` frames, and a body of `body` bytes.
    fn new(config: IxConfig, room: usize, body: usize) -> World {
        let link = Link::default();
        let tokens = TokenState::new(1, config.side_poll);
        let mut stack = Stack::new(config, LinkDevice::new(&link, room, room), tokens);
        stack.listen(PORT, 128).unwrap();
        World {
            link,
            stack,
            app: Bodies::new(body),
            client: Client::new(body, 1),
            now: Time::ZERO,
            loss: Loss::one_in(None),
            expected: None,
        }
    }

    /// One round 20 us later; how many frames the stack sent.
    fn round(&mut self) -> usize {
        self.now = self.now + STEP;
        self.client.send(&self.link, &mut self.loss);
        self.stack.round(&mut self.app, self.now);
        let arrived = self.client.receive(&self.link, &mut self.loss, self.now);
        assert!(
            self.client
                .ended
                .iter()
                .all(|&why| Some(why) == self.expected)
        );
        arrived.len()
    }

    /// Opens connections and runs them to their ends.
    fn serve(&mut self, connections: usize) {
        for _ in 0..connections {
            self.client.connect(self.now);
        }
        // Two minutes of the link's time; a link that works needs far less.
        for _ in 0..6_000_000 {
            self.round();
            if self.client.whole == connections && self.app.open() == 0 {
                return;
            }
        }
        panic!("{} of {connections} bodies came whole", self.client.whole);
    }
}

fn config() -> IxConfig {
    IxConfig::new(SERVER.into(), 24)
}

/// 64 connections get their small bodies, and 4 their megabytes, through a link that loses nothing. What the application
/// was told to be acknowledged is what it sent, and 64 KiB at most were outstanding.
#[test]
fn bodies_come_whole() {
    let mut small = World::new(config(), 1024, 64);
    small.serve(64);
    assert_eq!(small.stack.engine().counters().accepted, 64);
    assert_eq!(small.app.closed, 64);
    let mut large = World::new(config(), 1024, 1 << 20);
    large.serve(4);
    assert_eq!(large.stack.engine().counters().retransmits, 0);
    let app = large.app;
    let total = app.given_back + app.outstanding_at_close;
    assert_eq!((app.taken, total), (4 << 20, 4 << 20));
    assert_eq!(app.most_outstanding, 64 * 1024);
}

/// They do where one frame in fifty is lost, by retransmission.
#[test]
fn bodies_survive_loss() {
    let mut world = World::new(config(), 1024, 300_000);
    world.loss = Loss::one_in(Some(50));
    world.serve(8);
    assert!(world.stack.engine().counters().retransmits > 0);
}

/// They do through a device with room for less than a batch: what it refuses comes again.
#[test]
fn bodies_survive_a_full_device() {
    let mut world = World::new(config(), 20, 200_000);
    world.serve(8);
    assert!(world.stack.engine().counters().sink_full > 0);
}

/// They do with everything on that IX is known to lose by.
#[test]
fn bodies_come_whole_with_all_switches_on() {
    let switches = IxConfig {
        handle_scan: true,
        side_poll: SidePoll::Shared,
        ..config()
    };
    World::new(switches, 1024, 5000).serve(64);
}

/// Few places in the arrays only mean more rounds.
#[test]
fn small_arrays_lose_nothing() {
    let small = IxConfig {
        conditions: 2,
        calls: 5,
        ..config()
    };
    let mut world = World::new(small, 1024, 3000);
    world.serve(64);
    assert_eq!(world.app.closed, 64);
}

/// A round takes what has arrived, at once and whole, up to 64 packets.
#[test]
fn batches_are_what_arrived_up_to_their_bound() {
    let mut world = World::new(config(), 1024, 1);
    for (arrive, batches) in [(1, vec![1]), (63, vec![63]), (200, vec![64, 64, 64, 8])] {
        let frames = (0..arrive).map(|_| arp_request());
        world.link.put(frames);
        for batch in batches {
            assert_eq!(world.round(), batch, "answers leave with their batch");
            assert_eq!(world.stack.device().bursts.last(), Some(&batch));
        }
        assert_eq!(world.round(), 0, "nothing is left to do");
    }
    assert_eq!(world.stack.meter().totals().full_batches, 3);
}

/// What a handler asks for runs at the start of the next round and leaves with it: a reply waits for nothing else, and
/// carries the acknowledgement.
#[test]
fn calls_run_in_the_next_round() {
    let mut world = World::new(config(), 1024, 100);
    world.client.connect(world.now);
    assert_eq!(world.round(), 1, "ARP's answer");
    assert_eq!(world.round(), 1, "SYN and ACK");
    assert_eq!(
        world.round(),
        0,
        "no answer to the last of the handshake and the request"
    );
    assert_eq!(world.app.told, [What::Knock]);
    assert_eq!(world.round(), 0);
    assert_eq!(world.app.told, [What::Knock, What::Recv(1)]);
    assert_eq!(world.round(), 1, "the reply");
    assert_eq!(world.client.whole, 1);
    assert_eq!(world.stack.engine().counters().pure_acks, 0);
}

/// Data that nobody answers is acknowledged by itself after 1 ms, not before.
#[test]
fn an_unanswered_request_is_acknowledged_after_a_millisecond() {
    let mut world = World::new(config(), 1024, 100);
    world.app.answers = false;
    world.client.connect(world.now);
    while world.app.told.len() < 2 {
        world.round();
    }
    let mut rounds = 2;
    while world.round() == 0 {
        rounds += 1;
    }
    // The timer's own grain is a microsecond: it may be seen a round later.
    assert!((50..=51).contains(&rounds), "{rounds} rounds of 20 us");
    assert_eq!(world.stack.engine().counters().pure_acks, 1);
}

/// What happens to a connection before it is accepted is told afterwards, in order.
#[test]
fn what_comes_before_accept_is_told_after_it() {
    let mut world = World::new(config(), 1024, 10);
    world.client.ends = Ends::WithItsRequest;
    world.serve(1);
    assert_eq!(
        world.app.told[..3],
        [What::Knock, What::Recv(1), What::Ended]
    );
}

/// When the core's memory is used up the connection is reset, and the application hears it.
#[test]
fn memory_that_is_used_up_ends_the_connection() {
    let little = IxConfig {
        buffer_memory: 40_000,
        ..config()
    };
    let mut world = World::new(little, 1024, 1 << 20);
    world.expected = Some(Closing::Reset);
    world.client.connect(world.now);
    (0..1000).for_each(|_| {
        world.round();
    });
    let app = &world.app;
    assert_eq!(
        (world.client.ended.len(), app.closed, app.open()),
        (1, 1, 0)
    );
    assert_eq!(world.stack.engine().connections(), 0);
}
