//! What only the ix stack does, with the kernel's TCP as its client, in network namespaces of the test's own. Needs root;
//! says so and passes without.

use crate::events::Thread;
use crate::server::Server;
use crate::traced::{of_kind, rx_burst, segment_out, traced, tx_burst};
use crate::veth::{GET, LAST_GET, connect, dialogue, joined, lab, load};
use bypassprof_wire::{Event, points};
use httpscenes::sha256_of_letters;
use loadgen::Load;
use netlab::Namespace;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Command;
use std::thread;
use std::time::Duration;

/// Where every server here listens.
const ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 123, 0, 2), 8080);
const DEV: [&str; 2] = ["--dev", "packet:http-s"];

fn serve(namespace: &Namespace, arguments: &[&str]) -> Server {
    crate::veth::serve(namespace, "ix", &[&DEV, arguments].concat())
}

/// What the elastic threads told while `work` was done, by their numbers.
fn trace(namespace: &Namespace, arguments: &[&str], work: impl FnOnce() + Send) -> Vec<Thread> {
    let arguments = [&DEV, arguments].concat();
    let mut threads = traced(namespace, "ix", &arguments, |_| work());
    threads.retain(|thread| thread.name.starts_with("ix-"));
    threads.sort_by(|a, b| a.name.cmp(&b.name));
    threads
}

/// A closed loop of GETs over `connections` for half a second, every body compared.
fn plan(connections: usize, body: usize) -> Load {
    let mut plan = Load::new(ADDRESS);
    plan.duration = Duration::from_millis(500);
    (plan.connections, plan.timeout) = (connections, Duration::from_secs(10));
    plan.digest = Some(sha256_of_letters(body));
    plan
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
        let both = format!("{GET}{LAST_GET}");
        let out = dialogue(&client, server.address, &both, 1000);
        assert!(out.contains("keep-alive") && out.contains("Connection: close"));
        assert_eq!(out.matches("aaaa").count(), 2 * 100_000 / 4);
        server.end();
    }
}

/// With two threads both have a queue, take connections from it and answer on it.
#[test]
fn two_threads_serve_two_queues() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let threads = trace(&server, &["--threads", "2"], || {
        load(&client, &plan(64, 64));
    });
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
    let flows = |thread: &Thread| -> BTreeSet<_> {
        thread
            .at(points::APP_START)
            .iter()
            .map(|e| e.flow)
            .collect()
    };
    let (a, b) = (flows(&threads[0]), flows(&threads[1]));
    assert!(a.len() + b.len() >= 64 && a.is_disjoint(&b));
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
    let bursts = thread.at(points::RX_BURST).into_iter();
    let numbers = bursts.map(|e| (rx_burst(e).1, rx_burst(e).0, e.args[0]));
    numbers.collect()
}

/// A lone connection makes batches of a packet or two, hundreds at once make them as large as 64, never larger; no packet
/// is missing between them.
#[test]
fn batches_adapt_to_the_load() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let light = trace(&server, &[], || {
        load(&client, &plan(1, 64));
    });
    // A request and an acknowledgement, at the start and the end also the handshake's segments and ARP.
    let light = batches(&light[0]);
    assert!(
        light
            .iter()
            .all(|&(n, capacity, _)| n <= 4 && capacity == 64)
    );

    let (client, server) = joined(&lab);
    let heavy = trace(&server, &[], || {
        load(&client, &plan(400, 64));
    });
    let heavy = batches(&heavy[0]);
    assert_eq!(heavy.iter().map(|&(n, ..)| n).max(), Some(64));
    for pair in heavy.windows(2) {
        let [(n, _, first), (_, _, next)] = pair else {
            unreachable!()
        };
        assert_eq!(first.wrapping_add(*n), *next);
    }
}

/// Every point of `docs/design/stacks.md` 7.3 fires, with arguments that can be.
#[test]
fn every_point_fires() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let arguments = ["--body", "300000", "--ix-side-poll", "shared"];
    let dialogues = || {
        load(&client, &plan(8, 300_000));
        // Half a request is acknowledged by itself after a millisecond.
        let mut stream = connect(&client, ADDRESS);
        let (a, b) = LAST_GET.split_at(9);
        stream.write_all(a.as_bytes()).unwrap();
        thread::sleep(Duration::from_millis(50));
        stream.write_all(b.as_bytes()).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    };
    let threads = trace(&server, &arguments, dialogues);
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
        let (accepted, asked) = tx_burst(e);
        assert!(accepted <= asked && (1..=64).contains(&asked), "{e:?}");
        assert!([1, 3].contains(&e.args[2]), "{e:?}");
    }
    assert!(some(points::TIMER).iter().any(|e| e.args[0] == 2));
}

/// IX1: in a large send the connection's 64 KiB fill, and the next bytes are asked for only once an acknowledgement has
/// come through a `sent` condition and its handler.
#[test]
fn large_sends_wait_for_sent_conditions() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let mut bodies = plan(1, 1 << 20);
    (bodies.digest, bodies.body) = (None, Some(1 << 20));
    let threads = trace(&server, &["--body", "1048576"], || {
        load(&client, &bodies);
    });
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
}

/// IX4: requests one at a time on each of 64 connections are acknowledged by their replies, none by itself.
#[test]
fn acknowledgements_ride_on_replies() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let threads = trace(&server, &[], || {
        load(&client, &plan(64, 64));
    });
    let (data, acks) = (of_kind(&threads[0], 0), of_kind(&threads[0], 1));
    // The clients' FINs are acknowledged by themselves, and what they send again where a busy machine keeps them waiting.
    assert!(
        data > 100 && acks <= 64 + data / 20,
        "{data} data, {acks} acks"
    );
}
