//! HTTP load on one server: N connections over T threads for S seconds, closed loop or at a fixed rate.
//!
//! In: a [`Load`]; out: a [`Report`] with counts and latency percentiles. In the closed loop a connection asks again as
//! soon as it has its reply; in the open loop requests have intended send times, and latency counts from those, so that
//! a server that stalls cannot hide it. It refuses to know the server's stack: replies are checked as HTTP alone.

mod company;
mod connection;
mod reply;
mod report;
mod worker;

pub use company::{Company, CompanyReport, SLOW_PER_SECOND};
pub use reply::{Problem, Reply};
pub use report::{LatencyNs, Report, SCHEMA};

use std::net::SocketAddrV4;
use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

/// What load to make.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where the server is.
    pub address: SocketAddrV4,
    /// The path asked for.
    pub path: String,
    /// Connections, spread evenly over the threads.
    pub connections: usize,
    /// Threads.
    pub threads: usize,
    /// How long is measured.
    pub duration: Duration,
    /// How long load is made before that.
    pub warmup: Duration,
    /// Requests per second of all connections together (open loop); none: closed loop.
    pub rate: Option<f64>,
    /// A reply that takes longer is a timeout.
    pub timeout: Duration,
    /// `POST` with a body this long instead of `GET`.
    pub post: Option<usize>,
    /// The length every reply's body must have.
    pub body: Option<u64>,
    /// The SHA-256 every reply's body must have.
    pub digest: Option<[u8; 32]>,
    /// One request a connection, which the server then ends; latency counts from the beginning of the connection.
    pub close: bool,
    /// Connections beside those of the load.
    pub company: Company,
}

impl Load {
    /// One connection on one thread for one second, in a closed loop.
    pub fn new(address: SocketAddrV4) -> Load {
        Load {
            address,
            path: "/".into(),
            connections: 1,
            threads: 1,
            duration: Duration::from_secs(1),
            warmup: Duration::ZERO,
            rate: None,
            timeout: Duration::from_secs(2),
            post: None,
            body: None,
            digest: None,
            close: false,
            company: Company::default(),
        }
    }

    /// The bytes of one request.
    fn request(&self) -> Vec<u8> {
        let (path, address) = (&self.path, self.address);
        let close = if self.close {
            "Connection: close\r\n"
        } else {
            ""
        };
        match self.post {
            None => format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{close}\r\n").into_bytes(),
            Some(n) => {
                let mut bytes = format!(
                    "POST {path} HTTP/1.1\r\nHost: {address}\r\n{close}Content-Length: {n}\r\n\r\n"
                )
                .into_bytes();
                bytes.resize(bytes.len() + n, b'p');
                bytes
            }
        }
    }
}

/// Why no load could be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The choice of connections, threads or rate makes no sense.
    #[error("{0}")]
    Choice(String),
    /// Nobody answered for two seconds.
    #[error("cannot connect to {0}: {1}; is the server running there?")]
    Connect(SocketAddrV4, std::io::Error),
    /// The kernel refused threads, epoll or timers.
    #[error("cannot make load: {0}")]
    System(#[from] std::io::Error),
}

/// Makes the load; ends early, with what was measured until then, once `stop` is set.
pub fn run(load: &Load, stop: &AtomicBool) -> Result<Report, Error> {
    check(load)?;
    let (measured, company) = company::around(load, stop, || on_threads(load, stop));
    Ok(Report::new(load, measured?, company))
}

fn on_threads(load: &Load, stop: &AtomicBool) -> Result<Vec<worker::Measured>, Error> {
    let barrier = Barrier::new(load.threads);
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for index in 0..load.threads {
            let barrier = &barrier;
            let work = move || worker::run(load, index, barrier, stop);
            let name = format!("loadgen-{index}");
            // A thread that is missing would leave the others at the barrier: there is no going on.
            threads.push(
                thread::Builder::new()
                    .name(name)
                    .spawn_scoped(scope, work)
                    .unwrap_or_else(|error| {
                        eprintln!("loadgen: cannot start a thread: {error}");
                        std::process::exit(1)
                    }),
            );
        }
        let join = |thread: thread::ScopedJoinHandle<'_, _>| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        threads.into_iter().map(join).collect::<Result<Vec<_>, _>>()
    })
}

fn check(load: &Load) -> Result<(), Error> {
    let wrong = |text: String| Err(Error::Choice(text));
    if load.connections == 0 || load.threads == 0 {
        return wrong("at least one connection and one thread are needed".into());
    }
    if load.threads > load.connections {
        return wrong(format!(
            "{} threads have only {} connections; choose at most as many threads",
            load.threads, load.connections
        ));
    }
    if load.close && load.rate.is_some() {
        return wrong(
            "one request a connection is for the closed loop; leave out the rate or that".into(),
        );
    }
    if load.close && load.company != Company::default() {
        return wrong(
            "idle, slow and half-closed connections are for a load that keeps its own".into(),
        );
    }
    if load.rate.is_some_and(|r| !(r > 0.0 && r <= 1e9)) {
        return wrong(
            "a rate above 0 and up to 1,000,000,000 requests per second is needed".into(),
        );
    }
    Ok(())
}
