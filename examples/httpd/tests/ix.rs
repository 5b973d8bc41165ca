//! The ix stack behind real devices, with the kernel's TCP as its client, in network namespaces of the test's own. Needs
//! root; says so and passes without.

mod events;
mod server;

use bypassprof_wire::{Event, points};
use events::{Recorder, Thread};
use loadgen::Load;
use netlab::{Interface, Lab, LabError, Namespace};
use server::{Server, sha256_of_letters};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

/// Where every server here listens.
const ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 123, 0, 2), 8080);
const URL: &str = "http://10.123.0.2:8080/";
const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const LAST_GET: &str = "GET / HTTP/1.0\r\n\r\n";
const DEV: [&str; 2] = ["--dev", "packet:ix-s"];

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

/// A client's and a server's namespace, joined by a veth pair of which the client's end has an address.
fn joined(lab: &Lab) -> (Namespace, Namespace) {
    let client = lab.namespace("client").unwrap();
    let server = lab.namespace("server").unwrap();
    lab.veth((&client, "ix-c"), (&server, "ix-s")).unwrap();
    for (namespace, end) in [(&client, "ix-c"), (&server, "ix-s")] {
        let plain = || Interface::named(end)?.offloads_off();
        namespace.enter(plain).unwrap().unwrap();
    }
    let address = || Interface::named("ix-c")?.set_address([10, 123, 0, 1].into(), 24);
    client.enter(address).unwrap().unwrap();
    (client, server)
}

fn command(namespace: &Namespace, arguments: &[&str]) -> Command {
    let mut command = namespace.command(env!("CARGO_BIN_EXE_httpd"));
    command.args(["--stack", "ix"]).args(arguments);
    command
}

fn serve(namespace: &Namespace, arguments: &[&str]) -> Server {
    Server::spawn(command(namespace, &[&DEV, arguments].concat()))
}

/// A server whose probes are on.
fn serve_recorded(namespace: &Namespace, arguments: &[&str]) -> (Server, Recorder) {
    let session = events::session();
    let mut command = command(namespace, &[&DEV, arguments].concat());
    command.env("BYPASSPROF_SESSION", session.path());
    let server = Server::spawn(command);
    let recorder = Recorder::attach(session, server.pid());
    (server, recorder)
}

/// Makes the load, for longer if this machine does not get through a single request in that time.
fn load(client: &Namespace, load: &Load) {
    let mut load = load.clone();
    loop {
        let run = || loadgen::run(&load, &AtomicBool::new(false));
        let report = client.enter(run).unwrap().unwrap();
        assert_eq!((report.errors, report.timeouts), (0, 0), "{report:?}");
        if report.requests > 0 {
            return;
        }
        load.duration *= 2;
        assert!(load.duration < Duration::from_secs(20), "{report:?}");
    }
}

/// A closed loop of GETs over `connections` for half a second, every body compared.
fn plan(connections: usize, body: usize) -> Load {
    let mut plan = Load::new(ADDRESS);
    plan.duration = Duration::from_millis(500);
    (plan.connections, plan.timeout) = (connections, Duration::from_secs(10));
    plan.digest = Some(sha256_of_letters(body));
    plan
}

fn installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

fn connect() -> TcpStream {
    let stream = TcpStream::connect(ADDRESS).unwrap();
    let patience = Some(Duration::from_secs(20));
    stream.set_read_timeout(patience).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Everything the server says to `text`, sent in pieces of `piece` bytes, until it closes.
fn dialogue(text: &str, piece: usize) -> String {
    let mut stream = connect();
    for part in text.as_bytes().chunks(piece) {
        stream.write_all(part).unwrap();
    }
    let mut out = String::new();
    stream.read_to_string(&mut out).unwrap();
    out
}

/// Over veth and AF_PACKET, on one queue and on two: 64 connections at 64 B, large POSTs, megabytes with their digest, and
/// wrk where it is installed.
#[test]
fn veth_carries_small_and_large() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    for threads in ["1", "2"] {
        let small = serve(&server, &["--threads", threads]);
        let mut small_plan = plan(64, 64);
        load(&client, &small_plan);
        (small_plan.connections, small_plan.post) = (2, Some(200_000));
        load(&client, &small_plan);
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

        let large = serve(&server, &["--threads", threads, "--body", "1048576"]);
        load(&client, &plan(2, 1 << 20));
        large.end();
    }
}

/// Wherever replies lie until they are acknowledged, and with everything on that IX is known to lose by.
#[test]
fn every_choice_serves() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    for choices in [
        "--ix-reply-buffer=thread",
        "--ix-reply-buffer=2mib --ix-side-poll=shared --ix-handle-scan",
        "--ix-side-poll=padded",
    ] {
        let choices: Vec<_> = choices.split(' ').collect();
        let body = ["--body", "100000"];
        let server = serve(&server, &[&body[..], &choices].concat());
        load(&client, &plan(16, 100_000));
        // Replies of two kinds on one connection, the second made while the first is on its way.
        let out = client.enter(|| dialogue(&format!("{GET}{LAST_GET}"), 1000));
        let out = out.unwrap();
        assert!(out.contains("keep-alive") && out.contains("Connection: close"));
        assert_eq!(out.matches("aaaa").count(), 2 * 100_000 / 4);
        server.end();
    }
}

/// GET, POST, keep-alive, pipelining and garbage on one connection, whole and byte by byte; the client's end of sending
/// does not end the replies.
#[test]
fn requests_are_answered_in_order() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let server = serve(&server, &["--body", "5"]);
    let talk = || {
        let post = "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
        let text = format!("{GET}{post}{GET}rubbish\r\n\r\n");
        for piece in [text.len(), 1] {
            let out = dialogue(&text, piece);
            assert_eq!(out.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{out}");
            assert!(out.contains("aaaaaHTTP/1.1 400 Bad Request\r\n"), "{out}");
        }
        let out = dialogue(LAST_GET, 100);
        assert!(out.ends_with("Connection: close\r\nContent-Length: 5\r\n\r\naaaaa"));
        let mut half_closed = connect();
        half_closed.write_all(GET.repeat(500).as_bytes()).unwrap();
        half_closed.shutdown(Shutdown::Write).unwrap();
        let mut out = String::new();
        half_closed.read_to_string(&mut out).unwrap();
        assert_eq!(out.matches("\r\n\r\naaaaa").count(), 500);
    };
    client.enter(talk).unwrap();
    server.end();
}

/// A client that asks often and reads late gets every byte, and does not hold others up.
#[test]
fn slow_readers_get_all() {
    const BODY: usize = 300_000;
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let server = serve(&server, &["--body", "300000"]);
    let talk = || {
        let mut slow = connect();
        slow.write_all(GET.repeat(40).as_bytes()).unwrap();
        slow.shutdown(Shutdown::Write).unwrap();
        let other = dialogue(LAST_GET, 100);
        assert!(other.len() > BODY);
        // Its window is closed by now; what it reads opens it a little at a time.
        let (mut out, mut piece) = (Vec::new(), [0; 1024]);
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(10));
            let n = slow.read(&mut piece).unwrap();
            out.extend_from_slice(&piece[..n]);
        }
        slow.read_to_end(&mut out).unwrap();
        assert_eq!(out.iter().filter(|&&b| b == b'a').count() / BODY, 40);
        assert_eq!(out.iter().filter(|&&b| b == b'H').count(), 40);
    };
    client.enter(talk).unwrap();
    server.end();
}

/// Connections that come and go, by FIN from either side and by RST, leave nothing behind that hinders the next ones; a
/// thousand that stay do not hinder those that talk.
#[test]
fn connections_come_go_and_stay() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let server = serve(&server, &["--threads", "2", "--ix-handle-scan"]);
    let talk = || {
        let idle: Vec<_> = (0..1000).map(|_| connect()).collect();
        for round in 0..300 {
            match round % 3 {
                0 => assert!(dialogue(LAST_GET, 100).ends_with("aaa")),
                1 => {
                    let mut gone = connect();
                    gone.write_all(GET.as_bytes()).unwrap();
                    assert!(gone.read(&mut [0; 10]).unwrap() > 0);
                    // The rest of the reply is unread: the kernel resets the connection.
                }
                _ => drop(connect()),
            }
        }
        loadgen::run(&plan(32, 64), &AtomicBool::new(false)).map(|report| {
            assert_eq!((report.errors, report.timeouts), (0, 0), "{report:?}");
        })?;
        for mut stream in idle {
            stream.write_all(LAST_GET.as_bytes()).unwrap();
            let mut out = String::new();
            stream.read_to_string(&mut out).unwrap();
            assert!(out.ends_with("aaa"), "{out}");
        }
        Ok::<_, loadgen::Error>(())
    };
    client.enter(talk).unwrap().unwrap();
    server.end();
}

/// Without `--dev` it makes its own TAP, with a queue for each thread, and curl reaches it; the TAP goes away with it.
#[test]
fn a_tap_of_its_own_serves_the_host() {
    let Some(lab) = lab() else { return };
    let host = lab.namespace("host").unwrap();
    if !std::path::Path::new("/dev/net/tun").exists() {
        eprintln!("skipped: there is no /dev/net/tun here");
        return;
    }
    let arguments = ["--body", "131072", "--threads", "2"];
    let server = Server::spawn(command(&host, &arguments));
    load(&host, &plan(8, 131_072));
    if installed("curl") {
        let mut curl = host.command("curl");
        let output = curl.args(["-s", "-m", "10", URL]).output().unwrap();
        assert!(output.stdout == vec![b'a'; 131_072]);
    }
    let tap = || Interface::named("bpf0").is_ok();
    assert!(host.enter(tap).unwrap());
    server.end();
    assert!(!host.enter(tap).unwrap());
}

/// The elastic threads among those that told something, by name.
fn elastic(threads: Vec<Thread>) -> Vec<Thread> {
    let mut elastic: Vec<_> = threads
        .into_iter()
        .filter(|thread| thread.name.starts_with("ix-"))
        .collect();
    elastic.sort_by(|a, b| a.name.cmp(&b.name));
    elastic
}

/// With two threads both have a queue, take connections from it and answer on it.
#[test]
fn two_threads_serve_two_queues() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let (server, mut recorder) = serve_recorded(&server, &["--threads", "2"]);
    recorder.during(|| load(&client, &plan(64, 64)));
    let threads = elastic(recorder.finish());
    assert_eq!(threads.len(), 2);
    for (queue, thread) in (0..).zip(&threads) {
        assert_eq!(thread.name, format!("ix-{queue}"));
        assert!(thread.totals.requests > 0 && thread.totals.tx_packets > 0);
        for burst in thread
            .at(points::RX_BURST)
            .iter()
            .chain(&thread.at(points::TX_BURST))
        {
            assert_eq!(burst.flow.raw() >> 24, queue);
        }
    }
    // A connection is its queue's: no flow is seen on both.
    let flows = |thread: &Thread| -> std::collections::BTreeSet<_> {
        thread
            .at(points::APP_START)
            .iter()
            .map(|e| e.flow)
            .collect()
    };
    let (a, b) = (flows(&threads[0]), flows(&threads[1]));
    assert!(a.len() + b.len() >= 64 && a.is_disjoint(&b));
    server.end();
}

/// Over a bad link, and through sockets that sum checksums, every body arrives intact all the same.
#[test]
fn bad_links_harm_no_body() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    for dev in [
        "packet:ix-s,loss=1%,reorder=1%,corrupt=0.1%,seed=7",
        "xdp:ix-s,loss=1%,seed=8",
        "packet:ix-s,offload=tx",
    ] {
        let arguments = ["--dev", dev, "--body", "131072"];
        let server = Server::spawn(command(&server, &arguments));
        load(&client, &plan(4, 131_072));
        server.end();
    }
}

/// A server whose interface is removed ends, with what happened.
#[test]
fn a_device_that_goes_ends_the_server() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let mut httpd = command(&server, &DEV);
    httpd.args(["--threads", "2"]).stderr(Stdio::piped());
    let mut child = httpd.stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 5];
    let stdout = child.stdout.as_mut().unwrap();
    stdout.read_exact(&mut ready).unwrap();
    // Both ends go with the namespace of one.
    drop(client);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("interface ix-s has gone"), "{said}");
}

/// What cannot be served is refused with the fix.
#[test]
fn refusals_say_what_to_do() {
    let cases = [
        ("--dev packet:x,spread=turn", 2, "leave out spread=turn"),
        ("--threads 257", 1, "at most 256"),
        ("--listen 10.123.0.2:0", 2, "a port of its own"),
        ("--dev packet:nowhere", 1, "nowhere"),
        (
            "--ix-reply-buffer heap",
            2,
            "possible values: thread, connection, 2mib",
        ),
    ];
    for (arguments, code, text) in cases {
        let mut httpd = Command::new(env!("CARGO_BIN_EXE_httpd"));
        httpd.args(["--stack", "ix"]).args(arguments.split(' '));
        let output = httpd.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(text), "{arguments}: {said}");
        assert_eq!(output.status.code(), Some(code), "{arguments}: {said}");
    }
}

/// Frames, capacity and first number of each burst received.
fn batches(thread: &Thread) -> Vec<(u32, u32, u32)> {
    let burst = |e: &&Event| {
        (
            e.flow.raw() & 0xfff,
            (e.flow.raw() >> 12) & 0xfff,
            e.args[0],
        )
    };
    thread.at(points::RX_BURST).iter().map(burst).collect()
}

/// A lone connection makes batches of a packet or two, hundreds at once make them as large as 64, never larger; no packet
/// is missing between them.
#[test]
fn batches_adapt_to_the_load() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let (server, mut recorder) = serve_recorded(&server, &[]);
    recorder.during(|| load(&client, &plan(1, 64)));
    let light = elastic(recorder.finish());
    // A request and an acknowledgement, at the start and the end also the handshake's segments and ARP.
    let light = batches(&light[0]);
    assert!(
        light
            .iter()
            .all(|&(n, capacity, _)| n <= 4 && capacity == 64)
    );
    server.end();

    let (client, server) = joined(&lab);
    let (server, mut recorder) = serve_recorded(&server, &[]);
    recorder.during(|| load(&client, &plan(400, 64)));
    let heavy = elastic(recorder.finish());
    let heavy = batches(&heavy[0]);
    assert_eq!(heavy.iter().map(|&(n, ..)| n).max(), Some(64));
    for pair in heavy.windows(2) {
        let [(n, _, first), (_, _, next)] = pair else {
            unreachable!()
        };
        assert_eq!(first.wrapping_add(*n), *next);
    }
    server.end();
}

/// Kind and payload of a segment that left.
fn segment_out(event: &Event) -> (u32, u32) {
    (event.args[1] >> 24, event.args[1] & 0xff_ffff)
}

/// Every point of `docs/design/stacks.md` 7.3 fires, with arguments that can be.
#[test]
fn every_point_fires() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let arguments = ["--body", "300000", "--ix-side-poll", "shared"];
    let (server, mut recorder) = serve_recorded(&server, &arguments);
    let dialogues = || {
        load(&client, &plan(8, 300_000));
        let cut = || {
            // Half a request is acknowledged by itself after a millisecond.
            let mut stream = connect();
            let (a, b) = LAST_GET.split_at(9);
            stream.write_all(a.as_bytes()).unwrap();
            thread::sleep(Duration::from_millis(50));
            stream.write_all(b.as_bytes()).unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
        };
        client.enter(cut).unwrap();
    };
    recorder.during(dialogues);
    let threads = elastic(recorder.finish());
    let thread = &threads[0];
    let some = |point| {
        let events = thread.at(point);
        assert!(!events.is_empty(), "{point:?} never fired");
        events
    };
    some(points::IDLE_BEGIN);
    assert!(some(points::IDLE_END).iter().any(|e| e.wide() > 0));
    assert!(some(points::LOOP).iter().all(|e| e.args[0] > 0));
    assert!(some(points::SIDE_POLL).iter().all(|e| e.args[0] > 0));
    let batches = batches(thread);
    assert!(batches.iter().all(|&(n, ..)| (1..=64).contains(&n)));

    for e in some(points::TCP_IN) {
        assert!(e.flow.raw() != 0 && e.args[1] & 0xff_ffff <= 1460);
    }
    assert!(thread.at(points::TCP_IN).iter().any(|e| e.args[2] > 0));
    for what in 0..=2 {
        let of_kind = |e: &&&Event| e.args[3] == what;
        let told = some(points::DELIVER);
        let told: Vec<_> = told.iter().filter(of_kind).collect();
        assert!(!told.is_empty(), "deliver of kind {what} never fired");
        for e in &told {
            let sized = (e.args[0] > 0) == (what != 2);
            assert!(sized && (1..=8192).contains(&e.args[1]), "{e:?}");
        }
        assert!(told.iter().any(|e| e.args[2] > 0), "no age of kind {what}");
    }
    let (starts, ends) = (some(points::APP_START), some(points::APP_END));
    assert_eq!(starts.len(), ends.len());
    assert!(starts.windows(2).all(|w| w[0].args[0] + 1 == w[1].args[0]));
    for e in some(points::SEND_CALL) {
        let [asked, accepted, left] = [e.args[0], e.args[1], e.args[2]];
        assert!(accepted == asked.min(left) && left <= 65_536, "{e:?}");
    }
    let window_full = |e: &&Event| e.args[..2] == [65_536, 3];
    assert!(some(points::FULL).iter().any(window_full));
    for kind in [0, 1, 4] {
        let out = some(points::TCP_OUT);
        assert!(out.iter().any(|e| segment_out(e).0 == kind), "kind {kind}");
    }
    for e in some(points::TCP_OUT) {
        assert!(e.flow.raw() != 0 && segment_out(e).1 <= 1460);
        // Ten segments are the initial window, and FIN counts as a byte.
        assert!(e.args[2] <= 65_537 && e.args[3] >= 10 * 1400 && e.args[5] <= 5);
    }
    for e in some(points::TX_BURST) {
        let (accepted, asked) = ((e.flow.raw() >> 12) & 0xfff, e.flow.raw() & 0xfff);
        assert!(accepted <= asked && (1..=64).contains(&asked), "{e:?}");
        assert!([1, 3].contains(&e.args[2]), "{e:?}");
    }
    assert!(some(points::TIMER).iter().any(|e| e.args[0] == 2));
    server.end();
}

/// IX1: in a large send the connection's 64 KiB fill, and the next bytes are asked for only once an acknowledgement has
/// come through a `sent` condition and its handler.
#[test]
fn large_sends_wait_for_sent_conditions() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let (server, mut recorder) = serve_recorded(&server, &["--body", "1048576"]);
    let mut bodies = plan(1, 1 << 20);
    (bodies.digest, bodies.body) = (None, Some(1 << 20));
    recorder.during(|| load(&client, &bodies));
    let threads = elastic(recorder.finish());
    let (mut refused, mut waits) = (false, 0);
    for e in &threads[0].events {
        match e.point {
            points::SEND_CALL => {
                assert!(!refused, "sent again without room: {e:?}");
                refused = e.args[1] < e.args[0];
                waits += u32::from(refused);
            }
            points::DELIVER if e.args[3] == 1 => refused = false,
            _ => {}
        }
    }
    // A megabyte is sixteen windows.
    let asked = threads[0].at(points::APP_START).len() as u32;
    assert!(waits >= 15 * (asked - 1), "{waits} waits, {asked} bodies");
    server.end();
}

/// IX4: requests one at a time on each of 64 connections are acknowledged by their replies, none by itself.
#[test]
fn acknowledgements_ride_on_replies() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let (server, mut recorder) = serve_recorded(&server, &[]);
    recorder.during(|| load(&client, &plan(64, 64)));
    let threads = elastic(recorder.finish());
    let out = threads[0].at(points::TCP_OUT);
    let of_kind = |kind| out.iter().filter(|e| segment_out(e).0 == kind).count();
    let (data, acks) = (of_kind(0), of_kind(1));
    // The clients' FINs are acknowledged by themselves.
    assert!(
        data > 100 && acks <= 64 + data / 100,
        "{data} data, {acks} acks"
    );
    server.end();
}
