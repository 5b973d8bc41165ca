//! smoltcp and lwIP behind a real device, with the kernel's TCP as their clients, in namespaces of the test's own.

use crate::veth::is_built;
use bypassprof_wire::points;
use httpscenes::recorded::Session;
use httpscenes::{Server, Site, plan, sha256_of_letters};
use std::process::Command;

const HTTPD: &str = env!("CARGO_BIN_EXE_httpd");

fn stacks() -> Vec<&'static str> {
    let mut stacks = vec!["smoltcp", "lwip"];
    stacks.retain(|stack| is_built(stack));
    stacks
}

fn serve(site: &Site, stack: &str, more: &[&str]) -> Server {
    site.serve(HTTPD, &[&["--stack", stack], more].concat(), None)
}

/// 64 connections at 64 bytes, uploads, pipelines, half-closed clients, requests byte by byte.
#[test]
fn small_requests_of_every_shape() {
    let Some(site) = Site::new() else { return };
    for stack in stacks() {
        let mut server = serve(&site, stack, &[]);
        let mut load = plan(64, 500);
        load.body = Some(64);
        let answered = site.load(&load).requests;
        load.connections = 2;
        load.post = Some(200_000);
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
    for stack in stacks() {
        let server = serve(&site, stack, &["--body", "1048576"]);
        let mut load = plan(4, 500);
        load.digest = Some(sha256_of_letters(1 << 20));
        site.load(&load);
        server.end();
    }
}

/// Clients that read late, through little room, or after they have ended their own side, get every byte.
#[test]
fn late_readers_get_all() {
    const BODY: usize = 200_000;
    let Some(site) = Site::new() else { return };
    for stack in stacks() {
        let server = serve(&site, stack, &["--body", "200000"]);
        site.connect(|| httpscenes::half_closed_and_late(BODY, 5));
        // smoltcp feeds the smallest room that Linux allows by its retransmission timer only.
        let buffers: &[usize] = if stack == "smoltcp" {
            &[4096]
        } else {
            &[1, 4096]
        };
        for &buffer in buffers {
            site.connect(|| httpscenes::slow_reader(buffer, BODY));
        }
        server.end();
    }
}

/// Connections come and go by the server's end, the client's end and resets; those that are there go on being served.
#[test]
fn connections_come_and_go() {
    let Some(site) = Site::new() else { return };
    for stack in stacks() {
        // Few sockets, so that TIME-WAIT has to give them up.
        let few: &[&str] = match stack {
            "smoltcp" => &["--smoltcp-sockets", "40"],
            _ => &[],
        };
        let server = serve(&site, stack, few);
        site.connect(|| httpscenes::churn(100));
        site.load(&plan(16, 200));
        server.end();
    }
}

/// Who comes back from a port whose last connection is in TIME-WAIT is answered at its first SYN.
#[test]
fn a_port_is_used_again() {
    let Some(site) = Site::new() else { return };
    for stack in stacks() {
        let session = Session::in_memory();
        let server = site.serve(HTTPD, &["--stack", stack], Some(session.path()));
        let events = session.record(|| site.connect(|| httpscenes::from_one_port(20)));
        server.end();
        let segments = events.at(points::TCP_IN).into_iter();
        let syns = segments.filter(|e| e.args[1] >> 24 & 2 != 0).count();
        assert_eq!(syns, 20, "{stack}");
    }
}

/// Every point that these rows have fires, with arguments that fit the load.
#[test]
fn points_tell_the_truth() {
    let Some(site) = Site::new() else { return };
    for stack in stacks() {
        let session = Session::in_memory();
        let server = site.serve(HTTPD, &["--stack", stack], Some(session.path()));
        // From a time before the points were on: the peers' windows and sequence numbers are known from the handshake.
        let events = session.record(|| {
            let mut load = plan(8, 300);
            load.rate = Some(500.0);
            site.load(&load);
        });
        httpscenes::points::are_sane(&events, 32, 8);
        // Whoever waits for the rest of a request acknowledges its beginning by a timer.
        let events = session.record(|| site.connect(httpscenes::in_two_parts));
        server.end();
        for event in events.at(points::TIMER) {
            assert!((1..=6).contains(&event.args[0]), "{event:?}");
        }
    }
}

/// What these rows cannot be asked for is refused by name.
#[test]
fn refusals_name_the_option() {
    for (arguments, words) in [
        (&["--threads", "2"][..], "runs in one thread"),
        (
            &["--listen", "0.0.0.0:80"],
            "an address and a port of its own",
        ),
        (&["--dev", "packet:no-such-one"], "no-such-one"),
    ] {
        for stack in stacks() {
            let mut command = Command::new(HTTPD);
            let output = command
                .args(["--stack", stack])
                .args(arguments)
                .output()
                .unwrap();
            let error = String::from_utf8(output.stderr).unwrap();
            assert!(!output.status.success() && error.contains(words), "{error}");
        }
    }
}
