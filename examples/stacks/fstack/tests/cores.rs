//! Several cores at one device: whose queue a frame comes to does not matter, each flow is served by its owner alone.

use bypassprof_probe::Flow;
use stack_fstack::{App, Dispatch, FstackConfig, Sockets, Stack, connect};
use stack_memlink::{Client, Link, LinkDevice, PORT, SERVER, arp_reply, arp_request};
use stack_netio::Device;
use stack_tcp::Time;

struct Nothing;

impl App for Nothing {
    fn turn<D: Device>(&mut self, _sockets: &mut Sockets<'_, D>) {}
}

/// Two cores after some rounds of both.
struct Cores {
    stacks: Vec<Stack<LinkDevice>>,
    links: [Link; 2],
}

impl Cores {
    /// How many frames a core sent.
    fn sent(&self, core: usize) -> usize {
        self.links[core].arrived()
    }
}

/// Two cores, of which the first receives `frames`.
fn two_cores(frames: Vec<Vec<u8>>, dispatch_ring: usize) -> Cores {
    let mut config = FstackConfig::new(SERVER.into(), 24);
    config.dispatch = Dispatch::Flow;
    config.dispatch_ring = dispatch_ring;
    config.tx_delay = std::time::Duration::ZERO;
    let links = [Link::default(), Link::default()];
    links[0].put(frames);
    let stack = |link| Stack::new(config.clone(), LinkDevice::new(link, 1024, 1024));
    let mut stacks: Vec<_> = links.iter().map(stack).collect();
    for stack in &mut stacks {
        stack.listen(PORT, 128).unwrap();
    }
    connect(&mut stacks);
    for ms in 1..10 {
        for stack in &mut stacks {
            stack.round(&mut Nothing, Time::from_millis(ms));
        }
    }
    Cores { stacks, links }
}

/// SYNs of `count` connections, and how many of their flows the second core owns.
fn syns(count: usize) -> (Vec<Vec<u8>>, usize) {
    let mut client = Client::new(1, 1);
    let mut seconds = 0;
    for _ in 0..count {
        let conn = client.connect(Time::ZERO);
        seconds += client.engine.flow(conn).raw() as usize % 2;
    }
    // The client has to know the server's address before it sends anything.
    client.take_frames();
    client.input(&arp_reply(), Time::ZERO);
    let frames = client.take_frames();
    assert_eq!(frames.len(), count);
    (frames, seconds)
}

/// Of many flows that all come to the first core's queue each is answered by its owner, once.
#[test]
fn misdirected_flows_reach_their_owner() {
    let (frames, seconds) = syns(20);
    assert!(
        seconds > 0 && seconds < 20,
        "both cores own some: {seconds}"
    );
    let cores = two_cores(frames, 64);
    assert_eq!((cores.sent(0), cores.sent(1)), (20 - seconds, seconds));
    assert_eq!(cores.stacks[1].engine().connections(), seconds);
}

/// Who asks for the address is heard, and answered, by every core.
#[test]
fn arp_is_for_all_cores() {
    let cores = two_cores(vec![arp_request()], 64);
    assert_eq!((cores.sent(0), cores.sent(1)), (1, 1));
}

/// A dispatch ring that is full drops what comes next, and holds nobody up.
#[test]
fn a_full_dispatch_ring_drops() {
    let (frames, seconds) = syns(32);
    let cores = two_cores(frames, 2);
    assert!(seconds > 2);
    assert_eq!((cores.sent(0), cores.sent(1)), (32 - seconds, 2));
}

/// The owner is found by the same label that events carry.
#[test]
fn owners_go_by_the_flow_label() {
    let label = Flow::ipv4(0x0a7b_0001, 49_152, 0x0a7b_0002, PORT);
    let (frames, _) = syns(1);
    let stacks = two_cores(frames, 64).stacks;
    let owner = label.raw() as usize % 2;
    assert_eq!(stacks[owner].engine().connections(), 1);
    assert_eq!(stacks[1 - owner].engine().connections(), 0);
}
