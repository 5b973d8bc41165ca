//! Demikernel behind a real device, with the kernel's TCP as its clients, in namespaces of the test's own.

use bypassprof_wire::points;
use httpscenes::recorded::Session;
use httpscenes::{ADDRESS, Site, plan, sha256_of_letters};
use std::io::Write;
use std::net::TcpStream;

const PROGRAM: &str = env!("CARGO_BIN_EXE_httpd-demikernel");

/// 64 connections at 64 bytes, uploads, pipelines, half-closed clients, requests byte by byte, by both ways of waiting.
#[test]
fn small_requests_of_every_shape() {
    let Some(site) = Site::new() else { return };
    for wait in ["any", "next"] {
        let mut server = site.serve(PROGRAM, &["--demikernel-wait", wait], None);
        let mut load = plan(64, 500);
        load.body = Some(64);
        let answered = site.load(&load).requests;
        load.connections = 2;
        load.post = Some(20_000);
        site.load(&load);
        site.connect(httpscenes::pipelined);
        site.connect(httpscenes::half_closed);
        site.connect(httpscenes::byte_by_byte);
        assert!(server.requests() >= answered + 22);
        server.end();
    }
}

/// Bodies of a mebibyte arrive whole on four connections at once.
#[test]
fn large_bodies_arrive_whole() {
    let Some(site) = Site::new() else { return };
    let server = site.serve(PROGRAM, &["--body", "1048576"], None);
    let mut load = plan(4, 300);
    load.digest = Some(sha256_of_letters(1 << 20));
    site.load(&load);
    server.end();
}

/// Connections come and go by the server's end, the client's end and resets; those that are there go on being served.
#[test]
fn connections_come_and_go() {
    let Some(site) = Site::new() else { return };
    let server = site.serve(PROGRAM, &[], None);
    site.connect(|| httpscenes::churn(50));
    site.load(&plan(16, 200));
    server.end();
}

/// Clients that read late, through little room, or after they have ended their own side, get every byte. The window closes
/// on them more than once, down to one that no push of the usual length fits into.
#[test]
fn late_readers_get_all() {
    const BODY: usize = 200_000;
    let Some(site) = Site::new() else { return };
    let server = site.serve(PROGRAM, &["--body", "200000"], None);
    site.connect(|| httpscenes::half_closed_and_late(BODY, 5));
    for buffer in [1, 4096, 30_000] {
        site.connect(|| httpscenes::slow_reader(buffer, BODY));
    }
    server.end();
}

/// One connection more than was asked for is reset, and the others go on; there is room again when one has ended.
#[test]
fn one_connection_too_many_is_reset() {
    let Some(site) = Site::new() else { return };
    let server = site.serve(PROGRAM, &["--demikernel-connections", "4"], None);
    site.connect(|| {
        let held: Vec<_> = (0..4)
            .map(|_| TcpStream::connect(ADDRESS).unwrap())
            .collect();
        assert!(TcpStream::connect(ADDRESS).is_err());
        for mut stream in held {
            let whole = b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n";
            stream.write_all(whole).unwrap();
            let mut reply = Vec::new();
            std::io::Read::read_to_end(&mut stream, &mut reply).unwrap();
            assert_eq!(reply.len(), 146);
        }
        httpscenes::half_closed();
    });
    server.end();
}

/// Every point that this row has fires, with arguments that fit the load; each frame leaves in a burst of its own.
#[test]
fn points_tell_the_truth() {
    let Some(site) = Site::new() else { return };
    let session = Session::in_memory();
    let server = site.serve(PROGRAM, &[], Some(session.path()));
    let events = session.record(|| {
        let mut load = plan(8, 300);
        load.rate = Some(500.0);
        site.load(&load);
    });
    server.end();
    httpscenes::points::are_sane(&events, 4, 8);
    for event in events.at(points::TX_BURST) {
        assert_eq!(
            (event.flow.raw() & 0xfff, event.args[2]),
            (1, 0),
            "{event:?}"
        );
    }
    for event in events.at(events.own("wait_any")) {
        // An accept and, of each connection, a pop, the pushes that are not acknowledged, its close.
        assert!(
            (1..=1 + 8 * 42).contains(&event.args[0]) && event.args[1] == 1,
            "{event:?}"
        );
    }
}
