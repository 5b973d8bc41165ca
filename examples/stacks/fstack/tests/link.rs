//! The stack against a client engine over a link in memory, in time that the test makes: intact bodies, whatever is lost.

use stack_fstack::{App, FstackConfig, Kevent, Kqueue, Sockets, Stack};
use stack_netio::{Device, RxFrame};
use stack_tcp::sink::Frames;
use stack_tcp::{Config, ConnId, Engine, EventKind, FrameMeta, Time};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

const SERVER: [u8; 4] = [10, 123, 0, 2];
const PORT: u16 = 8080;
const STEP: Duration = Duration::from_micros(20);

#[derive(Default)]
struct Link {
    to_stack: VecDeque<Vec<u8>>,
    from_stack: VecDeque<Vec<u8>>,
}

/// The stack's end of the link: room for `room` frames that wait, of which each burst takes `takes`.
struct LinkDevice {
    link: Rc<RefCell<Link>>,
    held: Vec<Vec<u8>>,
    waiting: VecDeque<Vec<u8>>,
    room: usize,
    takes: usize,
}

impl LinkDevice {
    fn new(link: &Rc<RefCell<Link>>, room: usize, takes: usize) -> LinkDevice {
        LinkDevice {
            link: link.clone(),
            held: Vec::new(),
            waiting: VecDeque::new(),
            room,
            takes,
        }
    }
}

impl Device for LinkDevice {
    fn mac(&self) -> [u8; 6] {
        [2, 0, 0, 0, 0, 2]
    }

    fn mtu(&self) -> u16 {
        1500
    }

    fn rx_burst(&mut self, max: usize) -> usize {
        assert!(self.held.is_empty(), "frames of the last burst are held");
        let arrived = &mut self.link.borrow_mut().to_stack;
        let n = max.min(arrived.len());
        self.held.extend(arrived.drain(..n));
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
        if self.waiting.len() == self.room {
            return None;
        }
        self.waiting.push_back(vec![0; len]);
        self.waiting.back_mut().map(Vec::as_mut_slice)
    }

    fn tx_queued(&self) -> usize {
        self.waiting.len()
    }

    fn tx_burst(&mut self) -> usize {
        let n = self.takes.min(self.waiting.len());
        self.link
            .borrow_mut()
            .from_stack
            .extend(self.waiting.drain(..n));
        n
    }

    fn rx_dropped(&mut self) -> u64 {
        0
    }
}

/// A byte of the body that depends on its place, so that nothing can change places unseen.
fn body_byte(at: usize) -> u8 {
    (at ^ (at >> 8) ^ (at >> 16)) as u8
}

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
            body: (0..len).map(body_byte).collect(),
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

/// The client's side: an engine without a stack around it.
struct Client {
    engine: Engine,
    out: Frames,
    got: HashMap<ConnId, usize>,
    body: usize,
    whole: usize,
}

impl Client {
    fn new(body: usize) -> Client {
        let mut config = Config::new([2, 0, 0, 0, 0, 1], [10, 123, 0, 1].into(), 24);
        config.policy.rto.min = Duration::from_millis(30);
        Client {
            engine: Engine::new(config),
            out: Frames::default(),
            got: HashMap::new(),
            body,
            whole: 0,
        }
    }

    fn connect(&mut self, now: Time) {
        let conn = self.engine.connect(now, SERVER.into(), PORT, &mut self.out);
        self.got.insert(conn.unwrap(), 0);
    }

    fn handle_events(&mut self, now: Time) {
        while let Some(event) = self.engine.pop_event() {
            match event.kind {
                EventKind::Connected => {
                    self.engine.write(event.conn, b"?").unwrap();
                    self.engine.output(event.conn, now, &mut self.out);
                }
                EventKind::Readable => self.read(event.conn, now),
                EventKind::Closed(why) => panic!("a connection ended: {why:?}"),
                _ => {}
            }
        }
    }

    fn read(&mut self, conn: ConnId, now: Time) {
        let mut buffer = [0; 4096];
        loop {
            let n = self.engine.read(conn, &mut buffer, now, &mut self.out);
            let got = self.got.get_mut(&conn).unwrap();
            let right = buffer[..n].iter().enumerate();
            assert!(right.into_iter().all(|(i, &b)| b == body_byte(*got + i)));
            *got += n;
            assert!(*got <= self.body);
            if n == 0 {
                return;
            }
            if *got == self.body {
                self.whole += 1;
                self.engine.close(conn, now, &mut self.out);
            }
        }
    }
}

/// Runs `connections` to their ends; one frame in `lose_one_in` is lost each way. The stack and its application.
fn run(
    config: FstackConfig,
    device: impl FnOnce(&Rc<RefCell<Link>>) -> LinkDevice,
    (connections, body): (usize, usize),
    lose_one_in: Option<u64>,
) -> (Stack<LinkDevice>, Bodies) {
    let link = Rc::new(RefCell::new(Link::default()));
    let mut stack = Stack::new(config, device(&link));
    stack.listen(PORT, 128).unwrap();
    let (mut app, mut client) = (Bodies::new(body), Client::new(body));
    let mut now = Time::ZERO;
    for _ in 0..connections {
        client.connect(now);
    }
    let mut random = 0x1234_5678_9abc_def0_u64;
    let mut lost = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        lose_one_in.is_some_and(|n| random.is_multiple_of(n))
    };
    // Two minutes of the link's time; a link that works needs far less.
    for _ in 0..6_000_000 {
        now = now + STEP;
        for frame in client.out.frames.drain(..) {
            if !lost() {
                link.borrow_mut().to_stack.push_back(frame);
            }
        }
        stack.round(&mut app, now);
        let arrived: Vec<_> = link.borrow_mut().from_stack.drain(..).collect();
        for frame in arrived {
            if !lost() {
                let meta = FrameMeta {
                    checksum_ok: false,
                    frame_no: 0,
                    burst: bypassprof_probe::Burst::now(),
                };
                client.engine.input(now, &frame, meta, &mut client.out);
            }
        }
        client.engine.poll_timers(now, &mut client.out);
        client.handle_events(now);
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
    let device = |link: &_| LinkDevice::new(link, 1024, 1024);
    let (stack, _) = run(config(), device, (64, 64), None);
    assert_eq!(stack.engine().counters().accepted, 64);
    let (stack, _) = run(config(), device, (4, 1 << 20), None);
    assert_eq!(stack.engine().counters().retransmits, 0);
}

/// They do where one frame in fifty is lost, by retransmission.
#[test]
fn bodies_survive_loss() {
    let device = |link: &_| LinkDevice::new(link, 1024, 1024);
    let (stack, _) = run(config(), device, (8, 1 << 20), Some(50));
    assert!(stack.engine().counters().retransmits > 0);
}

/// They do through a device with room for less than a batch: what it refuses comes again.
#[test]
fn bodies_survive_a_full_device() {
    let device = |link: &_| LinkDevice::new(link, 20, 20);
    let (stack, _) = run(config(), device, (8, 200_000), None);
    assert!(stack.engine().counters().sink_full > 0);
}

/// A single frame waits for the drain timer; with no delay it leaves with its round.
#[test]
fn lone_frames_wait_for_the_drain_timer() {
    for (delay, rounds) in [(100, 5), (0, 1)] {
        let link = Rc::new(RefCell::new(Link::default()));
        let mut config = config();
        config.tx_delay = Duration::from_micros(delay);
        let mut stack = Stack::new(config, LinkDevice::new(&link, 64, 64));
        let mut app = Bodies::new(1);
        let mut now = Time::from_millis(1);
        stack.round(&mut app, now);
        let mut side = stack.injector(1);
        side.hand_over(arp_request()).unwrap();
        let mut waited = 0;
        while link.borrow().from_stack.is_empty() {
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
    let link = Rc::new(RefCell::new(Link::default()));
    let mut stack = Stack::new(config(), LinkDevice::new(&link, 64, 64));
    let mut app = Bodies::new(1);
    let mut now = Time::ZERO;
    for _ in 0..50 {
        now = now + STEP;
        stack.round(&mut app, now);
    }
    assert_eq!(app.turns, 10);
    link.borrow_mut().to_stack.push_back(arp_request());
    now = now + STEP;
    assert!(stack.round(&mut app, now));
    assert_eq!(app.turns, 11);
}

/// The side ring's frames leave as they are if it is polled, and stay where they are if not.
#[test]
fn side_ring_is_polled_only_by_choice() {
    for poll in [true, false] {
        let link = Rc::new(RefCell::new(Link::default()));
        let mut config = config();
        config.side_poll = poll;
        let mut stack = Stack::new(config, LinkDevice::new(&link, 64, 64));
        let mut side = stack.side_injector().unwrap();
        side.hand_over(vec![7; 60]).unwrap();
        let mut app = Bodies::new(1);
        stack.round(&mut app, Time::from_millis(1));
        stack.round(&mut app, Time::from_millis(2));
        let expected: &[Vec<u8>] = if poll { &[vec![7; 60]] } else { &[] };
        assert_eq!(link.borrow().from_stack, expected);
    }
}

/// Who has 10.123.0.2? Tell 10.123.0.1.
fn arp_request() -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend([2, 0, 0, 0, 0, 1, 10, 123, 0, 1]);
    frame.extend([0; 6]);
    frame.extend(SERVER);
    frame
}
