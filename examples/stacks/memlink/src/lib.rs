//! A link in memory: the stack's end is a [`Device`](stack_netio::Device), the other end a client engine that checks every
//! byte of the bodies it gets. For tests of stacks whose rounds take their time from the caller.
//!
//! In: frames of a stack, moments of the test's clock; out: frames of a client, counts of what came whole. It refuses to
//! know which stack it is, and to look at a clock.

mod client;
mod device;

pub use client::{Client, Ends};
pub use device::{Link, LinkDevice};

/// The stack's address.
pub const SERVER: [u8; 4] = [10, 123, 0, 2];
/// The stack's Ethernet address.
pub const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// The client's address.
pub const CLIENT: [u8; 4] = [10, 123, 0, 1];
/// The client's Ethernet address.
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Where the stack listens.
pub const PORT: u16 = 8080;

/// A body of `len` bytes, each of which depends on its place, so that nothing can change places unseen.
pub fn body(len: usize) -> Vec<u8> {
    (0..len).map(body_byte).collect()
}

fn body_byte(at: usize) -> u8 {
    (at ^ (at >> 8) ^ (at >> 16)) as u8
}

/// An ARP frame (RFC 826) of the client, to all: who has the server's address?
pub fn arp_request() -> Vec<u8> {
    arp(1, [0xff; 6], (CLIENT_MAC, CLIENT), SERVER)
}

/// An ARP frame of the server, to the client: it is I.
pub fn arp_reply() -> Vec<u8> {
    arp(2, CLIENT_MAC, (SERVER_MAC, SERVER), CLIENT)
}

fn arp(operation: u8, to: [u8; 6], (mac, ip): ([u8; 6], [u8; 4]), target: [u8; 4]) -> Vec<u8> {
    let mut frame = [to, mac].concat();
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(mac);
    frame.extend(ip);
    frame.extend([0; 6]);
    frame.extend(target);
    frame
}

/// Which frames are lost: by chance, the same every time.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    one_in: Option<u64>,
    random: u64,
}

impl Loss {
    /// One frame in so many; none for `None`.
    pub fn one_in(n: Option<u64>) -> Loss {
        Loss {
            one_in: n,
            random: 0x1234_5678_9abc_def0,
        }
    }

    /// Whether this frame is lost.
    pub fn hits(&mut self) -> bool {
        // Xorshift (Marsaglia 2003).
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.one_in.is_some_and(|n| self.random.is_multiple_of(n))
    }
}
