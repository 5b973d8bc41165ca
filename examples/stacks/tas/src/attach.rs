//! How an application gets its contexts: one message each way over a Unix socket, descriptors with the answer.
//!
//! In: the sizes an application asks for; out: the sizes it gets, memory and doorbells. The socket stays open as long
//! as the context lives: its end is how each side learns of the other's death. Messages may be anything: what does not
//! fit is refused.

use crate::shm::Sizes;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// `tas` and the version of everything that the two sides share.
const MAGIC: u64 = 0x7461_7300_0000_0001;
/// Memory, the application's bell, the slow path's, one for each core.
const MOST_DESCRIPTORS: usize = 3 + crate::shm::MAX_CORES as usize;
const WORDS: usize = 6;

/// Asks for a context; the number of cores is the service's to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Sizes of rings, and how many.
    pub wish: Sizes,
}

/// Why there is no context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Sizes out of bounds.
    Sizes,
    /// All contexts are in use.
    Full,
    /// Another user's program.
    User,
    /// No memory or descriptors.
    Memory,
}

/// What the service says.
#[derive(Debug)]
pub enum Answer {
    /// A context.
    Welcome(Welcome),
    /// None.
    Refused(Refusal),
}

/// A context's parts.
#[derive(Debug)]
pub struct Welcome {
    /// What it has.
    pub sizes: Sizes,
    /// The service's address.
    pub ip: Ipv4Addr,
    /// Memory, the application's bell, the slow path's, one for each core.
    pub descriptors: Vec<OwnedFd>,
}

fn to_bytes(words: [u64; WORDS]) -> [u8; WORDS * 8] {
    let mut bytes = [0; WORDS * 8];
    for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

fn from_bytes(bytes: &[u8]) -> Option<[u64; WORDS]> {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let mut words = [0; WORDS];
    if chunks.len() != WORDS || !rest.is_empty() {
        return None;
    }
    for (word, chunk) in words.iter_mut().zip(chunks) {
        *word = u64::from_le_bytes(*chunk);
    }
    (words[0] == MAGIC).then_some(words)
}

fn sizes(words: [u64; WORDS]) -> Option<Sizes> {
    let at = |index: usize| u32::try_from(words[index]).ok();
    Some(Sizes {
        cores: at(1)?,
        rx: at(2)?,
        tx: at(3)?,
        slots: at(4)?,
    })
}

fn message(sizes: Sizes, last: u64) -> [u8; WORDS * 8] {
    let words = [sizes.cores, sizes.rx, sizes.tx, sizes.slots].map(u64::from);
    to_bytes([MAGIC, words[0], words[1], words[2], words[3], last])
}

/// Sends the application's message.
pub fn say_hello(socket: BorrowedFd<'_>, hello: Hello) -> io::Result<()> {
    send(socket, &message(hello.wish, 0), &[])
}

/// Takes it: `None` while it has not come.
pub fn take_hello(socket: BorrowedFd<'_>) -> io::Result<Option<Hello>> {
    let (bytes, _) = match receive(socket, RecvFlags::DONTWAIT) {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        outcome => outcome?,
    };
    let words = from_bytes(&bytes).ok_or_else(foreign)?;
    let wish = sizes(words).ok_or_else(foreign)?;
    Ok(Some(Hello { wish }))
}

/// Sends the service's answer; it never waits for the application to read.
pub fn answer(
    socket: BorrowedFd<'_>,
    answer: Result<(Sizes, Ipv4Addr, &[BorrowedFd<'_>]), Refusal>,
) -> io::Result<()> {
    match answer {
        Ok((sizes, ip, descriptors)) => {
            let bytes = message(sizes, u64::from(ip.to_bits()));
            send(socket, &bytes, descriptors)
        }
        Err(refusal) => {
            let code = 1 + refusal as u64;
            send(socket, &to_bytes([MAGIC, 0, code, 0, 0, 0]), &[])
        }
    }
}

/// Waits for the service's answer.
pub fn take_answer(socket: BorrowedFd<'_>) -> io::Result<Answer> {
    let (bytes, descriptors) = receive(socket, RecvFlags::empty())?;
    let words = from_bytes(&bytes).ok_or_else(foreign)?;
    let sizes = sizes(words).ok_or_else(foreign)?;
    let refused = match (words[1], words[2]) {
        (0, 1) => Some(Refusal::Sizes),
        (0, 2) => Some(Refusal::Full),
        (0, 3) => Some(Refusal::User),
        (0, 4) => Some(Refusal::Memory),
        _ => None,
    };
    if let Some(refusal) = refused {
        return Ok(Answer::Refused(refusal));
    }
    if !sizes.are_sound() || descriptors.len() != 3 + sizes.cores as usize {
        return Err(foreign());
    }
    Ok(Answer::Welcome(Welcome {
        sizes,
        ip: Ipv4Addr::from_bits(words[5] as u32),
        descriptors,
    }))
}

fn foreign() -> io::Error {
    io::Error::other("the other side of the socket speaks another language or version")
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let sent = sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)?;
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// One message and its descriptors; an end of the stream is an error.
fn receive(socket: impl AsFd, flags: RecvFlags) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = [0; WORDS * 8 + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let got = loop {
        let vectors = &mut [IoSliceMut::new(&mut bytes)];
        match recvmsg(socket.as_fd(), vectors, &mut control, flags) {
            Err(Errno::INTR) => {}
            outcome => break outcome?,
        }
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if got.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((bytes[..got.bytes].to_vec(), descriptors))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::CLOEXEC;
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
    }

    const SIZES: Sizes = Sizes {
        cores: 1,
        rx: 8192,
        tx: 8192,
        slots: 16,
    };

    /// A wish, an answer with descriptors, a refusal: all arrive as they were sent.
    #[test]
    fn messages_arrive() {
        let (app, service) = pair();
        assert_eq!(take_hello(service.as_fd()).unwrap(), None);
        say_hello(app.as_fd(), Hello { wish: SIZES }).unwrap();
        let hello = take_hello(service.as_fd()).unwrap();
        assert_eq!(hello, Some(Hello { wish: SIZES }));
        let ip = Ipv4Addr::new(10, 123, 0, 2);
        let four = [service.as_fd(); 4];
        answer(service.as_fd(), Ok((SIZES, ip, &four))).unwrap();
        let Answer::Welcome(welcome) = take_answer(app.as_fd()).unwrap() else {
            panic!("refused");
        };
        assert_eq!(
            (welcome.sizes, welcome.ip, welcome.descriptors.len()),
            (SIZES, ip, 4)
        );
        answer(service.as_fd(), Err(Refusal::Full)).unwrap();
        let refused = take_answer(app.as_fd()).unwrap();
        assert!(matches!(refused, Answer::Refused(Refusal::Full)));
    }

    /// Strangers' messages, too few descriptors and the end of the stream are errors, not answers.
    #[test]
    fn nonsense_is_an_error() {
        let (app, service) = pair();
        for bytes in [&b"GET / HTTP/1.1"[..], &[0; 48], &[0xff; 49], &[]] {
            send(app.as_fd(), bytes, &[]).unwrap();
            assert!(take_hello(service.as_fd()).is_err());
        }
        answer(service.as_fd(), Ok((SIZES, Ipv4Addr::LOCALHOST, &[]))).unwrap();
        assert!(take_answer(app.as_fd()).is_err());
        drop(service);
        assert!(take_answer(app.as_fd()).is_err());
    }
}
