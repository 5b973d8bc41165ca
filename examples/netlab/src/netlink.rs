//! The two netlink requests that ioctls have no word for: a veth pair across two namespaces, and no IPv6 address.
//!
//! In: names, numbers and descriptors; out: requests as bytes, sent in the calling thread's network namespace, and the
//! kernel's verdict.

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

// Attributes of linux/if_link.h and linux/veth.h.
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;

/// Makes a pair of interfaces: one in the calling thread's namespace, the other in `peer_namespace`.
pub fn veth(name: &str, peer: &str, peer_namespace: BorrowedFd<'_>) -> io::Result<()> {
    let mut message = Message::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL, 0);
    message.text(libc::IFLA_IFNAME, name);
    message.nest(libc::IFLA_LINKINFO, |message| {
        message.text(IFLA_INFO_KIND, "veth");
        message.nest(IFLA_INFO_DATA, |message| {
            message.nest(VETH_INFO_PEER, |message| {
                message.link_header(0);
                message.text(libc::IFLA_IFNAME, peer);
                let namespace = peer_namespace.as_raw_fd().to_ne_bytes();
                message.attribute(libc::IFLA_NET_NS_FD, &namespace);
            });
        });
    });
    message.exchange()
}

/// Keeps the interface of this number without an IPv6 address when it is switched on.
pub fn no_ipv6_address(index: u32) -> io::Result<()> {
    let mut message = Message::new(libc::RTM_SETLINK, 0, index);
    message.nest(libc::IFLA_AF_SPEC, |message| {
        message.nest(libc::AF_INET6 as u16, |message| {
            message.attribute(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]);
        });
    });
    message.exchange()
}

/// A request about a link, as it grows: `nlmsghdr`, `ifinfomsg`, attributes.
struct Message {
    bytes: Vec<u8>,
}

const HEADER: usize = 16;

impl Message {
    fn new(kind: u16, flags: i32, index: u32) -> Message {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16;
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes[8..12].copy_from_slice(&1_u32.to_ne_bytes());
        let mut message = Message { bytes };
        message.link_header(index);
        message
    }

    /// `struct ifinfomsg` of an interface by number; 0 for one that has none yet.
    fn link_header(&mut self, index: u32) {
        let mut header = [0; 16];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        self.bytes.extend_from_slice(&header);
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nest(kind, |message| message.bytes.extend_from_slice(value));
    }

    fn text(&mut self, kind: u16, value: &str) {
        self.nest(kind, |message| {
            message.bytes.extend_from_slice(value.as_bytes());
            message.bytes.push(0);
        });
    }

    /// An attribute whose value is what `inside` writes.
    fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Message)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        inside(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Sends the request and waits for the kernel's answer to it.
    fn exchange(mut self) -> io::Result<()> {
        let length = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        // The protocol of number 0, which is no protocol's name elsewhere, is rtnetlink here.
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        send(&socket, &self.bytes, SendFlags::empty())?;
        let mut answer = [0; 4096];
        let (got, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
        verdict(&answer[..got])
    }
}

/// What an acknowledgement says: `nlmsghdr`, then an error number that is negative or 0.
fn verdict(answer: &[u8]) -> io::Result<()> {
    let odd = || io::Error::other("the kernel's netlink answer is no acknowledgement");
    let kind = answer.get(4..6).ok_or_else(odd)?;
    if kind != (libc::NLMSG_ERROR as u16).to_ne_bytes() {
        return Err(odd());
    }
    let code = answer.get(HEADER..HEADER + 4).ok_or_else(odd)?;
    match i32::from_ne_bytes(code.try_into().map_err(|_| odd())?) {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(-code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attributes carry their length without padding, nests include it, and everything ends on a multiple of four.
    #[test]
    fn attributes_are_padded_and_nested() {
        let mut message = Message { bytes: Vec::new() };
        message.nest(18, |m| m.text(1, "veth"));
        assert_eq!(
            message.bytes,
            [16, 0, 18, 0, 9, 0, 1, 0, b'v', b'e', b't', b'h', 0, 0, 0, 0]
        );
    }

    /// The kernel's refusal keeps its number; an answer that is cut or of another kind is no success.
    #[test]
    fn verdicts_are_read_from_any_bytes() {
        let mut answer = [0_u8; 20];
        answer[4..6].copy_from_slice(&(libc::NLMSG_ERROR as u16).to_ne_bytes());
        assert!(verdict(&answer).is_ok());
        answer[16..].copy_from_slice(&(-libc::EEXIST).to_ne_bytes());
        assert_eq!(
            verdict(&answer).unwrap_err().raw_os_error(),
            Some(libc::EEXIST)
        );
        assert!(verdict(&answer[..18]).is_err());
        answer[4] = 99;
        assert!(verdict(&answer).is_err());
    }
}
