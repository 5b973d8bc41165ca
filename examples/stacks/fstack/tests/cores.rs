//! Several cores at one device: whose queue a frame comes to does not matter, each flow is served by its owner alone.

use bypassprof_probe::{Burst, Flow};
use stack_fstack::{App, Dispatch, FstackConfig, Sockets, Stack, connect};
use stack_netio::{Device, RxFrame};
use stack_tcp::sink::Frames;
use stack_tcp::{Config, Engine, Time};

const SERVER: [u8; 4] = [10, 123, 0, 2];
const CLIENT: [u8; 4] = [10, 123, 0, 1];
const PORT: u16 = 8080;

/// A queue that holds what a test puts there, and keeps what is sent.
#[derive(Default)]
struct Queue {
    arrived: Vec<Vec<u8>>,
    held: Vec<Vec<u8>>,
    waiting: Vec<Vec<u8>>,
    sent: Vec<Vec<u8>>,
}

impl Device for Queue {
    fn mac(&self) -> [u8; 6] {
        [2, 0, 0, 0, 0, 2]
    }

    fn mtu(&self) -> u16 {
        1500
    }

    fn rx_burst(&mut self, max: usize) -> usize {
        let n = max.min(self.arrived.len());
        self.held.extend(self.arrived.drain(..n));
        n
    }

    fn rx_frame(&self, index: usize) -> RxFrame<'_> {
        RxFrame {
            bytes: &self.held[index],
            checksum_ok: false,
        }
    }

    fn rx_release(&mut self) {
        self.held.clear();
    }

    fn tx_frame(&mut self, len: usize) -> Option<&mut [u8]> {
        self.waiting.push(vec![0; len]);
        self.waiting.last_mut().map(Vec::as_mut_slice)
    }

    fn tx_queued(&self) -> usize {
        self.waiting.len()
    }

    fn tx_burst(&mut self) -> usize {
        let n = self.waiting.len();
        self.sent.append(&mut self.waiting);
        n
    }

    fn rx_dropped(&mut self) -> u64 {
        0
    }
}

struct Nothing;

impl App for Nothing {
    fn turn<D: Device>(&mut self, _sockets: &mut Sockets<'_, D>) {}
}

/// Two cores, of which the first receives `frames`; after some rounds of both.
fn two_cores(frames: Vec<Vec<u8>>, dispatch_ring: usize) -> Vec<Stack<Queue>> {
    let mut config = FstackConfig::new(SERVER.into(), 24);
    config.dispatch = Dispatch::Flow;
    config.dispatch_ring = dispatch_ring;
    config.tx_delay = std::time::Duration::ZERO;
    let first = Queue {
        arrived: frames,
        ..Queue::default()
    };
    let mut stacks: Vec<_> = [first, Queue::default()]
        .into_iter()
        .map(|queue| Stack::new(config.clone(), queue))
        .collect();
    for stack in &mut stacks {
        stack.listen(PORT, 128).unwrap();
    }
    connect(&mut stacks);
    for ms in 1..10 {
        for stack in &mut stacks {
            stack.round(&mut Nothing, Time::from_millis(ms));
        }
    }
    stacks
}

/// SYNs of `count` connections, and how many of their flows the second core owns.
fn syns(count: usize) -> (Vec<Vec<u8>>, usize) {
    let mut client = Engine::new(Config::new([2, 0, 0, 0, 0, 1], CLIENT.into(), 24));
    let mut out = Frames::default();
    // The client has to know the server's address before it sends anything.
    let reply = arp(2, [2, 0, 0, 0, 0, 2], SERVER, CLIENT);
    let meta = stack_tcp::FrameMeta {
        checksum_ok: false,
        frame_no: 0,
        burst: Burst::now(),
    };
    let mut seconds = 0;
    for _ in 0..count {
        let conn = client
            .connect(Time::ZERO, SERVER.into(), PORT, &mut out)
            .unwrap();
        seconds += client.flow(conn).raw() as usize % 2;
    }
    out.frames.clear();
    client.input(Time::ZERO, &reply, meta, &mut out);
    assert_eq!(out.frames.len(), count);
    (out.frames, seconds)
}

fn arp(operation: u8, mac: [u8; 6], ip: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    if operation == 2 {
        frame.copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    }
    frame.extend(mac);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(mac);
    frame.extend(ip);
    frame.extend([0; 6]);
    frame.extend(to);
    frame
}

/// Of many flows that all come to the first core's queue each is answered by its owner, once.
#[test]
fn misdirected_flows_reach_their_owner() {
    let (frames, seconds) = syns(20);
    assert!(
        seconds > 0 && seconds < 20,
        "both cores own some: {seconds}"
    );
    let stacks = two_cores(frames, 64);
    let answers = |core: usize| stacks[core].device().sent.len();
    assert_eq!((answers(0), answers(1)), (20 - seconds, seconds));
    assert_eq!(stacks[1].engine().connections(), seconds);
}

/// Who asks for the address is heard, and answered, by every core.
#[test]
fn arp_is_for_all_cores() {
    let stacks = two_cores(vec![arp(1, [2, 0, 0, 0, 0, 1], CLIENT, SERVER)], 64);
    for stack in &stacks {
        assert_eq!(stack.device().sent.len(), 1);
    }
}

/// A dispatch ring that is full drops what comes next, and holds nobody up.
#[test]
fn a_full_dispatch_ring_drops() {
    let (frames, seconds) = syns(32);
    let stacks = two_cores(frames, 2);
    assert!(seconds > 2);
    assert_eq!(stacks[0].device().sent.len(), 32 - seconds);
    assert_eq!(stacks[1].device().sent.len(), 2);
}

/// The owner is found by the same label that events carry.
#[test]
fn owners_go_by_the_flow_label() {
    let label = Flow::ipv4(0x0a7b_0001, 49_152, 0x0a7b_0002, PORT);
    let (frames, _) = syns(1);
    let stacks = two_cores(frames, 64);
    let owner = label.raw() as usize % 2;
    assert_eq!(stacks[owner].engine().connections(), 1);
    assert_eq!(stacks[1 - owner].engine().connections(), 0);
}
