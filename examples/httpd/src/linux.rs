//! The kernel's TCP by epoll: one thread, one `SO_REUSEPORT` listener and one epoll instance each, level-triggered.
//!
//! In: an address, a number of threads; out: connections served until a signal ends it. One read per
//! readable event and one write loop per reply, as in the servers of the study; a client that does not read its replies
//! is not read from either.

mod connection;
mod listener;
mod worker;

use crate::planted::{Planted, PlantedOptions};
use crate::signals::{self, Totals};
use rustix::io::Errno;
use signal_hook::iterator::Signals;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
    /// The kernel refused what the end is told through.
    #[error("cannot make a socket pair: {0}")]
    Stop(std::io::Error),
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
    planted: PlantedOptions,
}

impl Server {
    /// Listens at `address` (port 0: any free one) with one socket for each thread.
    pub fn bind(
        address: SocketAddrV4,
        threads: u16,
        body: usize,
        planted: PlantedOptions,
    ) -> Result<Server, Error> {
        let (address, listeners) = listener::bind_all(address, threads)?;
        Ok(Server {
            address,
            listeners,
            body,
            planted,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Serves until a signal ends it.
    pub fn run(self, mut signals: Signals) -> Result<(), Error> {
        let (stop, end) = UnixStream::pair().map_err(Error::Stop)?;
        let requests = Arc::new(AtomicU64::new(0));
        let mut threads = Vec::new();
        for (index, listener) in self.listeners.into_iter().enumerate() {
            let stop = stop.try_clone().map_err(Error::Stop)?;
            let requests = requests.clone();
            let mut worker = Worker::new(listener, stop, self.address, self.body, requests)?;
            worker.plant(Planted::new(&self.planted), self.planted.plant_batch);
            let signals = signals.handle();
            let name = format!("linux-{index}");
            let serve = move || {
                let name = format!("linux-{index}");
                bypassprof_probe::name_thread(&name);
                let result = worker.serve();
                // A thread that fails ends the whole server.
                signals.close();
                result
            };
            let thread = thread::Builder::new().name(name).spawn(serve);
            threads.push(thread.map_err(Error::Thread)?);
        }
        signals::wait_for_end(&mut signals, || Totals {
            requests: requests.load(Ordering::Relaxed),
            ..Totals::default()
        });
        // The other end of the pair becomes readable, for all threads.
        drop(end);
        for thread in threads {
            match thread.join() {
                Ok(result) => result?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(())
    }
}
