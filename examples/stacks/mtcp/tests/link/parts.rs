//! The link, the client and an application that answers with a body.

use stack_mtcp::{
    EpollEvent, Interest, MtcpConfig, MtcpContext, Refused, SockId, Source, Stack, create,
};
use stack_netio::{Device, RxFrame};
use stack_tcp::sink::Frames;
use stack_tcp::{Config, ConnId, Engine, EventKind, FrameMeta, Time};

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const SERVER: [u8; 4] = [10, 123, 0, 2];
pub const PORT: u16 = 8080;
pub const STEP: Duration = Duration::from_micros(50);

#[derive(Default)]
pub struct Wire {
    pub to_stack: VecDeque<Vec<u8>>,
    pub from_stack: VecDeque<Vec<u8>>,
}

pub type Link = Arc<Mutex<Wire>>;

/// The stack's end of the link: room for `room` frames that wait, of which each burst takes `takes`.
pub struct LinkDevice {
    link: Link,
    held: Vec<Vec<u8>>,
    waiting: VecDeque<Vec<u8>>,
    room: usize,
    takes: usize,
}

impl LinkDevice {
    pub fn new(link: &Link, room: usize, takes: usize) -> LinkDevice {
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
        let arrived = &mut self.link.lock().unwrap().to_stack;
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
        let mut wire = self.link.lock().unwrap();
        wire.from_stack.extend(self.waiting.drain(..n));
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

/// An application that answers a request of a given length with a body, in pieces of 8 KiB.
pub struct Bodies {
    body: Vec<u8>,
    /// Bytes of a request.
    pub request: usize,
    /// Bytes of one read.
    pub read_at_once: usize,
    /// Bytes read and bytes written, by stream.
    streams: HashMap<SockId, (usize, usize)>,
    events: Vec<EpollEvent>,
    /// Streams that were told to be over.
    pub ended: usize,
}

const READABLE: Interest = Interest {
    readable: true,
    writable: false,
};
const WRITABLE: Interest = Interest {
    readable: false,
    writable: true,
};

impl Bodies {
    pub fn new(len: usize) -> Bodies {
        Bodies {
            body: (0..len).map(body_byte).collect(),
            request: 1,
            read_at_once: 64,
            streams: HashMap::new(),
            events: MtcpContext::batch(64),
            ended: 0,
        }
    }

    /// Streams that are not closed yet.
    pub fn open(&self) -> usize {
        self.streams.len()
    }

    /// One turn of the application, which finds what is there and does not wait.
    pub fn turn(&mut self, mtcp: &mut MtcpContext) {
        let found = mtcp.mtcp_epoll_wait(&mut self.events, Some(Duration::ZERO));
        self.handle(found.unwrap(), mtcp);
    }

    /// The same after a wait; whether the stack is still there.
    pub fn wait(&mut self, mtcp: &mut MtcpContext) -> bool {
        match mtcp.mtcp_epoll_wait(&mut self.events, None) {
            Some(found) => {
                self.handle(found, mtcp);
                true
            }
            None => false,
        }
    }

    fn handle(&mut self, found: usize, mtcp: &mut MtcpContext) {
        for index in 0..found {
            let event = self.events[index];
            match event.source {
                Source::Listener => {
                    while let Some(accepted) = mtcp.mtcp_accept() {
                        assert_eq!(accepted.port, PORT);
                        self.streams.insert(accepted.sock, (0, 0));
                        mtcp.mtcp_epoll_ctl(accepted.sock, READABLE);
                    }
                }
                Source::Stream(sock) => self.serve(sock, event, mtcp),
            }
        }
    }

    fn serve(&mut self, sock: SockId, event: EpollEvent, mtcp: &mut MtcpContext) {
        let Some((read, written)) = self.streams.get_mut(&sock) else {
            return;
        };
        self.ended += usize::from(event.ended);
        let mut buffer = vec![0; self.read_at_once];
        let mut over = event.ended;
        if event.readable {
            match mtcp.mtcp_read(sock, &mut buffer) {
                Ok(0) => over = true,
                Ok(n) => *read += n,
                Err(Refused::Again) => {}
                Err(why) => panic!("{why}"),
            }
        }
        while *read >= self.request && *written < self.body.len() {
            let rest = &self.body[*written..];
            match mtcp.mtcp_write(sock, &rest[..rest.len().min(8192)]) {
                Ok(n) => *written += n,
                Err(Refused::Again) => {
                    mtcp.mtcp_epoll_ctl(sock, WRITABLE);
                    break;
                }
                // The client is gone.
                Err(_) => break,
            }
        }
        if *written == self.body.len() && event.writable {
            mtcp.mtcp_epoll_ctl(sock, READABLE);
        }
        if over {
            self.streams.remove(&sock);
            mtcp.mtcp_close(sock);
        }
    }
}

/// The client's side: an engine without a stack around it.
pub struct Client {
    pub engine: Engine,
    pub out: Frames,
    got: HashMap<ConnId, usize>,
    body: usize,
    request: Vec<u8>,
    unsent: HashMap<ConnId, usize>,
    pub whole: usize,
    /// Connections that the server ended.
    pub ended: usize,
}

impl Client {
    pub fn new(body: usize, request: usize) -> Client {
        let mut config = Config::new([2, 0, 0, 0, 0, 1], [10, 123, 0, 1].into(), 24);
        config.policy.rto.min = Duration::from_millis(30);
        Client {
            engine: Engine::new(config),
            out: Frames::default(),
            got: HashMap::new(),
            body,
            request: vec![b'?'; request],
            unsent: HashMap::new(),
            whole: 0,
            ended: 0,
        }
    }

    pub fn connect(&mut self, now: Time) {
        let conn = self.engine.connect(now, SERVER.into(), PORT, &mut self.out);
        self.got.insert(conn.unwrap(), 0);
    }

    pub fn handle_events(&mut self, now: Time) {
        while let Some(event) = self.engine.pop_event() {
            let conn = event.conn;
            match event.kind {
                EventKind::Connected => {
                    self.unsent.insert(conn, self.request.len());
                    self.ask(conn, now);
                }
                EventKind::Writable => self.ask(conn, now),
                EventKind::Readable => self.read(conn, now),
                EventKind::Closed(_) => {
                    self.ended += 1;
                    self.engine.close(conn, now, &mut self.out);
                }
                _ => {}
            }
        }
    }

    fn ask(&mut self, conn: ConnId, now: Time) {
        let left = self.unsent.get_mut(&conn).unwrap();
        *left -= self.engine.write(conn, &self.request[..*left]).unwrap();
        self.engine.output(conn, now, &mut self.out);
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

    pub fn take(&mut self, frame: &[u8], now: Time) {
        let meta = FrameMeta {
            checksum_ok: false,
            frame_no: 0,
            burst: bypassprof_probe::Burst::now(),
        };
        self.engine.input(now, frame, meta, &mut self.out);
    }
}

/// Streams whose send buffer has so many bytes.
pub fn config(send_buffer: usize) -> MtcpConfig {
    let mut config = MtcpConfig::new(SERVER.into(), 24);
    config.policy.send_buffer = send_buffer;
    config
}

/// Runs `connections` to their ends; one frame in `lose_one_in` is lost each way. The stack afterwards.
pub fn run(
    config: MtcpConfig,
    device: impl FnOnce(&Link) -> LinkDevice,
    (connections, body): (usize, usize),
    lose_one_in: Option<u64>,
) -> Stack<LinkDevice> {
    let limit = Duration::from_secs(300);
    run_app(
        config,
        device,
        Bodies::new(body),
        (connections, body),
        lose_one_in,
        limit,
    )
}

/// The same with an application of the test's own, within `limit` of the link's time.
pub fn run_app(
    config: MtcpConfig,
    device: impl FnOnce(&Link) -> LinkDevice,
    mut app: Bodies,
    (connections, body): (usize, usize),
    lose_one_in: Option<u64>,
    limit: Duration,
) -> Stack<LinkDevice> {
    let link = Link::default();
    let (mut stack, mut mtcp) = create(config, device(&link), 0);
    stack.listen(PORT).unwrap();
    let mut client = Client::new(body, app.request);
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
    while now.since(Time::ZERO) < limit {
        now = now + STEP;
        for frame in client.out.frames.drain(..) {
            if !lost() {
                link.lock().unwrap().to_stack.push_back(frame);
            }
        }
        stack.round(now);
        app.turn(&mut mtcp);
        let arrived: Vec<_> = link.lock().unwrap().from_stack.drain(..).collect();
        for frame in arrived {
            if !lost() {
                client.take(&frame, now);
            }
        }
        client.engine.poll_timers(now, &mut client.out);
        client.handle_events(now);
        if client.whole == connections && app.open() == 0 {
            return stack;
        }
    }
    panic!("{} of {connections} bodies came whole", client.whole);
}
