//! One connection of the client: connecting, asking, waiting for the reply.

use crate::Load;
use crate::reply::Reply;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SendFlags, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long the first connections are tried for again: the server may just be starting.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a connection is doing.
#[derive(Clone, Copy, Debug)]
pub enum Doing {
    /// There is no connection; it is made again at the next look-around.
    Nothing,
    /// The handshake runs.
    Connecting { since: Instant },
    /// It could ask.
    Idle,
    /// It has asked, or is at it.
    Asking {
        /// When the request was, or should have been, sent.
        due: Instant,
        /// When it was begun.
        since: Instant,
        /// Bytes of the request that were sent.
        sent: usize,
    },
    /// It has its reply and waits for the server's end.
    Ending { since: Instant },
}

/// What an event on a connection came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    Wait,
    /// The handshake is done.
    Connected,
    /// A correct reply is whole.
    Replied,
    /// The server has closed an idle connection.
    Ended,
    /// The connection broke.
    Failed,
    /// The reply is wrong.
    Wrong,
}

/// One connection of the client.
#[derive(Debug)]
pub struct Connection {
    pub socket: Option<OwnedFd>,
    pub doing: Doing,
    /// When it was begun.
    pub begun: Instant,
    reply: Reply,
}

impl Connection {
    /// Connects, again and again while nobody answers.
    pub fn first(load: &Load) -> io::Result<Connection> {
        let begun = Instant::now();
        // A handshake whose segments are lost takes seconds; whoever waits that long for replies waits for it, too.
        let patience = load.timeout.max(PATIENCE);
        let stream = loop {
            match TcpStream::connect_timeout(&load.address.into(), patience) {
                Ok(stream) => break stream,
                Err(error) if begun.elapsed() > patience => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            socket: Some(stream.into()),
            doing: Doing::Idle,
            begun: Instant::now(),
            reply: Reply::new(load.body, load.digest),
        })
    }

    /// Begins to connect once more.
    pub fn reconnect(&mut self, address: SocketAddrV4) -> rustix::io::Result<&OwnedFd> {
        self.close();
        self.begun = Instant::now();
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        match net::connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(errno),
        }
        self.doing = Doing::Connecting { since: self.begun };
        Ok(self.socket.insert(socket))
    }

    /// Gives the connection up.
    pub fn close(&mut self) {
        self.socket = None;
        self.doing = Doing::Nothing;
        self.reply.reset();
    }

    /// Since when something is awaited of the server.
    pub fn waiting_since(&self) -> Option<Instant> {
        match self.doing {
            Doing::Connecting { since } | Doing::Asking { since, .. } | Doing::Ending { since } => {
                Some(since)
            }
            Doing::Nothing | Doing::Idle => None,
        }
    }

    /// Sends `request`, or its beginning.
    pub fn ask(&mut self, due: Instant, request: &[u8]) -> Step {
        self.doing = Doing::Asking {
            due,
            since: Instant::now(),
            sent: 0,
        };
        self.send(request)
    }

    /// The socket has room or news of the handshake.
    pub fn writable(&mut self, request: &[u8]) -> Step {
        match (&self.socket, self.doing) {
            (Some(socket), Doing::Connecting { .. }) => match sockopt::socket_error(socket) {
                Ok(Ok(())) => {
                    self.doing = Doing::Idle;
                    Step::Connected
                }
                _ => Step::Failed,
            },
            (Some(_), Doing::Asking { .. }) => self.send(request),
            _ => Step::Wait,
        }
    }

    fn send(&mut self, request: &[u8]) -> Step {
        let (Some(socket), Doing::Asking { sent, .. }) = (&self.socket, &mut self.doing) else {
            return Step::Wait;
        };
        while *sent < request.len() {
            match net::send(socket, &request[*sent..], SendFlags::NOSIGNAL) {
                Ok(n) => *sent += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Step::Wait,
                Err(_) => return Step::Failed,
            }
        }
        Step::Wait
    }

    /// Reads once; also how many bytes.
    pub fn readable(&mut self, buffer: &mut [u8]) -> (usize, Step) {
        let Some(socket) = &self.socket else {
            return (0, Step::Wait);
        };
        let idle = matches!(self.doing, Doing::Idle | Doing::Ending { .. });
        let n = match rustix::io::read(socket, &mut *buffer) {
            Ok(0) if idle => return (0, Step::Ended),
            Ok(0) => return (0, Step::Failed),
            Ok(n) => n,
            Err(Errno::AGAIN | Errno::INTR) => return (0, Step::Wait),
            Err(_) => return (0, Step::Failed),
        };
        let step = match self.reply.feed(&buffer[..n]) {
            _ if idle => Step::Wrong,
            Ok(true) => Step::Replied,
            Ok(false) => Step::Wait,
            Err(_) => Step::Wrong,
        };
        (n, step)
    }
}
