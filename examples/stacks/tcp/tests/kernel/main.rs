//! The engine against the Linux kernel over a veth pair: who has come to trust it in all its habits will not notice.
//!
//! Needs root; says so and passes without it. `STACK_TCP_SOAK=SECONDS` makes the churn last longer.

mod host;

use host::{Host, PORT, pattern};
use netlab::{Interface, Lab, LabError, Namespace};
use rustix::net::sockopt;
use stack_tcp::{Congestion, Counters, Policy};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const SERVER: ([u8; 4], u16) = ([10, 123, 0, 2], PORT);

fn lab() -> Option<Lab> {
    match Lab::new() {
        Ok(lab) => Some(lab),
        Err(LabError::Threads | LabError::NotAllowed { .. }) => {
            eprintln!("skipped: network namespaces need root here");
            None
        }
        Err(e) => panic!("{e}"),
    }
}

/// The kernel's namespace and the engine's, joined; frames are cut and summed by whoever sends them unless offloads are on.
fn joined(lab: &Lab, offloads: bool) -> (Namespace, Namespace) {
    let kernel = lab.namespace("kernel").unwrap();
    let engine = lab.namespace("engine").unwrap();
    lab.veth((&kernel, "tcp-k"), (&engine, "tcp-e")).unwrap();
    for (namespace, name) in [(&kernel, "tcp-k"), (&engine, "tcp-e")] {
        let plain = || Interface::named(name)?.offloads_off();
        if !offloads {
            namespace.enter(plain).unwrap().unwrap();
        }
    }
    let address = || Interface::named("tcp-k")?.set_address([10, 123, 0, 1].into(), 24);
    kernel.enter(address).unwrap().unwrap();
    (kernel, engine)
}

fn connect() -> TcpStream {
    let socket = TcpStream::connect(SocketAddr::from(SERVER)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    socket
        .set_write_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    socket
}

/// Asks for `len` bytes and reads them to the end.
fn download(len: usize) -> Vec<u8> {
    let mut socket = connect();
    socket.write_all(&ask(b'D', len)).unwrap();
    let mut got = Vec::new();
    socket.read_to_end(&mut got).unwrap();
    got
}

fn ask(what: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![what];
    bytes.extend((len as u64).to_be_bytes());
    bytes
}

/// Sends `len` bytes, closes its half, and hears how many came and what they sum up to.
fn upload(len: usize) -> (u64, u64) {
    let mut socket = connect();
    socket.write_all(&ask(b'U', 0)).unwrap();
    socket.write_all(&pattern(0, len)).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    let mut reply = [0; 16];
    socket.read_exact(&mut reply).unwrap();
    let word = |at: usize| u64::from_be_bytes(reply[at..at + 8].try_into().unwrap());
    (word(0), word(8))
}

/// Sends and reads at the same time; the same must come back.
fn echo(len: usize) {
    let mut socket = connect();
    socket.write_all(&ask(b'E', 0)).unwrap();
    let mut back = socket.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        socket.write_all(&pattern(0, len)).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
    });
    let mut got = Vec::new();
    back.read_to_end(&mut got).unwrap();
    sender.join().unwrap();
    assert!(
        got == pattern(0, len),
        "{} of {len} bytes came back",
        got.len()
    );
}

fn both_ways(kernel: &Namespace, len: usize) {
    let work = || {
        let got = download(len);
        assert!(got == pattern(0, len), "{} of {len} bytes", got.len());
        let sum = host::sum(&pattern(0, len));
        assert_eq!(upload(len), (len as u64, sum));
        echo(len);
    };
    kernel.enter(work).unwrap();
}

/// Large transfers down, up and both at once, on a good link and on a bad one: every byte in its place.
#[test]
fn bulk() {
    let Some(lab) = lab() else { return };
    for (faults, len, offloads) in [
        ("", 8 << 20, false),
        (",offload=both", 8 << 20, true),
        (
            ",loss=1%,reorder=1%,duplicate=1%,corrupt=0.1%",
            2 << 20,
            false,
        ),
    ] {
        let (kernel, engine) = joined(&lab, offloads);
        let host = Host::start(&engine, &format!("packet:tcp-e{faults}"), Policy::default());
        both_ways(&kernel, len);
        let end = host.stop();
        assert!(
            faults.contains("loss") || end.counters.timeouts == 0,
            "{:?}",
            end.counters
        );
        if faults.contains("loss") {
            assert!(end.counters.retransmits > 0 && end.counters.drop_checksum > 0);
        }
    }
}

/// Without each of its options, the kernel's habits are others; so are ours with other policies.
#[test]
fn options() {
    let Some(lab) = lab() else { return };
    let offloaded = |policy: Policy| Policy {
        verify_checksums: true,
        offload_checksums: false,
        ..policy
    };
    let rate = Congestion::DctcpRate {
        initial: 1_250_000,
        step: 1_250_000,
    };
    for (switch, value, policy) in [
        ("tcp_timestamps", "0", Policy::default()),
        ("tcp_sack", "0", Policy::default()),
        ("tcp_window_scaling", "0", Policy::default()),
        (
            "tcp_ecn",
            "1",
            Policy {
                ecn: true,
                ..Policy::default()
            },
        ),
        ("tcp_sack", "1", Policy::mtcp()),
        ("tcp_sack", "1", offloaded(Policy::ix())),
        (
            "tcp_sack",
            "1",
            Policy {
                congestion: rate,
                ..offloaded(Policy::tas())
            },
        ),
    ] {
        let (kernel, engine) = joined(&lab, false);
        let set = || fs::write(format!("/proc/sys/net/ipv4/{switch}"), value);
        kernel.enter(set).unwrap().unwrap();
        let host = Host::start(&engine, "packet:tcp-e,loss=0.5%", policy);
        both_ways(&kernel, 200_000);
        host.stop();
    }
}

/// One short connection, ended in one of the ways there are.
fn short(way: u64) {
    let mut socket = connect();
    let mut buf = [0; 4096];
    match way % 6 {
        // We close at once, the kernel after; the kernel first; both at once.
        0 => {
            socket.write_all(&ask(b'D', 100)).unwrap();
            while socket.read(&mut buf).unwrap() > 0 {}
        }
        1 => {
            socket.write_all(&ask(b'E', 0)).unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
            assert_eq!(socket.read(&mut buf).unwrap(), 0);
        }
        2 => {
            socket.write_all(&ask(b'D', 10_000)).unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
            let mut got = Vec::new();
            socket.read_to_end(&mut got).unwrap();
            assert_eq!(got.len(), 10_000);
        }
        // With a reset: before a request, in the middle of a reply, with all of it unread.
        3 => sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).unwrap(),
        4 => {
            socket.write_all(&ask(b'D', 1 << 20)).unwrap();
            let _ = socket.read(&mut buf).unwrap();
            sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
        }
        _ => {
            socket.write_all(&ask(b'D', 5000)).unwrap();
        }
    }
}

/// Connections come and go in every way, many at once, for a while; in the end nothing is left of them, and the service
/// is as it was.
#[test]
fn churn() {
    let Some(lab) = lab() else { return };
    let (kernel, engine) = joined(&lab, false);
    let policy = Policy {
        time_wait: Duration::from_millis(300),
        ..Policy::default()
    };
    let seconds = std::env::var("STACK_TCP_SOAK")
        .ok()
        .and_then(|s| s.parse().ok());
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(2));
    let host = Host::start(&engine, "packet:tcp-e", policy);
    let opened: u64 = std::thread::scope(|scope| {
        let worker = |first: u64| {
            let kernel = &kernel;
            move || {
                let work = || {
                    let mut n = first;
                    while Instant::now() < until {
                        short(n);
                        n += 1;
                    }
                    n - first
                };
                kernel.enter(work).unwrap()
            }
        };
        let workers: Vec<_> = (0..4).map(|n| scope.spawn(worker(n))).collect();
        workers.into_iter().map(|w| w.join().unwrap()).sum()
    });
    both_ways(&kernel, 100_000);
    host.until(|end| end.connections == 0);
    let end = host.stop();
    eprintln!("{opened} connections came and went: {:?}", end.counters);
    assert!(opened > 50 && end.counters.accepted >= opened);
    assert_eq!(end.jobs, 0);
    let Counters {
        drop_malformed,
        drop_checksum,
        drop_memory,
        ..
    } = end.counters;
    assert_eq!((drop_malformed, drop_checksum, drop_memory), (0, 0, 0));
}

/// A client that reads slowly, and one that does not read for a while: windows close and open, nothing is lost.
#[test]
fn slow_readers() {
    let Some(lab) = lab() else { return };
    let (kernel, engine) = joined(&lab, false);
    let host = Host::start(&engine, "packet:tcp-e", Policy::default());
    let read = || {
        let mut socket = connect();
        sockopt::set_socket_recv_buffer_size(&socket, 4096).unwrap();
        socket.write_all(&ask(b'D', 1 << 20)).unwrap();
        std::thread::sleep(Duration::from_millis(700));
        let mut got = Vec::new();
        let mut buf = [0; 50_000];
        loop {
            let n = socket.read(&mut buf).unwrap();
            if n == 0 {
                break got;
            }
            got.extend_from_slice(&buf[..n]);
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    let got = kernel.enter(read).unwrap();
    assert!(got == pattern(0, 1 << 20), "{} bytes", got.len());
    assert!(host.stop().counters.window_probes > 0);
}

/// The engine opens connections to the kernel, which answers like any server.
#[test]
fn engine_as_client() {
    let Some(lab) = lab() else { return };
    let (kernel, engine) = joined(&lab, false);
    let bind = || TcpListener::bind("10.123.0.1:90").unwrap();
    let listener = kernel.enter(bind).unwrap();
    let host = Host::start(&engine, "packet:tcp-e,loss=1%", Policy::default());
    for _ in 0..20 {
        host.connect([10, 123, 0, 1], 90);
        let (mut socket, _) = listener.accept().unwrap();
        // The engine's side serves as it does for those that it accepts.
        socket.write_all(&ask(b'D', 50_000)).unwrap();
        let mut got = Vec::new();
        socket.read_to_end(&mut got).unwrap();
        assert!(got == pattern(0, 50_000), "{} bytes", got.len());
    }
    let end = host.stop();
    assert_eq!(end.counters.connected, 20);
}
