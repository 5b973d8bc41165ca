//! The sockets' buffers, cut from slabs whose pages the system gives when they are first written to.
//!
//! In: lengths; out: pairs of buffers, never given back. A buffer allocated by itself may be cleared by the allocator,
//! and a handshake that comes to nothing would cost all of its pages.

use smoltcp::socket::tcp::SocketBuffer;

/// A slab is about so long, or as long as one pair needs.
const SLAB: usize = 32 << 20;

/// Cuts buffers of the same two lengths.
pub struct Buffers {
    receive: usize,
    send: usize,
    rest: &'static mut [u8],
}

impl Buffers {
    /// For receive and send buffers of so many bytes.
    pub fn new(receive: usize, send: usize) -> Buffers {
        Buffers {
            receive,
            send,
            rest: &mut [],
        }
    }

    /// A receive and a send buffer.
    pub fn pair(&mut self) -> (SocketBuffer<'static>, SocketBuffer<'static>) {
        (self.cut(self.receive), self.cut(self.send))
    }

    fn cut(&mut self, len: usize) -> SocketBuffer<'static> {
        if self.rest.len() < len {
            let pair = (self.receive + self.send).max(1);
            let slab = vec![0; (SLAB / pair).max(1) * pair];
            self.rest = slab.leak();
        }
        let (buffer, rest) = std::mem::take(&mut self.rest).split_at_mut(len);
        self.rest = rest;
        SocketBuffer::new(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every buffer has its length, whether a slab holds many pairs or one is longer than a slab.
    #[test]
    fn buffers_have_their_lengths() {
        for (receive, send, pairs) in [(1 << 16, 1 << 18, 250), (1 << 16, 40 << 20, 2)] {
            let mut buffers = Buffers::new(receive, send);
            for _ in 0..pairs {
                let (one, other) = buffers.pair();
                assert_eq!((one.capacity(), other.capacity()), (receive, send));
            }
        }
    }
}
