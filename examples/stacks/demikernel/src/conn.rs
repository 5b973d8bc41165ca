//! One accepted connection: what was popped and not read, what was pushed and not acknowledged.
//!
//! In: completions; out: operations for the application's calls. A queue descriptor has no half-close: whoever ends his
//! own side closes the connection once all that he pushed was acknowledged.
#![allow(unsafe_code)]

use crate::layer1::only_segment;
use crate::tokens::{Op, Tokens, Whose};
use bypassprof_probe::{self as probe, Flow, points};
use demikernel::{LibOS, QDesc, demi_sgarray_t};
use stack_border::Connection;
use std::collections::VecDeque;
use std::net::SocketAddrV4;

/// What the stack keeps of a connection.
pub struct Entry {
    pub whose: Whose,
    pub qd: QDesc,
    pub peer: SocketAddrV4,
    pub flow: Flow,
    /// All bytes popped since it was accepted, and how many there will be, once the peer has ended.
    pub popped: u32,
    pub length: Option<u32>,
    /// Popped bytes, oldest first, each with how many of them were read.
    pub unread: VecDeque<(Popped, usize)>,
    pub popping: bool,
    /// Pushes under way and their bytes.
    pub pushes: usize,
    pub pushed: usize,
    /// All bytes pushed since it was accepted.
    pub total: u32,
    pub is_new: bool,
    /// Nothing more is to be read: the peer ended, or we did.
    pub ended: bool,
    /// It was done before all that came was read.
    pub left_unread: bool,
    /// Nothing can be sent any more: an operation failed.
    pub broken: bool,
    /// The application is done with it.
    pub done: bool,
    /// It closes once the peer has everything.
    pub ending: bool,
    pub closing: bool,
    /// Time of the loop, in ns, after which the peer is hung up on; set when the close begins.
    pub patience: u64,
    /// The counter when `stall` was told of last; 0: not since something was sent.
    pub stall_told: u64,
}

impl Entry {
    /// A connection that was accepted just now.
    pub fn new(whose: Whose, qd: QDesc, peer: SocketAddrV4, flow: Flow) -> Entry {
        Entry {
            whose,
            qd,
            peer,
            flow,
            popped: 0,
            length: None,
            unread: VecDeque::new(),
            popping: false,
            pushes: 0,
            pushed: 0,
            total: 0,
            is_new: true,
            ended: false,
            left_unread: false,
            broken: false,
            done: false,
            ending: false,
            closing: false,
            patience: 0,
            stall_told: 0,
        }
    }
}

/// The buffer of a pop that is complete; freed by [`Popped::free`].
pub struct Popped(demi_sgarray_t);

impl Popped {
    /// Takes the array of a pop's result.
    pub fn new(array: demi_sgarray_t) -> Popped {
        Popped(array)
    }

    /// Its bytes; none at the end of the peer's stream.
    pub fn bytes(&self) -> &[u8] {
        let segment = only_segment(&self.0);
        let (start, len) = (segment.sgaseg_buf, segment.sgaseg_len as usize);
        if start.is_null() || len == 0 {
            return &[];
        }
        // SAFETY: the array came from a pop that succeeded and was not freed: it holds a reference to the buffer, which
        // nobody writes to any more.
        unsafe { std::slice::from_raw_parts(start.cast(), len) }
    }

    /// Gives the buffer back.
    pub fn free(self, os: &mut LibOS) {
        // Fails only for arrays that are not the stack's.
        let _ = os.sgafree(self.0);
    }
}

/// How the application's bytes are pushed.
#[derive(Clone, Copy, Debug)]
pub struct Pushing {
    /// Bytes of one push.
    pub piece: usize,
    /// Pushes under way on one connection.
    pub most: usize,
}

/// A connection in the application's turn.
pub struct Conn<'a> {
    pub entry: &'a mut Entry,
    pub os: &'a mut LibOS,
    pub tokens: &'a mut Tokens,
    pub pushing: Pushing,
}

impl Conn<'_> {
    /// One push; whether it began.
    fn push(&mut self, bytes: &[u8]) -> bool {
        let Ok(array) = self.os.sgaalloc(bytes.len()) else {
            return false;
        };
        let segment = only_segment(&array);
        // SAFETY: the array was allocated for so many bytes just now, and is ours alone until it is pushed.
        unsafe {
            let room = std::slice::from_raw_parts_mut(segment.sgaseg_buf.cast(), bytes.len());
            room.copy_from_slice(bytes);
        }
        let token = self.os.push(self.entry.qd, &array);
        // The stack holds a reference of its own as long as it needs the bytes.
        let _ = self.os.sgafree(array);
        let Ok(token) = token else {
            return false;
        };
        self.tokens
            .add(token, Op::Push(self.entry.whose, bytes.len()));
        self.entry.pushes += 1;
        self.entry.pushed += bytes.len();
        self.entry.total = self.entry.total.wrapping_add(bytes.len() as u32);
        true
    }
}

impl Connection for Conn<'_> {
    fn index(&self) -> usize {
        self.entry.whose.index
    }

    fn is_new(&self) -> bool {
        self.entry.is_new
    }

    fn flow(&self) -> Flow {
        self.entry.flow
    }

    #[inline(never)]
    fn receive(&mut self, buffer: &mut [u8]) -> usize {
        let mut taken = 0;
        while taken < buffer.len()
            && let Some((popped, read)) = self.entry.unread.front_mut()
        {
            let rest = &popped.bytes()[*read..];
            let n = rest.len().min(buffer.len() - taken);
            buffer[taken..taken + n].copy_from_slice(&rest[..n]);
            (taken, *read) = (taken + n, *read + n);
            if n == rest.len()
                && let Some((popped, _)) = self.entry.unread.pop_front()
            {
                popped.free(self.os);
            }
        }
        taken
    }

    #[inline(never)]
    fn send(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.entry.broken {
            return None;
        }
        let Pushing { piece, most } = self.pushing;
        let free = most.saturating_sub(self.entry.pushes) * piece;
        let mut taken = 0;
        for bytes in bytes.chunks(piece) {
            if self.entry.pushes == most {
                break;
            }
            if !self.push(bytes) {
                // With pushes under way it is the stack's queue that is full, and their ends bring the next turn.
                self.entry.broken = self.entry.pushes == 0;
                break;
            }
            taken += bytes.len();
        }
        let more = [taken as u32, free as u32, 0];
        probe::emit_with(points::SEND_CALL, self.entry.flow, bytes.len() as u32, more);
        (!self.entry.broken).then_some(taken)
    }

    fn end(&mut self) {
        self.entry.ended = true;
    }

    fn has_ended(&self) -> bool {
        self.entry.broken || (self.entry.ended && self.entry.unread.is_empty())
    }

    fn finish(&mut self) {
        self.entry.done = true;
    }
}
