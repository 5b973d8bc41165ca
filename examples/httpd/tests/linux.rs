//! The linux stack over loopback: what clients get, and what the command line says when it cannot serve.

use crate::server::Server;
use httpscenes::sha256_of_letters;
use loadgen::Load;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// Everything the server says to `text`, sent in pieces of `piece` bytes, until it closes.
fn dialogue(server: &Server, text: &str, piece: usize) -> String {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_nodelay(true).unwrap();
    for part in text.as_bytes().chunks(piece) {
        stream.write_all(part).unwrap();
    }
    let mut out = String::new();
    stream.read_to_string(&mut out).unwrap();
    out
}

/// GET, POST, keep-alive, pipelining and garbage on one connection, whole and byte by byte.
#[test]
fn requests_are_answered_in_order() {
    let server = Server::linux(&["--body", "5"]);
    let post = "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
    let text = format!("{GET}{post}{GET}rubbish\r\n\r\n");
    for piece in [text.len(), 1] {
        let out = dialogue(&server, &text, piece);
        assert_eq!(out.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{out}");
        assert_eq!(out.matches("\r\n\r\naaaaa").count(), 3, "{out}");
        assert!(out.contains("aaaaaHTTP/1.1 400 Bad Request\r\n"), "{out}");
    }
    let out = dialogue(&server, "GET / HTTP/1.0\r\n\r\n", 100);
    assert!(
        out.contains("Connection: close\r\n") && out.ends_with("aaaaa"),
        "{out}"
    );
    server.end();
}

/// A client that asks often and reads late gets every byte, and does not hold others up.
#[test]
fn slow_readers_get_all() {
    const BODY: usize = 300_000;
    let server = Server::linux(&["--body", "300000"]);
    let mut slow = TcpStream::connect(server.address).unwrap();
    slow.write_all(GET.repeat(40).as_bytes()).unwrap();
    slow.shutdown(Shutdown::Write).unwrap();
    let other = dialogue(&server, "GET / HTTP/1.0\r\n\r\n", 100);
    assert!(other.len() > BODY);
    let mut out = Vec::new();
    slow.read_to_end(&mut out).unwrap();
    let header = format!(
        "HTTP/1.1 200 OK\r\nServer: bypassprof/1.0\r\nConnection: keep-alive\r\nContent-Length: {BODY}\r\n\r\n"
    );
    assert_eq!(out.len(), 40 * (BODY + header.len()));
    assert_eq!(out.iter().filter(|&&b| b == b'H').count(), 40);
    server.end();
}

/// 64 connections on two threads, small bodies; then large ones whose digest is compared.
#[test]
fn load_is_served_whole() {
    let server = Server::linux(&["--threads", "2"]);
    let mut load = Load::new(server.address);
    load.duration = Duration::from_secs(1);
    (load.connections, load.threads, load.body) = (64, 2, Some(64));
    let report = loadgen::run(&load, &AtomicBool::new(false)).unwrap();
    assert!(report.requests > 0);
    assert_eq!((report.errors, report.timeouts), (0, 0));
    let totals = server.totals();
    assert!(totals.starts_with("totals {\"requests\":"), "{totals}");
    server.end();

    let server = Server::linux(&["--body", "1048576"]);
    let mut load = Load::new(server.address);
    load.duration = Duration::from_secs(1);
    load.digest = Some(sha256_of_letters(1 << 20));
    load.post = Some(100_000);
    let report = loadgen::run(&load, &AtomicBool::new(false)).unwrap();
    assert!(report.requests > 0);
    assert_eq!((report.errors, report.timeouts), (0, 0));
    server.end();
}

/// The open loop keeps its rate where the server keeps up, and what could not be sent is counted where it does not.
#[test]
fn open_loop_counts_what_is_late() {
    let server = Server::linux(&[]);
    let mut load = Load::new(server.address);
    load.duration = Duration::from_millis(500);
    (load.connections, load.rate) = (8, Some(200.0));
    let report = loadgen::run(&load, &AtomicBool::new(false)).unwrap();
    let all = report.requests + report.errors + report.timeouts + report.unsent;
    assert!((90..=101).contains(&all), "{report:?}");
    load.rate = Some(100_000_000.0);
    let report = loadgen::run(&load, &AtomicBool::new(false)).unwrap();
    assert!(report.unsent > report.requests, "{report:?}");
    server.end();
}

/// Without descriptors the server waits for one to come free instead of spinning, then goes on.
#[test]
fn descriptors_may_run_out() {
    let server = Server::start("ulimit -n 20; exec ", &["--listen", "127.0.0.1:0"]);
    let mut held: Vec<_> = (0..40)
        .map(|_| TcpStream::connect(server.address).unwrap())
        .collect();
    held[0].write_all(GET.as_bytes()).unwrap();
    let mut reply = [0; 151];
    held[0].read_exact(&mut reply).unwrap();
    let before = server.cpu();
    std::thread::sleep(Duration::from_millis(500));
    let spent = server.cpu() - before;
    drop(held);
    let out = dialogue(&server, "GET / HTTP/1.0\r\n\r\n", 100);
    assert!(out.ends_with("aaa"), "{out}");
    assert!(
        spent <= 10,
        "{spent} ticks of 10 ms in half a second of waiting"
    );
    server.end();
}

/// What cannot be served is refused in one sentence with the choices there are.
#[test]
fn refusals_say_what_to_do() {
    let server = Server::linux(&[]);
    let taken = server.address.to_string();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--stack", "wifi"], 2, "possible values: linux,"),
        (&["--listen", &taken], 1, "is already listened on"),
        (
            &["--listen", "192.0.2.1:8080"],
            1,
            "no interface of this machine",
        ),
        (&["--dev", "tap:x"], 2, "leave out --dev tap:x"),
        (
            &["--dev", "wifi:x"],
            2,
            "use packet:IF, xdp:IF, tap:NAME or dpdk:VDEV",
        ),
        (&["--body", "-1"], 2, "unexpected argument"),
        (&["--plant-fault", "segfault"], 2, "take --stack fstack"),
        (&["--acks", "delayed"], 2, "leave out --acks"),
        (
            &["--stack", "ix", "--plant-fault", "leak"],
            2,
            "planted into --stack fstack and linux",
        ),
        (
            &["--stack", "mtcp", "--dev", "packet:x,spread=turn"],
            2,
            "leave out spread=turn",
        ),
        (
            &["--stack", "fstack", "--listen", "0.0.0.0:1"],
            2,
            "0.0.0.0:1",
        ),
    ];
    for (arguments, code, text) in cases {
        let output = Command::new(env!("CARGO_BIN_EXE_httpd"))
            .args(*arguments)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(text), "{arguments:?}: {said}");
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty());
    }
    server.end();
}
