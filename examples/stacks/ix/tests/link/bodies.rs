//! The application: answers whatever it is sent with one body.

use stack_ix::{App, Condition, Net, Piece, What};
use stack_memlink::body;
use stack_tcp::ConnId;
use std::collections::HashMap;

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
            body: body(len),
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
