//! Loads of one request a connection, and connections beside a load, against a server whose manners are known.

use loadgen::{Company, Load, Report};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

/// Longer than what a slow reader's buffer holds.
const BODY: usize = 64 * 1024;

/// What a server does to its clients.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manners {
    /// Answers everything.
    Good,
    /// Answers each connection's first request only, and ends it then.
    Forgetful,
    /// Sends a body with a wrong letter.
    Wrong,
}

/// Serves on a port of loopback until the test program ends.
fn server(manners: Manners) -> SocketAddrV4 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let std::net::SocketAddr::V4(address) = listener.local_addr().unwrap() else {
        unreachable!("an IPv4 address was bound")
    };
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || serve(stream.unwrap(), manners));
        }
    });
    address
}

fn serve(mut stream: TcpStream, manners: Manners) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut body = vec![b'a'; BODY];
    if manners == Manners::Wrong {
        body[BODY / 2] = b'b';
    }
    let mut close = manners == Manners::Forgetful;
    while let Some(Ok(line)) = lines.next() {
        close |= line.eq_ignore_ascii_case("connection: close");
        if !line.is_empty() {
            continue;
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n");
        // A client that went away is its own business.
        let sent = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(&body));
        if sent.is_err() || close {
            return;
        }
    }
}

fn run(manners: Manners, change: impl FnOnce(&mut Load)) -> Report {
    let mut load = Load::new(server(manners));
    (load.duration, load.body) = (Duration::from_millis(600), Some(BODY as u64));
    (load.connections, load.timeout) = (2, Duration::from_secs(20));
    let digest = <sha2::Sha256 as sha2::Digest>::digest(vec![b'a'; BODY]);
    load.digest = Some(digest.into());
    change(&mut load);
    loadgen::run(&load, &AtomicBool::new(false)).unwrap()
}

/// Idle connections are asked before and after, slow readers are fed, half-closed ones get all.
#[test]
fn company_of_a_good_server_fares_well() {
    let report = run(Manners::Good, |load| {
        load.company = Company {
            idle: 40,
            slow: 3,
            half_closed: 3,
        };
    });
    assert!(report.requests > 0 && report.errors == 0, "{report:?}");
    let company = report.company.unwrap();
    assert_eq!((company.idle, company.idle_served_again), (40, 40));
    assert_eq!((company.slow, company.slow_served), (3, 3));
    assert!(company.slow_bytes > 0 && company.slow_bytes <= 3 * 2 * loadgen::SLOW_PER_SECOND);
    assert!(company.half_closed_served >= 3 && company.half_closed_failed == 0);
    assert_eq!(company.first_failure, None);
}

/// Connections that the server ended are not counted as served again, and the first failure is told.
#[test]
fn idle_connections_that_ended_are_missed() {
    let report = run(Manners::Forgetful, |load| load.company.idle = 5);
    let company = report.company.unwrap();
    assert_eq!((company.idle, company.idle_served_again), (5, 0));
    assert!(
        company
            .first_failure
            .unwrap()
            .starts_with("idle, at the end")
    );
}

/// With one request a connection the server's end is the end of a connection, not an error.
#[test]
fn connections_of_one_request() {
    let report = run(Manners::Good, |load| {
        (load.close, load.digest) = (true, None);
        load.duration = Duration::from_secs(2);
    });
    // More than there are connections.
    assert!(report.requests > 2 && report.errors == 0, "{report:?}");
}

/// A body with a wrong letter is told apart from a broken connection.
#[test]
fn wrong_bodies_are_counted() {
    let report = run(Manners::Wrong, |_| {});
    assert!(
        report.wrong > 0 && report.wrong == report.errors,
        "{report:?}"
    );
    assert_eq!(report.requests, 0);
}

/// Choices that contradict each other are refused with the way out.
#[test]
fn company_needs_a_lasting_load() {
    let mut load = Load::new(server(Manners::Good));
    load.close = true;
    load.company.idle = 1;
    let error = loadgen::run(&load, &AtomicBool::new(false)).unwrap_err();
    assert!(error.to_string().contains("keeps its own"), "{error}");
}
