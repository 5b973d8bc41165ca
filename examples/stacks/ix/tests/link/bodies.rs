//! Both applications: the stack's answers whatever it is sent with one body, the client checks every byte of it.

use crate::link::{CLIENT, PORT, SERVER};
use stack_ix::{App, Condition, Net, Piece, What};
use stack_tcp::sink::Frames;
use stack_tcp::{Closing, Config, ConnId, Engine, EventKind, FrameMeta, Time};
use std::collections::HashMap;
use std::time::Duration;

/// A byte of the body that depends on its place, so that nothing can change places unseen.
fn body_byte(at: usize) -> u8 {
    (at ^ (at >> 8) ^ (at >> 16)) as u8
}

/// Sends the body on each connection from memory of the connection's own, which it spoils once it may.
pub struct Bodies {
    body: Vec<u8>,
    own: HashMap<ConnId, Own>,
    /// Everything that was told, in order.
    pub told: Vec<What>,
    pub taken: usize,
    pub given_back: usize,
    pub outstanding_at_close: usize,
    pub most_outstanding: usize,
    pub closed: usize,
    /// Whether there are replies at all.
    pub answers: bool,
}

#[derive(Default)]
struct Own {
    memory: Vec<u8>,
    asked: bool,
    sent: usize,
    acknowledged: usize,
}

impl Bodies {
    pub fn new(len: usize) -> Bodies {
        Bodies {
            body: (0..len).map(body_byte).collect(),
            own: HashMap::new(),
            told: Vec::new(),
            taken: 0,
            given_back: 0,
            outstanding_at_close: 0,
            most_outstanding: 0,
            closed: 0,
            answers: true,
        }
    }

    /// Connections that are not closed.
    pub fn open(&self) -> usize {
        self.own.len()
    }
}

impl App for Bodies {
    fn handle(&mut self, Condition { conn, what }: Condition, net: &mut Net<'_>) {
        self.told.push(what);
        if what == What::Knock {
            let memory = self.body.clone();
            let own = Own {
                memory,
                ..Own::default()
            };
            self.own.insert(conn, own);
            return net.accept(conn);
        }
        let own = self.own.get_mut(&conn).expect("told before it knocked");
        match what {
            What::Knock => {}
            What::Recv(bytes) => {
                assert_eq!(net.received(conn).len(), bytes);
                net.ixev_recv_done(conn, bytes);
                assert!(net.received(conn).is_empty() && net.unread(conn) == 0);
                own.asked = self.answers;
            }
            What::Sent(bytes) => {
                self.given_back += bytes;
                let before = own.acknowledged;
                own.acknowledged += bytes;
                own.memory[before..own.acknowledged].fill(0xee);
            }
            What::Ended | What::Dead(_) => {}
        }
        if own.asked {
            let piece = Piece {
                buffer: 0,
                at: own.sent,
                len: self.body.len() - own.sent,
            };
            let taken = net.ixev_send(conn, piece);
            own.sent += taken;
            self.taken += taken;
        }
        self.most_outstanding = self.most_outstanding.max(net.unacknowledged(conn));
        let all_sent = own.sent == self.body.len();
        if matches!(what, What::Dead(_)) || (what == What::Ended && all_sent) {
            self.outstanding_at_close += net.unacknowledged(conn);
            net.close(conn);
        }
    }

    fn memory(&self, conn: ConnId, piece: Piece) -> &[u8] {
        &self.own[&conn].memory[piece.at..piece.at + piece.len]
    }

    fn closed(&mut self, conn: ConnId) {
        self.closed += 1;
        self.own.remove(&conn).expect("closed once");
    }
}

/// When the client ends its half.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// When it has its body.
    WhenWhole,
    /// Together with its request.
    WithItsRequest,
}

/// The client's side: an engine without a stack around it.
pub struct Client {
    engine: Engine,
    out: Frames,
    got: HashMap<ConnId, usize>,
    body: usize,
    pub ends: Ends,
    pub whole: usize,
    pub resets_expected: bool,
    pub resets: usize,
}

impl Client {
    pub fn new(body: usize) -> Client {
        let mut config = Config::new([2, 0, 0, 0, 0, 1], CLIENT.into(), 24);
        config.policy.rto.min = Duration::from_millis(30);
        Client {
            engine: Engine::new(config),
            out: Frames::default(),
            got: HashMap::new(),
            body,
            ends: Ends::WhenWhole,
            whole: 0,
            resets_expected: false,
            resets: 0,
        }
    }

    pub fn connect(&mut self, now: Time) {
        let conn = self.engine.connect(now, SERVER.into(), PORT, &mut self.out);
        self.got.insert(conn.unwrap(), 0);
    }

    pub fn take_frames(&mut self) -> Vec<Vec<u8>> {
        self.out.frames.drain(..).collect()
    }

    pub fn receive(&mut self, now: Time, frame: &[u8]) {
        let meta = FrameMeta {
            checksum_ok: false,
            frame_no: 0,
            burst: bypassprof_probe::Burst::now(),
        };
        self.engine.input(now, frame, meta, &mut self.out);
    }

    /// Runs timers and handles events.
    pub fn go_on(&mut self, now: Time) {
        self.engine.poll_timers(now, &mut self.out);
        while let Some(event) = self.engine.pop_event() {
            match event.kind {
                EventKind::Connected => {
                    self.engine.write(event.conn, b"?").unwrap();
                    self.engine.output(event.conn, now, &mut self.out);
                    if self.ends == Ends::WithItsRequest {
                        self.engine.shutdown(event.conn, now, &mut self.out);
                    }
                }
                EventKind::Readable => self.read(event.conn, now),
                EventKind::Closed(Closing::Reset) if self.resets_expected => {
                    self.resets += 1;
                    self.engine.close(event.conn, now, &mut self.out);
                }
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
            let mut right = buffer[..n].iter().enumerate();
            assert!(right.all(|(i, &b)| b == body_byte(*got + i)));
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
