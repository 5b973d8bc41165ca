//! The client's side: an engine without a stack around it, which asks on each connection and checks the body it gets.

use crate::{CLIENT, CLIENT_MAC, Link, Loss, PORT, SERVER, body_byte};
use stack_tcp::sink::Frames;
use stack_tcp::{Closing, Config, ConnId, Engine, EventKind, FrameMeta, Time};
use std::collections::HashMap;
use std::time::Duration;

/// When the client ends its half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// When it has its body.
    WhenWhole,
    /// Together with its request.
    WithItsRequest,
}

/// One request's way: bytes of it that are left, bytes of its body that came.
#[derive(Clone, Copy, Debug)]
struct Fetch {
    unsent: usize,
    got: usize,
}

/// A client of a stack under test.
pub struct Client {
    /// Its TCP.
    pub engine: Engine,
    out: Frames,
    fetches: HashMap<ConnId, Fetch>,
    request: Vec<u8>,
    body: usize,
    /// When it ends its half.
    pub ends: Ends,
    /// Bodies that came whole.
    pub whole: usize,
    /// Connections that ended otherwise than by the client's own close.
    pub ended: Vec<Closing>,
}

impl Client {
    /// A client that asks with `request` bytes for bodies of `body` bytes.
    pub fn new(body: usize, request: usize) -> Client {
        let mut config = Config::new(CLIENT_MAC, CLIENT.into(), 24);
        config.policy.rto.min = Duration::from_millis(30);
        Client {
            engine: Engine::new(config),
            out: Frames::default(),
            fetches: HashMap::new(),
            request: vec![b'?'; request],
            body,
            ends: Ends::WhenWhole,
            whole: 0,
            ended: Vec::new(),
        }
    }

    /// Opens a connection.
    pub fn connect(&mut self, now: Time) -> ConnId {
        let conn = self.engine.connect(now, SERVER.into(), PORT, &mut self.out);
        let conn = conn.expect("a client has ports enough");
        let unsent = self.request.len();
        self.fetches.insert(conn, Fetch { unsent, got: 0 });
        conn
    }

    /// What it has to send.
    pub fn take_frames(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.out.frames)
    }

    /// Puts what it has to send on the link.
    pub fn send(&mut self, link: &Link, loss: &mut Loss) {
        let frames = self.take_frames().into_iter();
        link.put(frames.filter(|_| !loss.hits()));
    }

    /// Takes what came over the link, runs timers and handles what happened; the frames that came.
    pub fn receive(&mut self, link: &Link, loss: &mut Loss, now: Time) -> Vec<Vec<u8>> {
        let frames = link.take();
        for frame in &frames {
            if !loss.hits() {
                self.input(frame, now);
            }
        }
        self.engine.poll_timers(now, &mut self.out);
        self.handle_events(now);
        frames
    }

    /// Takes one frame.
    pub fn input(&mut self, frame: &[u8], now: Time) {
        let meta = FrameMeta {
            checksum_ok: false,
            frame_no: 0,
            burst: bypassprof_probe::Burst::now(),
        };
        self.engine.input(now, frame, meta, &mut self.out);
    }

    fn handle_events(&mut self, now: Time) {
        while let Some(event) = self.engine.pop_event() {
            let conn = event.conn;
            match event.kind {
                EventKind::Connected => {
                    self.ask(conn, now);
                    if self.ends == Ends::WithItsRequest {
                        self.engine.shutdown(conn, now, &mut self.out);
                    }
                }
                EventKind::Writable => self.ask(conn, now),
                EventKind::Readable => self.read(conn, now),
                EventKind::Closed(why) => {
                    self.ended.push(why);
                    self.engine.close(conn, now, &mut self.out);
                }
                _ => {}
            }
        }
    }

    fn ask(&mut self, conn: ConnId, now: Time) {
        if let Some(fetch) = self.fetches.get_mut(&conn)
            && let Ok(taken) = self.engine.write(conn, &self.request[..fetch.unsent])
        {
            fetch.unsent -= taken;
            self.engine.output(conn, now, &mut self.out);
        }
    }

    fn read(&mut self, conn: ConnId, now: Time) {
        let Some(fetch) = self.fetches.get_mut(&conn) else {
            return;
        };
        let mut buffer = [0; 4096];
        loop {
            let n = self.engine.read(conn, &mut buffer, now, &mut self.out);
            if n == 0 {
                return;
            }
            let mut right = buffer[..n].iter().enumerate();
            assert!(right.all(|(i, &b)| b == body_byte(fetch.got + i)));
            fetch.got += n;
            assert!(fetch.got <= self.body);
            if fetch.got == self.body {
                self.whole += 1;
                self.engine.close(conn, now, &mut self.out);
            }
        }
    }
}
