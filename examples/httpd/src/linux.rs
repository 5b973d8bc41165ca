//! The kernel's TCP by epoll: one thread, one `SO_REUSEPORT` listener and one epoll instance each, level-triggered.
//!
//! In: an address, a number of threads; out: connections served until the stop descriptor becomes readable. One read per
//! readable event and one write loop per reply, as in the servers of the study; a client that does not read its replies
//! is not read from either.

mod connection;
mod listener;
mod worker;

use rustix::io::Errno;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;
use worker::Worker;

/// Why the server did not begin or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another program listens there.
    #[error("{0} is already listened on; stop that program or choose another --listen address")]
    InUse(SocketAddrV4),
    /// No interface has the address.
    #[error(
        "no interface of this machine has the address of --listen {0}; choose one that is here"
    )]
    NotHere(SocketAddrV4),
    /// The port is reserved.
    #[error("port of --listen {0} is for privileged programs; choose one above 1023")]
    Privileged(SocketAddrV4),
    /// Anything else.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddrV4, Errno),
    /// The kernel refused epoll or its descriptors.
    #[error("cannot wait for connections: {0}")]
    Wait(Errno),
    /// The kernel refused a thread.
    #[error("cannot start a thread: {0}; choose fewer --threads")]
    Thread(std::io::Error),
}

/// A server that is bound and does not serve yet: clients' connections are already taken by the kernel.
#[derive(Debug)]
pub struct Server {
    address: SocketAddrV4,
    listeners: Vec<OwnedFd>,
    body: usize,
}

impl Server {
    /// Listens at `address` (port 0: any free one) with one socket for each thread.
    pub fn bind(address: SocketAddrV4, threads: u16, body: usize) -> Result<Server, Error> {
        let (address, listeners) = listener::bind_all(address, threads)?;
        Ok(Server {
            address,
            listeners,
            body,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Serves until `stop` is readable.
    pub fn run(self, stop: &UnixStream) -> Result<(), Error> {
        let (address, body) = (self.address, self.body);
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for (index, listener) in self.listeners.into_iter().enumerate() {
                let name = format!("linux-{index}");
                let mut worker = Worker::new(listener, stop, address, body)?;
                let serve = move || {
                    bypassprof_probe::name_thread(&name);
                    worker.serve()
                };
                let thread = thread::Builder::new()
                    .name(format!("linux-{index}"))
                    .spawn_scoped(scope, serve)
                    .map_err(Error::Thread)?;
                threads.push(thread);
            }
            for thread in threads {
                match thread.join() {
                    Ok(result) => result?,
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            Ok(())
        })
    }
}
