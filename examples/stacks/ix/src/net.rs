//! What the application's handler may do: look at received bytes and put calls down for the next round (IX's `ixev`).
//!
//! In: calls from inside a handler; out: entries of the call array. Nothing reaches TCP before the handler has returned
//! and the next round begins. It refuses to hold bytes: what is sent stays in the application's memory.

use crate::calls::{Call, Calls};
use crate::pcbs::{Pcb, Pcbs};
use bypassprof_probe::{self as probe, Flow, points};
use stack_tcp::{ConnId, Engine};

/// Bytes of the application's memory, by its own names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Which buffer of the connection.
    pub buffer: u32,
    /// Where in it.
    pub at: usize,
    /// How many bytes.
    pub len: usize,
}

/// A core's network as its application sees it, for the length of one handler.
pub struct Net<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) pcbs: &'a mut Pcbs,
    pub(crate) calls: &'a mut Calls,
    /// Bytes a connection may have sent and not seen acknowledged.
    pub(crate) window: usize,
}

impl Net<'_> {
    /// Takes a connection that knocked.
    pub fn accept(&mut self, conn: ConnId) {
        self.calls.array.push(Call::Accept(conn));
    }

    /// Received bytes that lie together and were not given back yet, where TCP has put them. Where a connection has more
    /// that do not lie together with these, `Recv` is told again after they have been given back.
    #[inline]
    pub fn received(&self, conn: ConnId) -> &[u8] {
        let done = self.pcbs.get(conn).map_or(0, |pcb| pcb.done);
        let bytes = self.engine.peek(conn).unwrap_or(&[]);
        bytes.get(done..).unwrap_or(&[])
    }

    /// Bytes received, told and not given back, wherever they lie.
    pub fn unread(&self, conn: ConnId) -> usize {
        let pcb = self.pcbs.get(conn);
        pcb.map_or(0, |pcb| pcb.told.saturating_sub(pcb.done))
    }

    /// Gives the first `bytes` of the received bytes back.
    #[inline(never)]
    pub fn ixev_recv_done(&mut self, conn: ConnId, bytes: usize) {
        if let Some(pcb) = self.pcbs.get_mut(conn)
            && bytes > 0
        {
            if pcb.done == 0 {
                self.calls.array.push(Call::RecvDone(conn));
            }
            pcb.done += bytes;
        }
    }

    /// Sends bytes of the application's memory, which must not change until they are acknowledged: how many were taken.
    /// Fewer than offered means that the connection's 64 KiB are in use; `Sent` tells when there is room again.
    #[inline(never)]
    pub fn ixev_send(&mut self, conn: ConnId, piece: Piece) -> usize {
        let Some(pcb) = self
            .pcbs
            .get_mut(conn)
            .filter(|pcb| !pcb.closing && !pcb.ending)
        else {
            return 0;
        };
        let left = self.window.saturating_sub(pcb.unacked);
        let accepted = piece.len.min(left);
        if probe::enabled() {
            let flow = self.engine.flow(conn);
            let more = [as_u32(accepted), as_u32(left), 0];
            probe::emit_with(points::SEND_CALL, flow, as_u32(piece.len), more);
            if accepted < piece.len {
                probe::emit_with(points::FULL, flow, as_u32(self.window), [3, 0, 0]);
            }
        }
        if accepted == 0 {
            return 0;
        }
        if pcb.pieces.is_empty() {
            self.calls.array.push(Call::Sendv(conn));
        }
        pcb.unacked += accepted;
        let len = accepted;
        match pcb.pieces.last_mut() {
            Some(last) if last.buffer == piece.buffer && last.at + last.len == piece.at => {
                last.len += len;
            }
            _ => pcb.pieces.push(Piece { len, ..piece }),
        }
        accepted
    }

    /// Bytes sent that are not acknowledged: their memory is not the application's yet.
    pub fn unacknowledged(&self, conn: ConnId) -> usize {
        self.pcbs.get(conn).map_or(0, |pcb| pcb.unacked)
    }

    /// Sends FIN after what was sent; reading goes on.
    pub fn shutdown(&mut self, conn: ConnId) {
        let open = |pcb: &&mut Pcb| !pcb.closing && !pcb.ending;
        if let Some(pcb) = self.pcbs.get_mut(conn).filter(open) {
            pcb.ending = true;
            self.calls.array.push(Call::Shutdown(conn));
        }
    }

    /// Gives the connection back: FIN after what was sent. Nothing more is told of it; its memory must stay until
    /// [`crate::App::closed`] says so.
    pub fn close(&mut self, conn: ConnId) {
        if let Some(pcb) = self.pcbs.get_mut(conn).filter(|pcb| !pcb.closing) {
            pcb.closing = true;
            self.calls.array.push(Call::Close(conn));
        }
    }

    /// The connection's label in events.
    pub fn flow(&self, conn: ConnId) -> Flow {
        self.engine.flow(conn)
    }
}

fn as_u32(bytes: usize) -> u32 {
    bytes.min(u32::MAX as usize) as u32
}
