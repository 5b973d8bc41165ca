//! The mtcp stack behind real devices, with the kernel's TCP as its clients, in network namespaces of the test's own. Needs
//! root; says so and passes without.

mod events;
mod server;
mod veth;

use bypassprof_wire::points;
use events::{Recorder, Thread, session};
use loadgen::Load;
use netlab::{Interface, Namespace};
use server::{Server, sha256_of_letters};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpStream};
use std::process::Stdio;
use std::time::Duration;
use veth::{
    GET, URL, bodies_come_whole, come_and_go, command, connect, dialogue, installed, joined, lab,
    load, serve,
};

const DEV: [&str; 2] = ["--dev", "packet:http-s"];

fn start(namespace: &Namespace, arguments: &[&str]) -> Server {
    serve(namespace, "mtcp", &[&DEV, arguments].concat())
}

/// Over veth and AF_PACKET: 64 connections at 64 B, many more, large POSTs, megabytes with their digest, wrk where it is
/// installed.
#[test]
fn veth_carries_small_and_large() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let small = start(&server, &[]);
    let mut plan = Load::new(small.address);
    plan.duration = Duration::from_millis(500);
    (plan.connections, plan.body) = (64, Some(64));
    load(&client, &plan);
    plan.connections = 1000;
    load(&client, &plan);
    plan.post = Some(200_000);
    plan.connections = 2;
    load(&client, &plan);
    if installed("wrk") {
        let mut wrk = client.command("wrk");
        let output = wrk.args(["-t1", "-c64", "-d1", URL]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            text.contains("Requests/sec") && !text.contains("Socket errors"),
            "{text}"
        );
    }
    let totals = small.totals();
    assert!(totals.contains("\"empty_rounds\":"), "{totals}");
    small.end();

    let large = start(&server, &["--body", "1048576"]);
    plan.connections = 4;
    (plan.body, plan.post) = (None, None);
    plan.digest = Some(sha256_of_letters(1 << 20));
    load(&client, &plan);
    large.end();
}

/// A body far longer than the send buffer passes it.
#[test]
fn small_send_buffers_carry_large_bodies() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let server = start(&server, &["--body", "1000000", "--mtcp-sndbuf", "8192"]);
    let mut plan = Load::new(server.address);
    plan.duration = Duration::from_millis(500);
    plan.connections = 4;
    plan.digest = Some(sha256_of_letters(1_000_000));
    load(&client, &plan);
    server.end();
}

/// Without `--dev` it makes its own TAP, and the host reaches it; with two threads the TAP has two queues.
#[test]
fn a_tap_of_its_own_serves_the_host() {
    let Some(lab) = lab() else { return };
    let host = lab.namespace("host").unwrap();
    if !std::path::Path::new("/dev/net/tun").exists() {
        eprintln!("skipped: there is no /dev/net/tun here");
        return;
    }
    for threads in ["1", "2"] {
        let arguments = ["--body", "100000", "--threads", threads];
        let server = serve(&host, "mtcp", &arguments);
        let mut plan = Load::new(server.address);
        plan.duration = Duration::from_millis(300);
        plan.connections = 8;
        plan.digest = Some(sha256_of_letters(100_000));
        load(&host, &plan);
        let tap = || Interface::named("bpf0").is_ok();
        assert!(host.enter(tap).unwrap());
        server.end();
        assert!(!host.enter(tap).unwrap());
    }
}

/// GET, POST, keep-alive, pipelining and garbage on one connection, whole and byte by byte.
#[test]
fn requests_are_answered_in_order() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let server = start(&server, &["--body", "5"]);
    let post = "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
    let text = format!("{GET}{post}{GET}rubbish\r\n\r\n");
    for piece in [text.len(), 1] {
        let out = dialogue(&client, server.address, &text, piece);
        assert_eq!(out.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{out}");
        assert_eq!(out.matches("\r\n\r\naaaaa").count(), 3, "{out}");
        assert!(out.contains("aaaaaHTTP/1.1 400 Bad Request\r\n"), "{out}");
    }
    let out = dialogue(&client, server.address, "GET / HTTP/1.0\r\n\r\n", 100);
    assert!(
        out.contains("Connection: close\r\n") && out.ends_with("aaaaa"),
        "{out}"
    );
    server.end();
}

/// A client that asks often, says that it sends no more and reads late gets every byte, and does not hold others up.
#[test]
fn slow_and_half_closed_readers_get_all() {
    const BODY: usize = 300_000;
    const TIMES: usize = 40;
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let server = start(&server, &["--body", "300000"]);
    let mut slow = connect(&client, server.address);
    slow.write_all(GET.repeat(TIMES).as_bytes()).unwrap();
    slow.shutdown(Shutdown::Write).unwrap();
    let other = dialogue(&client, server.address, "GET / HTTP/1.0\r\n\r\n", 100);
    assert!(other.len() > BODY);
    let mut out = Vec::new();
    slow.read_to_end(&mut out).unwrap();
    let header = format!(
        "HTTP/1.1 200 OK\r\nServer: bypassprof/1.0\r\nConnection: keep-alive\r\nContent-Length: {BODY}\r\n\r\n"
    );
    let reply = [header.as_bytes(), &[b'a'; BODY][..]].concat();
    assert!(out == reply.repeat(TIMES), "{} bytes", out.len());
    server.end();
}

/// A link that is cut ends the server, which says which one.
#[test]
fn a_link_that_is_cut_ends_the_server() {
    let Some(lab) = lab() else { return };
    let (_client, space) = joined(&lab);
    let mut command = command(&space, "mtcp", &[&DEV[..], &["--threads", "2"]].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut httpd = command.spawn().unwrap();
    let mut ready = [0; 5];
    let out = httpd.stdout.as_mut().unwrap();
    out.read_exact(&mut ready).unwrap();
    assert_eq!(&ready, b"ready");
    let cut = || Interface::named("http-s")?.down();
    space.enter(cut).unwrap().unwrap();
    let output = httpd.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("http-s was switched off"), "{said}");
    assert_eq!(output.status.code(), Some(1));
}

/// Where frames are lost, change places or are spoilt, what arrives is still what was sent.
#[test]
fn bad_links_carry_whole_bodies() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let bad = "packet:http-s,loss=1%,reorder=1%,corrupt=0.1%";
    bodies_come_whole(&client, &server, "mtcp", bad);
}

/// Connections that come and go by the hundred, ended by either side or by a reset, leave room for those that follow.
#[test]
fn connections_come_and_go() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let server = start(&server, &["--mtcp-max-streams", "64"]);
    come_and_go(&client, server.address);
    server.end();
}

/// Streams that are too many find no one, those that do nothing are reset, and the server serves on.
#[test]
fn limits_are_kept() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let limits = ["--mtcp-max-streams", "2", "--mtcp-idle-timeout-s", "1"];
    let server = start(&server, &limits);
    let mut idle: Vec<_> = (0..2).map(|_| connect(&client, server.address)).collect();
    let short = Duration::from_millis(300);
    let address = server.address.into();
    let late = || TcpStream::connect_timeout(&address, short);
    let late = client.enter(late).unwrap();
    assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
    for stream in &mut idle {
        let end = stream.read(&mut [0; 10]).unwrap_err();
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    }
    let out = dialogue(&client, server.address, "GET / HTTP/1.0\r\n\r\n", 100);
    assert!(out.ends_with('a'), "{out}");
    server.end();
}

/// What the threads told while `work` was done.
fn traced(
    namespace: &Namespace,
    arguments: &[&str],
    work: impl FnOnce(SocketAddrV4) + Send,
) -> Vec<Thread> {
    let session = session();
    let mut command = command(namespace, "mtcp", &[&DEV, arguments].concat());
    command.env("BYPASSPROF_SESSION", session.path());
    let server = Server::spawn(command);
    let mut recorder = Recorder::attach(session, server.pid());
    let address = server.address;
    recorder.during(|| work(address));
    let threads = recorder.finish();
    server.end();
    threads
}

fn named<'a>(threads: &'a [Thread], name: &str) -> &'a Thread {
    let found = threads.iter().find(|thread| thread.name == name);
    found.unwrap_or_else(|| panic!("no ring of {name}"))
}

/// Two threads are two pairs, each with a queue of its own, and both serve.
#[test]
fn two_threads_use_two_queues() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let threads = traced(&server, &["--threads", "2"], |address| {
        let mut plan = Load::new(address);
        plan.duration = Duration::from_millis(500);
        (plan.connections, plan.body) = (64, Some(64));
        load(&client, &plan);
    });
    for core in 0..2u32 {
        let stack = named(&threads, &format!("mtcp-stack-{core}"));
        let bursts = stack.at(points::RX_BURST);
        assert!(!bursts.is_empty());
        assert!(bursts.iter().all(|e| e.flow.raw() >> 24 == core));
        let application = named(&threads, &format!("mtcp-app-{core}"));
        assert!(!application.at(points::APP_END).is_empty());
        assert!(application.at(points::RX_BURST).is_empty());
        // A flow that one core answers is never seen by the other.
        let other = named(&threads, &format!("mtcp-stack-{}", 1 - core));
        let flows = |thread: &Thread| -> std::collections::HashSet<u32> {
            let seen = thread.at(points::TCP_IN);
            seen.into_iter().map(|e| e.flow.raw()).collect()
        };
        assert!(flows(stack).is_disjoint(&flows(other)));
    }
}

/// Every point that the study's page lists for mTCP fires at its place, with arguments that can be true.
#[test]
fn every_point_fires() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    // Lengths of the reply's body and of its two headers.
    const BODY: u32 = 100_000;
    const KEEP: u32 = 91;
    const CLOSE: u32 = KEEP - ("keep-alive".len() - "close".len()) as u32;
    // One stream that waits for its idle timeout, one too many, one whose replies find no room.
    let arguments = [
        "--body",
        "100000",
        "--mtcp-sndbuf",
        "8192",
        "--mtcp-max-streams",
        "4",
        "--mtcp-idle-timeout-s",
        "1",
    ];
    let threads = traced(&server, &arguments, |address| {
        let mut stream = connect(&client, address);
        for _ in 0..20 {
            stream.write_all(GET.as_bytes()).unwrap();
            let mut left = (BODY + KEEP) as usize;
            while left > 0 {
                left -= stream.read(&mut [0; 8192]).unwrap();
            }
        }
        let idle: Vec<_> = (0..3).map(|_| connect(&client, address)).collect();
        let short = Duration::from_millis(200);
        let late = || TcpStream::connect_timeout(&address.into(), short);
        assert!(client.enter(late).unwrap().is_err());
        for mut stream in idle {
            assert!(stream.read(&mut [0; 10]).is_err());
        }
        // Once this is served, what the others left behind has been handled too.
        dialogue(&client, address, "GET / HTTP/1.0\r\n\r\n", 100);
    });
    let (stack, application) = (
        named(&threads, "mtcp-stack-0"),
        named(&threads, "mtcp-app-0"),
    );

    let bursts = stack.at(points::RX_BURST);
    assert!(bursts.iter().all(|e| {
        let (capacity, frames) = ((e.flow.raw() >> 12) & 0xfff, e.flow.raw() & 0xfff);
        capacity == 64 && (1..=64).contains(&frames)
    }));
    assert!(!stack.at(points::IDLE_BEGIN).is_empty());
    assert!(stack.at(points::IDLE_END).iter().any(|e| e.args[0] >= 10));
    assert!(stack.at(points::SLEEP).iter().all(|e| e.args[0] == 1000));
    let wakes = stack.at(points::WAKE);
    assert!(wakes.iter().any(|e| e.args[0] == 1) && wakes.iter().any(|e| e.args[0] == 2));
    assert!(wakes.iter().all(|e| matches!(e.args[0], 1 | 2)));

    let arrived = stack.at(points::TCP_IN);
    assert!(
        arrived
            .iter()
            .any(|e| e.args[1] & 0xff_ffff == GET.len() as u32)
    );
    let delivered = stack.at(points::DELIVER);
    let requests = delivered.iter().filter(|e| e.args[0] == GET.len() as u32);
    assert_eq!(requests.count(), 20);
    assert!(
        delivered
            .iter()
            .all(|e| e.args[1] >= e.args[0] && e.args[2] > 0)
    );

    // Our own point: the stack signals the application, which wakes and takes the events over.
    let own = |e: &&bypassprof_wire::Event| e.point.id() >= bypassprof_wire::points::FIRST_OWN;
    let signals = stack.events.iter().filter(own).count();
    assert!(signals >= 20);
    assert!(stack.events.iter().filter(own).all(|e| e.args[0] > 0));
    assert!(application.at(points::SLEEP).iter().all(|e| e.args[0] == 0));
    assert!(application.at(points::WAKE).iter().all(|e| e.args[0] == 3));
    assert!(application.at(points::WAKE).len() >= 20);
    let handed = application.at(points::HANDOFF);
    assert!(handed.iter().any(|e| e.args[0] == 6 && e.args[2] > 0));
    assert_eq!(handed.iter().filter(|e| e.args[0] == 7).count(), 5);

    assert_eq!(application.at(points::APP_START).len(), 21);
    assert_eq!(application.at(points::APP_END).len(), 21);
    let calls = application.at(points::SEND_CALL);
    assert!(calls.iter().all(|e| {
        let [asked, accepted, free, slept] = [e.args[0], e.args[1], e.args[2], e.args[3]];
        asked <= 8192 && accepted == asked.min(free) && free <= 8192 && slept <= 1
    }));
    let sent: u32 = calls.iter().map(|e| e.args[1]).sum();
    assert_eq!(sent, 20 * (KEEP + BODY) + CLOSE + BODY);
    let refused = application.at(points::FULL);
    assert!(refused.iter().any(|e| (e.args[0], e.args[1]) == (8192, 3)));

    let jobs = stack.at(points::HANDOFF);
    assert!(
        jobs.iter()
            .any(|e| e.args[0] == 1 && e.args[2] > 0 && e.flow.raw() != 0)
    );
    // Streams that were given up go to the destroy queue, the one that its client closes to the close queue.
    assert!(jobs.iter().any(|e| e.args[0] == 5));
    let left = stack.at(points::TCP_OUT);
    let of_kind = |kind: u32| left.iter().filter(|e| e.args[1] >> 24 == kind).count();
    assert!(of_kind(0) >= 20 * BODY as usize / 1448 && of_kind(1) >= 20 && of_kind(4) >= 4);
    assert!(left.iter().all(|e| e.args[5] <= 5));
    let bursts = stack.at(points::TX_BURST);
    assert!(!bursts.is_empty() && bursts.iter().all(|e| e.args[2] == 3 && e.args[1] > 0));

    let timers = stack.at(points::TIMER);
    assert!(timers.iter().any(|e| e.args[0] == 6));
    let full = stack.at(points::FULL);
    assert!(full.iter().any(|e| (e.args[0], e.args[1]) == (4, 3)));
    for waited in stack
        .at(points::LOCK_WAIT)
        .iter()
        .chain(&application.at(points::LOCK_WAIT))
    {
        assert!(waited.args[0] > 0);
    }
}
