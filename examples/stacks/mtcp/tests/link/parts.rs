//! An application that answers with a body, and a run of it.

use stack_memlink::{Client, Link, LinkDevice, Loss, PORT, SERVER, body};
use stack_mtcp::{
    EpollEvent, Interest, MtcpConfig, MtcpContext, Refused, SockId, Source, Stack, create,
};
use stack_tcp::Time;
use std::collections::HashMap;
use std::time::Duration;

pub const STEP: Duration = Duration::from_micros(50);

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
            body: body(len),
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

/// Streams whose send buffer has so many bytes.
pub fn config(send_buffer: usize) -> MtcpConfig {
    let mut config = MtcpConfig::new(SERVER.into(), 24);
    config.policy.send_buffer = send_buffer;
    config
}

/// Runs `connections` to their ends; one frame in `lose_one_in` is lost each way. The stack afterwards.
pub fn run(
    config: MtcpConfig,
    room: (usize, usize),
    (connections, body): (usize, usize),
    lose_one_in: Option<u64>,
) -> Stack<LinkDevice> {
    let limit = Duration::from_secs(300);
    run_app(
        config,
        room,
        Bodies::new(body),
        (connections, body),
        lose_one_in,
        limit,
    )
}

/// The same with an application of the test's own, within `limit` of the link's time.
pub fn run_app(
    config: MtcpConfig,
    room: (usize, usize),
    mut app: Bodies,
    (connections, body): (usize, usize),
    lose_one_in: Option<u64>,
    limit: Duration,
) -> Stack<LinkDevice> {
    let link = Link::default();
    let (mut stack, mut mtcp) = create(config, LinkDevice::new(&link, room.0, room.1), 0);
    stack.listen(PORT).unwrap();
    let mut client = Client::new(body, app.request);
    let mut now = Time::ZERO;
    for _ in 0..connections {
        client.connect(now);
    }
    let mut loss = Loss::one_in(lose_one_in);
    while now.since(Time::ZERO) < limit {
        now = now + STEP;
        client.send(&link, &mut loss);
        stack.round(now);
        app.turn(&mut mtcp);
        client.receive(&link, &mut loss, now);
        if client.whole == connections && app.open() == 0 {
            return stack;
        }
    }
    panic!("{} of {connections} bodies came whole", client.whole);
}
