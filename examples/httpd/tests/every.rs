//! What every stack of ours does alike, behind real devices, with the kernel's TCP as its clients, in network namespaces of
//! the test's own. Needs root; says so and passes without. What is particular to a stack has a file of its own.

use crate::server::Server;
use crate::veth::{
    GET, LAST_GET, URL, bodies_come_whole, come_and_go, command, connect, dialogue, installed,
    joined, lab, load,
};
use httpscenes::sha256_of_letters;
use loadgen::Load;
use netlab::{Interface, Namespace};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddrV4};
use std::process::{Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const DEV: [&str; 2] = ["--dev", "packet:http-s"];

/// One stack under test.
struct Row {
    stack: &'static str,
    /// The option for a number of queues.
    queues: &'static str,
}

impl Row {
    fn serve(&self, namespace: &Namespace, arguments: &[&str]) -> Server {
        crate::veth::serve(namespace, self.stack, &[&DEV, arguments].concat())
    }
}

/// Over veth and AF_PACKET: 64 connections at 64 B, a thousand, large POSTs, wrk where it is installed; over two queues
/// megabytes with their digest.
fn veth_carries_small_and_large(row: &Row) {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let small = row.serve(&server, &[]);
    let mut plan = plan(small.address);
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

    let large = row.serve(&server, &[row.queues, "2", "--body", "1048576"]);
    plan.connections = 4;
    (plan.body, plan.post) = (None, None);
    plan.digest = Some(sha256_of_letters(1 << 20));
    load(&client, &plan);
    large.end();
}

/// A closed loop of half a second, of a client that waits longer than a busy machine may take.
fn plan(address: SocketAddrV4) -> Load {
    let mut plan = Load::new(address);
    plan.duration = Duration::from_millis(500);
    plan.timeout = Duration::from_secs(10);
    plan
}

/// Without `--dev` it makes its own TAP, with a queue for each thread, and the host reaches it, curl too; the TAP goes
/// away with it.
fn a_tap_of_its_own_serves_the_host(row: &Row) {
    let Some(lab) = lab() else { return };
    let host = lab.namespace("host").unwrap();
    if !std::path::Path::new("/dev/net/tun").exists() {
        eprintln!("skipped: there is no /dev/net/tun here");
        return;
    }
    for queues in ["1", "2"] {
        let arguments = ["--body", "131072", row.queues, queues];
        let server = crate::veth::serve(&host, row.stack, &arguments);
        let mut plan = plan(server.address);
        plan.connections = 8;
        plan.digest = Some(sha256_of_letters(131_072));
        load(&host, &plan);
        if installed("curl") {
            let mut curl = host.command("curl");
            let output = curl.args(["-s", "-m", "20", URL]).output().unwrap();
            assert!(output.stdout == vec![b'a'; 131_072]);
            let bad = "-s -m 20 -o /dev/null -w %{http_code} -X BREW";
            let mut curl = host.command("curl");
            let output = curl.args(bad.split(' ')).arg(URL).output().unwrap();
            assert_eq!(output.stdout, b"400");
        }
        let tap = || Interface::named("bpf0").is_ok();
        assert!(host.enter(tap).unwrap());
        server.end();
        assert!(!host.enter(tap).unwrap());
    }
}

/// GET, POST, keep-alive, pipelining and garbage on one connection, whole and byte by byte; the client's end of sending
/// does not end the replies.
fn requests_are_answered_in_order(row: &Row) {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let server = row.serve(&server, &["--body", "5"]);
    let post = "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
    let text = format!("{GET}{post}{GET}rubbish\r\n\r\n");
    for piece in [text.len(), 1] {
        let out = dialogue(&client, server.address, &text, piece);
        assert_eq!(out.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{out}");
        assert_eq!(out.matches("\r\n\r\naaaaa").count(), 3, "{out}");
        assert!(out.contains("aaaaaHTTP/1.1 400 Bad Request\r\n"), "{out}");
    }
    let out = dialogue(&client, server.address, LAST_GET, 100);
    assert!(out.ends_with("Connection: close\r\nContent-Length: 5\r\n\r\naaaaa"));
    let mut half_closed = connect(&client, server.address);
    half_closed.write_all(GET.repeat(500).as_bytes()).unwrap();
    half_closed.shutdown(Shutdown::Write).unwrap();
    let mut out = String::new();
    half_closed.read_to_string(&mut out).unwrap();
    assert_eq!(out.matches("\r\n\r\naaaaa").count(), 500);
    server.end();
}

/// The whole of `times` replies on a connection that is kept open, with bodies of `body` letters.
fn replies(body: usize, times: usize) -> Vec<u8> {
    let header = format!(
        "HTTP/1.1 200 OK\r\nServer: bypassprof/1.0\r\nConnection: keep-alive\r\nContent-Length: {body}\r\n\r\n"
    );
    let reply = [header.as_bytes(), &vec![b'a'; body]].concat();
    reply.repeat(times)
}

/// A client that asks often, says that it sends no more and reads late gets every byte, and does not hold others up.
fn half_closed_readers_get_all(row: &Row) {
    const BODY: usize = 300_000;
    const TIMES: usize = 40;
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let server = row.serve(&server, &["--body", "300000"]);
    let mut slow = connect(&client, server.address);
    slow.write_all(GET.repeat(TIMES).as_bytes()).unwrap();
    slow.shutdown(Shutdown::Write).unwrap();
    let other = dialogue(&client, server.address, LAST_GET, 100);
    assert!(other.len() > BODY);
    // The window is shut for longer than several of the server's questions for it take.
    thread::sleep(Duration::from_millis(500));
    let mut out = Vec::new();
    slow.read_to_end(&mut out).unwrap();
    assert!(out == replies(BODY, TIMES), "{} bytes", out.len());
    server.end();
}

/// Clients that read a KiB in a second, through a window of a few, hold nobody up, and get all if they are given time.
fn slow_readers_hold_nobody_up(row: &Row) {
    const BODY: usize = 100_000;
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let server = row.serve(&server, &["--body", "100000"]);
    let mut slow: Vec<_> = (0..8)
        .map(|_| {
            let mut stream = connect(&client, server.address);
            set_socket_recv_buffer_size(&stream, 4096).unwrap();
            stream.write_all(GET.repeat(3).as_bytes()).unwrap();
            (stream, Vec::new())
        })
        .collect();
    let mut others = plan(server.address);
    others.connections = 8;
    others.digest = Some(sha256_of_letters(BODY));
    for _ in 0..4 {
        let start = Instant::now();
        for (stream, out) in &mut slow {
            let mut piece = [0; 1024];
            stream.read_exact(&mut piece).unwrap();
            out.extend_from_slice(&piece);
        }
        load(&client, &others);
        thread::sleep(Duration::from_secs(1).saturating_sub(start.elapsed()));
    }
    let all = replies(BODY, 3);
    for (mut stream, mut out) in slow {
        set_socket_recv_buffer_size(&stream, 1 << 20).unwrap();
        let mut rest = vec![0; all.len() - out.len()];
        stream.read_exact(&mut rest).unwrap();
        out.append(&mut rest);
        assert!(out == all);
    }
    server.end();
}

/// Connections by the hundred, ended by either side or by a reset, leave nothing behind that hinders the next ones; a
/// thousand that stay do not hinder those that talk.
fn connections_come_go_and_stay(row: &Row) {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let server = row.serve(&server, &["--threads", "2"]);
    let idle: Vec<_> = (0..1000)
        .map(|_| connect(&client, server.address))
        .collect();
    come_and_go(&client, server.address);
    let mut talk = plan(server.address);
    (talk.connections, talk.body) = (32, Some(64));
    load(&client, &talk);
    for mut stream in idle {
        stream.write_all(LAST_GET.as_bytes()).unwrap();
        let mut out = String::new();
        stream.read_to_string(&mut out).unwrap();
        assert!(out.ends_with("aaa"), "{out}");
    }
    server.end();
}

/// Where frames are lost, change places or are spoilt, through sockets that leave the sums to others too, what arrives is
/// still what was sent.
fn bad_links_carry_whole_bodies(row: &Row) {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    for dev in [
        "packet:http-s,loss=1%,reorder=1%,corrupt=0.1%,seed=7",
        "xdp:http-s,loss=1%,seed=8",
        "packet:http-s,offload=tx",
    ] {
        bodies_come_whole(&client, &server, row.stack, &["--dev", dev]);
    }
}

/// A device that is switched off or removed ends the server, which says which one.
fn a_device_that_goes_ends_the_server(row: &Row) {
    let Some(lab) = lab() else { return };
    let (_client, space) = joined(&lab);
    let said = ends(row, &space, || {
        let cut = || Interface::named("http-s")?.down();
        space.enter(cut).unwrap().unwrap();
    });
    assert!(said.contains("http-s was switched off"), "{said}");

    let (client, space) = joined(&lab);
    // Both ends go with the namespace of one.
    let said = ends(row, &space, || drop(client));
    assert!(said.contains("interface http-s has gone"), "{said}");
}

/// What a server says that ends with a failure after `what` has happened to its device.
fn ends(row: &Row, space: &Namespace, what: impl FnOnce()) -> String {
    let arguments = [&DEV[..], &[row.queues, "2"]].concat();
    let mut command = command(space, row.stack, &arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut httpd = command.spawn().unwrap();
    let mut ready = [0; 5];
    let out = httpd.stdout.as_mut().unwrap();
    out.read_exact(&mut ready).unwrap();
    assert_eq!(&ready, b"ready");
    what();
    let Output { status, stderr, .. } = httpd.wait_with_output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    said
}

/// A test of each of these scenes for each of these stacks.
macro_rules! each {
    ($($stack:ident $queues:literal)*; $scenes:tt) => {
        $(each! { @row $stack $queues $scenes })*
    };
    (@row $stack:ident $queues:literal { $($scene:ident)* }) => {
        mod $stack {
            const ROW: super::Row = super::Row { stack: stringify!($stack), queues: $queues };
            $(#[test]
            fn $scene() {
                super::$scene(&ROW);
            })*
        }
    };
}

each! {
    mtcp "--threads" fstack "--threads" ix "--threads" tas "--fp-cores"; {
        veth_carries_small_and_large
        a_tap_of_its_own_serves_the_host
        requests_are_answered_in_order
        half_closed_readers_get_all
        slow_readers_hold_nobody_up
        connections_come_go_and_stay
        bad_links_carry_whole_bodies
        a_device_that_goes_ends_the_server
    }
}
