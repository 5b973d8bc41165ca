//! Connections beside those that make the load: idle ones, slow readers, half-closed ones.
//!
//! In: how many of each; out: how many of them were served as they may expect. They are made by threads of their own
//! and are no part of the load's figures.
//!
//! - An *idle* one asks once, is silent while the load lasts, and asks once more at the end.
//! - A *slow* one asks once and reads [`SLOW_PER_SECOND`] bytes a second out of a small buffer, so that the server's
//!   window closes. It may expect not to be given up.
//! - A *half-closed* one asks, ends its side, waits a while, and reads to the server's end of the connection. It may
//!   expect the whole body. Then it begins again.

use crate::Load;
use crate::reply::Reply;
use rustix::net::{self, AddressFamily, SocketType, sockopt};
use serde::Serialize;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What a slow reader reads.
pub const SLOW_PER_SECOND: u64 = 1024;
/// How often it does, with a part each time.
const SLOW_STEPS: u64 = 8;
/// Room for what a slow reader has not read yet; the kernel doubles it.
const SLOW_BUFFER: usize = 4096;
/// Threads that make idle connections.
const MAKERS: usize = 32;
/// How long a half-closed connection leaves its reply unread.
const HALF_CLOSED_WAIT: Duration = Duration::from_millis(100);

/// How many there shall be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Company {
    /// Keep-alive connections without requests.
    pub idle: usize,
    /// Connections that read slowly.
    pub slow: usize,
    /// Connections that ended their side.
    pub half_closed: usize,
}

/// How they fared.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CompanyReport {
    /// Idle connections that were made and served once.
    pub idle: usize,
    /// Of these, served once more at the end.
    pub idle_served_again: usize,
    /// Slow readers that began.
    pub slow: usize,
    /// Of these, still given bytes, or done with the reply.
    pub slow_served: usize,
    /// Bytes that slow readers read.
    pub slow_bytes: u64,
    /// Half-closed connections that got their whole reply and the server's end.
    pub half_closed_served: u64,
    /// Half-closed connections that got anything else.
    pub half_closed_failed: u64,
    /// What the first connection that failed met.
    pub first_failure: Option<String>,
}

/// What all threads add to.
#[derive(Default)]
struct Tally {
    idle_again: AtomicU64,
    slow: AtomicU64,
    slow_served: AtomicU64,
    slow_bytes: AtomicU64,
    half_served: AtomicU64,
    half_failed: AtomicU64,
    failure: Mutex<Option<String>>,
}

impl Tally {
    fn failed(&self, who: &str, error: &io::Error) {
        let mut first = self.failure.lock().unwrap_or_else(|e| e.into_inner());
        first.get_or_insert_with(|| format!("{who}: {error}"));
    }
}

/// Runs `work` in the company that `load` asks for, or alone. Counts are relaxed: threads are joined before they are read.
pub fn around<T>(
    load: &Load,
    stop: &AtomicBool,
    work: impl FnOnce() -> T,
) -> (T, Option<CompanyReport>) {
    if load.company == Company::default() {
        return (work(), None);
    }
    let tally = Tally::default();
    let mut idle = arrive(load, stop, &tally);
    let over = AtomicBool::new(false);
    let done = thread::scope(|scope| {
        let over = &over;
        let tally = &tally;
        if load.company.slow > 0 {
            scope.spawn(move || read_slowly(load, over, tally));
        }
        for _ in 0..load.company.half_closed {
            scope.spawn(move || half_close(load, over, tally));
        }
        let done = work();
        over.store(true, Ordering::Relaxed);
        done
    });
    ask_again(load, &mut idle, &tally);
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let report = CompanyReport {
        idle: idle.len(),
        idle_served_again: count(&tally.idle_again) as usize,
        slow: count(&tally.slow) as usize,
        slow_served: count(&tally.slow_served) as usize,
        slow_bytes: count(&tally.slow_bytes),
        half_closed_served: count(&tally.half_served),
        half_closed_failed: count(&tally.half_failed),
        first_failure: tally
            .failure
            .into_inner()
            .unwrap_or_else(|e| e.into_inner()),
    };
    (done, Some(report))
}

/// Makes the idle connections, many at once; those that were served.
fn arrive(load: &Load, stop: &AtomicBool, tally: &Tally) -> Vec<TcpStream> {
    let make = |share: usize| {
        let mut made = Vec::with_capacity(share);
        for _ in 0..share {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let served = connect(load).and_then(|mut stream| {
                ask(load, &mut stream)?;
                Ok(stream)
            });
            match served {
                Ok(stream) => made.push(stream),
                Err(error) => {
                    tally.failed("idle", &error);
                    // A server that takes no more is not asked a thousand times.
                    break;
                }
            }
        }
        made
    };
    let all = load.company.idle;
    let makers = MAKERS.min(all);
    let share = |maker: usize| all / makers + usize::from(maker < all % makers);
    let make = &make;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..makers)
            .map(share)
            .map(|share| scope.spawn(move || make(share)))
            .collect();
        // A maker that panicked made nothing that can be used.
        let made = threads.into_iter().filter_map(|t| t.join().ok());
        made.flatten().collect()
    })
}

fn ask_again(load: &Load, idle: &mut [TcpStream], tally: &Tally) {
    let part = idle.len().div_ceil(MAKERS).max(1);
    thread::scope(|scope| {
        for part in idle.chunks_mut(part) {
            scope.spawn(move || {
                for stream in part {
                    match ask(load, stream) {
                        Ok(()) => drop(tally.idle_again.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => tally.failed("idle, at the end", &error),
                    }
                }
            });
        }
    });
}

fn connect(load: &Load) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&load.address.into(), load.timeout)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(load.timeout))?;
    stream.set_write_timeout(Some(load.timeout))?;
    Ok(stream)
}

/// Asks once and takes the whole reply.
fn ask(load: &Load, stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(&load.request())?;
    let mut reply = Reply::new(load.body, load.digest);
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if reply.feed(&buffer[..n]).map_err(wrong)? {
            return Ok(());
        }
    }
}

fn wrong(problem: crate::Problem) -> io::Error {
    io::Error::new(
        ErrorKind::InvalidData,
        format!("the reply is wrong: {problem:?}"),
    )
}

/// One slow reader.
struct Slow {
    stream: TcpStream,
    /// When bytes came last.
    fed: Instant,
    /// It ended, well or not.
    over: Option<bool>,
    read: u64,
}

/// All slow readers, in turns.
fn read_slowly(load: &Load, over: &AtomicBool, tally: &Tally) {
    let mut readers = Vec::new();
    for _ in 0..load.company.slow {
        match begin_slowly(load) {
            Ok(stream) => readers.push(Slow {
                stream,
                fed: Instant::now(),
                over: None,
                read: 0,
            }),
            Err(error) => tally.failed("slow", &error),
        }
    }
    tally.slow.store(readers.len() as u64, Ordering::Relaxed);
    let mut buffer = [0; (SLOW_PER_SECOND / SLOW_STEPS) as usize];
    let pause = Duration::from_secs(1) / SLOW_STEPS as u32;
    while !over.load(Ordering::Relaxed) {
        thread::sleep(pause);
        for reader in readers.iter_mut().filter(|r| r.over.is_none()) {
            match reader.stream.read(&mut buffer) {
                Ok(0) => {
                    // Before the whole reply, which is longer than this, the server has no reason to end.
                    reader.over = Some(load.body.is_some_and(|body| reader.read >= body));
                    if reader.over == Some(false) {
                        tally.failed("slow", &ErrorKind::UnexpectedEof.into());
                    }
                }
                Ok(n) => {
                    reader.fed = Instant::now();
                    reader.read += n as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => {
                    tally.failed("slow", &error);
                    reader.over = Some(false);
                }
            }
        }
    }
    let served = |r: &&Slow| {
        r.over
            .unwrap_or(r.read > 0 && r.fed.elapsed() < load.timeout)
    };
    let served = readers.iter().filter(served).count();
    tally.slow_served.store(served as u64, Ordering::Relaxed);
    let read = readers.iter().map(|r| r.read).sum();
    tally.slow_bytes.store(read, Ordering::Relaxed);
}

/// A connection with a small buffer that has asked and does not wait any more.
fn begin_slowly(load: &Load) -> io::Result<TcpStream> {
    let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    sockopt::set_socket_recv_buffer_size(&socket, SLOW_BUFFER)?;
    // A connect waits no longer than a write.
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(load.timeout))?;
    net::connect(&socket, &load.address)?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(&load.request())?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// One half-closed connection after the other.
fn half_close(load: &Load, over: &AtomicBool, tally: &Tally) {
    while !over.load(Ordering::Relaxed) {
        match half_closed(load) {
            Ok(()) => drop(tally.half_served.fetch_add(1, Ordering::Relaxed)),
            Err(error) => {
                tally.half_failed.fetch_add(1, Ordering::Relaxed);
                tally.failed("half-closed", &error);
            }
        }
    }
}

fn half_closed(load: &Load) -> io::Result<()> {
    let mut stream = connect(load)?;
    stream.write_all(&load.request())?;
    stream.shutdown(Shutdown::Write)?;
    thread::sleep(HALF_CLOSED_WAIT);
    let mut reply = Reply::new(load.body, load.digest);
    let mut buffer = vec![0; 64 * 1024];
    let mut whole = false;
    loop {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            return match whole {
                true => Ok(()),
                false => Err(ErrorKind::UnexpectedEof.into()),
            };
        }
        whole = reply.feed(&buffer[..n]).map_err(wrong)?;
    }
}
