//! One thread of the server: its listener, its connections, its epoll.

use super::Error;
use super::connection::{Connection, Wants};
use crate::planted::Planted;
use bypassprof_probe::{self as probe, Flow, points};
use httpjob::Replies;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{self, SocketFlags};
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most events of one wait.
const EVENTS: usize = 2048;
/// Most bytes of one read.
const READ: usize = 2_099_200;
/// Most connections accepted before those that exist are served again.
const ACCEPTS: usize = 64;
/// How long no connection is accepted when descriptors or memory have run out, in ms, unless one is closed before.
const PAUSE_MS: i64 = 100;

const LISTENER: u64 = u64::MAX;
const STOP: u64 = u64::MAX - 1;

/// One thread's part of the server.
pub struct Worker {
    epoll: OwnedFd,
    listener: OwnedFd,
    address: SocketAddrV4,
    /// By descriptor.
    connections: Vec<Option<Connection>>,
    replies: Replies,
    buffer: Box<[u8]>,
    requests: u32,
    total: Arc<AtomicU64>,
    /// Readable once the server is to end.
    #[expect(dead_code, reason = "held open: epoll watches it")]
    stop: UnixStream,
    paused: bool,
    /// Most events of one wait.
    batch: usize,
    planted: Planted,
}

impl Worker {
    /// A worker that has accepted nothing yet. Its requests are added to `total`.
    pub fn new(
        listener: OwnedFd,
        stop: UnixStream,
        address: SocketAddrV4,
        body: usize,
        total: Arc<AtomicU64>,
    ) -> Result<Worker, Error> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(Error::Wait)?;
        let add = |fd: std::os::fd::BorrowedFd<'_>, token| {
            let data = epoll::EventData::new_u64(token);
            epoll::add(&epoll, fd, data, epoll::EventFlags::IN).map_err(Error::Wait)
        };
        add(listener.as_fd(), LISTENER)?;
        add(stop.as_fd(), STOP)?;
        Ok(Worker {
            epoll,
            listener,
            address,
            connections: Vec::new(),
            replies: Replies::new(body),
            buffer: vec![0; READ].into_boxed_slice(),
            requests: 0,
            total,
            stop,
            paused: false,
            batch: EVENTS,
            planted: Planted::default(),
        })
    }

    /// Makes it slower on purpose; `batch` is how many events it takes by one wait.
    pub fn plant(&mut self, planted: Planted, batch: Option<u16>) {
        self.planted = planted;
        self.batch = batch.map_or(EVENTS, usize::from);
    }

    /// Serves until the stop descriptor is readable.
    pub fn serve(&mut self) -> Result<(), Error> {
        let mut events = Vec::with_capacity(self.batch);
        loop {
            self.wait(&mut events)?;
            if self.paused {
                self.listen_again(true)?;
            }
            for (index, event) in events.iter().enumerate() {
                match event.data.u64() {
                    STOP => return Ok(()),
                    LISTENER => self.accept()?,
                    descriptor => self.serve_one(descriptor as usize, events.len() - index - 1)?,
                }
            }
        }
    }

    /// Sleeps until something happens.
    fn wait(&self, events: &mut Vec<epoll::Event>) -> Result<(), Error> {
        let pause = Timespec {
            tv_sec: 0,
            tv_nsec: PAUSE_MS * 1_000_000,
        };
        let limit = self.paused.then_some(&pause);
        events.clear();
        probe::emit(
            points::SLEEP,
            Flow::NONE,
            if self.paused { 100_000 } else { 0 },
        );
        let result = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), limit);
        let cause = match (&result, events.first()) {
            (Err(_), _) => 4,
            (Ok(_), None) => 2,
            (Ok(_), Some(_)) => 1,
        };
        probe::emit(points::WAKE, Flow::NONE, cause);
        match result {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(Error::Wait(errno)),
        }
    }

    #[inline(never)]
    fn accept(&mut self) -> Result<(), Error> {
        for _ in 0..ACCEPTS {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            match net::acceptfrom_with(&self.listener, flags) {
                Ok((socket, peer)) => {
                    let peer = peer.and_then(|p| SocketAddrV4::try_from(p).ok());
                    self.keep(socket, peer);
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    probe::emit_with(
                        points::FULL,
                        Flow::NONE,
                        self.connections.len() as u32,
                        [2, 0, 0],
                    );
                    return self.listen_again(false);
                }
                // Whatever was wrong with that one connection, the next may be well.
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Serves a new connection from here on; one that epoll refuses is closed again.
    fn keep(&mut self, socket: OwnedFd, peer: Option<SocketAddrV4>) {
        let local = if self.address.ip().is_unspecified() {
            let name = net::getsockname(&socket).ok();
            name.and_then(|n| SocketAddrV4::try_from(n).ok())
        } else {
            Some(self.address)
        };
        let flow = match (local, peer) {
            (Some(a), Some(b)) => {
                Flow::ipv4(a.ip().to_bits(), a.port(), b.ip().to_bits(), b.port())
            }
            _ => Flow::NONE,
        };
        let descriptor = socket.as_raw_fd() as usize;
        let data = epoll::EventData::new_u64(descriptor as u64);
        if epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN).is_err() {
            return;
        }
        if self.connections.len() <= descriptor {
            self.connections.resize_with(descriptor + 1, || None);
        }
        self.connections[descriptor] = Some(Connection::new(socket, flow));
    }

    #[inline(never)]
    fn serve_one(&mut self, descriptor: usize, depth: usize) -> Result<(), Error> {
        // An event of a connection that an earlier event of this batch has ended finds nothing, or at worst its
        // successor on the same descriptor, which then has nothing to read.
        let Some(Some(connection)) = self.connections.get_mut(descriptor) else {
            return Ok(());
        };
        let (before, requests) = (connection.wants, self.requests);
        let wants = match before {
            Wants::Write => connection.writable(&mut self.replies, &mut self.planted),
            Wants::Read | Wants::Close => connection.readable(
                &mut self.buffer,
                &mut self.replies,
                &mut self.planted,
                &mut self.requests,
                depth,
            ),
        };
        let answered = self.requests.wrapping_sub(requests);
        if answered > 0 {
            // A count for a person to look at: no other data hangs on it.
            self.total.fetch_add(u64::from(answered), Ordering::Relaxed);
        }
        if wants == before {
            return Ok(());
        }
        let flags = match wants {
            Wants::Read => epoll::EventFlags::IN,
            Wants::Write => epoll::EventFlags::OUT,
            Wants::Close => {
                self.connections[descriptor] = None;
                return self.listen_again(true);
            }
        };
        let data = epoll::EventData::new_u64(descriptor as u64);
        epoll::modify(&self.epoll, &connection.socket, data, flags).map_err(Error::Wait)
    }

    /// Stops or goes on accepting.
    fn listen_again(&mut self, yes: bool) -> Result<(), Error> {
        if self.paused != yes {
            return Ok(());
        }
        self.paused = !yes;
        let flags = if yes {
            epoll::EventFlags::IN
        } else {
            epoll::EventFlags::empty()
        };
        let data = epoll::EventData::new_u64(LISTENER);
        epoll::modify(&self.epoll, &self.listener, data, flags).map_err(Error::Wait)
    }
}
