//! The fstack stack behind real devices, in network namespaces of the test's own. Needs root; says so and passes without.

mod events;
mod server;
mod veth;

use bypassprof_probe::Flow;
use bypassprof_wire::points;
use events::{Recorder, Thread, session};
use loadgen::Load;
use netlab::{Interface, Namespace};
use server::{Server, sha256_of_letters};
use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddrV4};
use std::time::Duration;
use veth::{
    GET, URL, bodies_come_whole, come_and_go, command, connect, dialogue, installed, joined, lab,
    load,
};

fn serve(namespace: &Namespace, arguments: &[&str]) -> Server {
    veth::serve(namespace, "fstack", arguments)
}

/// Over veth and AF_PACKET: 64 connections at 64 B, megabytes with their digest, large POSTs, wrk where it is installed.
#[test]
fn veth_carries_small_and_large() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let dev = ["--dev", "packet:http-s"];

    let small = serve(&server, &dev);
    let mut plan = Load::new(small.address);
    plan.duration = Duration::from_millis(500);
    (plan.connections, plan.body) = (64, Some(64));
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

    let large = serve(&server, &[&dev[..], &["--body", "1048576"]].concat());
    plan.connections = 4;
    (plan.body, plan.post) = (None, None);
    plan.digest = Some(sha256_of_letters(1 << 20));
    load(&client, &plan);
    large.end();
}

/// Without `--dev` it makes its own TAP, and curl reaches it; the TAP goes away with it.
#[test]
fn a_tap_of_its_own_serves_the_host() {
    let Some(lab) = lab() else { return };
    let host = lab.namespace("host").unwrap();
    if !std::path::Path::new("/dev/net/tun").exists() {
        eprintln!("skipped: there is no /dev/net/tun here");
        return;
    }
    let server = serve(&host, &["--body", "1000000"]);
    let mut plan = Load::new(server.address);
    plan.duration = Duration::from_millis(300);
    plan.digest = Some(sha256_of_letters(1_000_000));
    load(&host, &plan);
    if installed("curl") {
        let mut curl = host.command("curl");
        let output = curl.args(["-s", "-m", "10", URL]).output().unwrap();
        assert!(output.stdout == vec![b'a'; 1_000_000]);
        let mut curl = host.command("curl");
        let bad = [
            "-s",
            "-m",
            "10",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-X",
            "BREW",
            URL,
        ];
        let output = curl.args(bad).output().unwrap();
        assert_eq!(output.stdout, b"400");
    }
    let tap = || Interface::named("bpf0").is_ok();
    assert!(host.enter(tap).unwrap());
    server.end();
    assert!(!host.enter(tap).unwrap());
}

/// What the threads told while `work` was done.
fn traced(
    namespace: &Namespace,
    arguments: &[&str],
    work: impl FnOnce(SocketAddrV4) + Send,
) -> Vec<Thread> {
    let session = session();
    let mut command = command(namespace, "fstack", arguments);
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

/// Two loops, a queue each: both serve, and no flow is seen by both.
#[test]
fn two_threads_use_two_queues() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let arguments = ["--dev", "packet:http-s", "--threads", "2"];
    let threads = traced(&server, &arguments, |address| {
        let mut plan = Load::new(address);
        plan.duration = Duration::from_millis(500);
        (plan.connections, plan.body) = (64, Some(64));
        load(&client, &plan);
    });
    let flows = |thread: &Thread| -> HashSet<u32> {
        let seen = thread.at(points::TCP_IN);
        seen.into_iter().map(|e| e.flow.raw()).collect()
    };
    let loops = [0, 1].map(|core| named(&threads, &format!("fstack-{core}")));
    for (core, thread) in loops.iter().enumerate() {
        let bursts = thread.at(points::RX_BURST);
        assert!(!bursts.is_empty());
        assert!(bursts.iter().all(|e| e.flow.raw() >> 24 == core as u32));
        assert!(!thread.at(points::APP_END).is_empty());
        // ARP alone crosses, and no one asks for an address all the time.
        assert!(thread.at(points::HANDOFF).len() < 10);
    }
    assert!(flows(loops[0]).is_disjoint(&flows(loops[1])));
}

/// Where the device gives frames to any queue they go over the dispatch rings to the core that owns their flow.
#[test]
fn misdirected_flows_are_dispatched() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let arguments = ["--dev", "packet:http-s,spread=turn", "--threads", "2"];
    let threads = traced(&server, &arguments, |address| {
        let mut plan = Load::new(address);
        plan.duration = Duration::from_millis(500);
        (plan.connections, plan.body) = (64, Some(64));
        load(&client, &plan);
    });
    for core in 0..2u32 {
        let thread = named(&threads, &format!("fstack-{core}"));
        let arrived = thread.at(points::TCP_IN);
        assert!(arrived.iter().all(|e| e.flow.raw() % 2 == core));
        let handed = thread.at(points::HANDOFF);
        assert!(
            handed
                .iter()
                .all(|e| e.args[0] == 1 - core && e.args[2] > 0)
        );
        // About half of them came to the other's queue.
        let share = handed.len() as f64 / arrived.len() as f64;
        assert!((0.3..0.7).contains(&share), "{share}");
        // None of those is taken for a frame of a burst of this queue.
        let bursts = thread.at(points::RX_BURST);
        let of_burst = |number: u32| {
            let holds =
                |e: &&bypassprof_wire::Event| number.wrapping_sub(e.args[0]) < e.flow.raw() & 0xfff;
            bursts.iter().any(holds)
        };
        let received = arrived.iter().filter(|e| of_burst(e.args[0])).count();
        assert!(received > 0 && arrived.len() - received <= handed.len());
        // ARP and segments that no connection waits for are handed over too, and do not enter TCP.
        let (all, others) = (received + handed.len(), arrived.len() / 50 + 10);
        assert!(
            all <= arrived.len() + others,
            "{received} and {} of {}",
            handed.len(),
            arrived.len()
        );
        assert!(!thread.at(points::APP_END).is_empty());
    }
}

/// Pipelined requests, and a client that says that it sends no more and reads late, get all over the rings too.
#[test]
fn order_survives_dispatch() {
    const TIMES: usize = 40;
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let arguments = ["--dev", "packet:http-s,spread=turn", "--threads", "2"];
    let server = serve(&server, &[&arguments[..], &["--body", "300000"]].concat());
    for _ in 0..4 {
        let mut slow = connect(&client, server.address);
        slow.write_all(GET.repeat(TIMES).as_bytes()).unwrap();
        slow.shutdown(Shutdown::Write).unwrap();
        let other = dialogue(&client, server.address, "GET / HTTP/1.0\r\n\r\n", 5);
        assert!(other.ends_with(&"a".repeat(300_000)));
        let mut out = String::new();
        slow.read_to_string(&mut out).unwrap();
        assert_eq!(out.matches("200 OK").count(), TIMES);
        assert_eq!(out.len(), TIMES * (91 + 300_000));
    }
    server.end();
}

/// Where frames are lost, change places or are spoilt, what arrives is still what was sent.
#[test]
fn bad_links_carry_whole_bodies() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let bad = "packet:http-s,loss=1%,reorder=1%,corrupt=0.1%";
    bodies_come_whole(&client, &server, "fstack", bad);
    // F-Stack leaves its sums to the card.
    bodies_come_whole(&client, &server, "fstack", "packet:http-s,offload=tx");
}

/// Connections that come and go by the hundred, ended by either side or by a reset, are all served.
#[test]
fn connections_come_and_go() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let server = serve(&server, &["--dev", "packet:http-s", "--threads", "2"]);
    come_and_go(&client, server.address);
    server.end();
}

/// Every point that the study's page lists for F-Stack fires at its place, with arguments that can be true.
#[test]
fn every_point_fires() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let arguments = ["--dev", "packet:http-s", "--body", "300000", "--side-poll"];
    let threads = traced(&server, &arguments, |address| {
        let mut stream = connect(&client, address);
        // Asked for at once, read late: more than the send buffer holds.
        stream.write_all(GET.repeat(20).as_bytes()).unwrap();
        let mut left = 20 * (91 + 300_000);
        while left > 0 {
            left -= stream.read(&mut [0; 65_536]).unwrap();
        }
        std::thread::sleep(Duration::from_millis(100));
    });
    let thread = named(&threads, "fstack-0");
    let bursts = thread.at(points::RX_BURST);
    assert!(
        bursts
            .iter()
            .all(|e| (1..=32).contains(&(e.flow.raw() & 0xfff)))
    );
    assert!(!thread.at(points::IDLE_BEGIN).is_empty());
    assert!(thread.at(points::IDLE_END).iter().any(|e| e.args[0] > 0));
    let rounds = thread.at(points::LOOP);
    // Of a round in full the parts are no more than the whole, and the side ring was looked at.
    assert!(
        rounds
            .iter()
            .all(|e| e.args[1..6].iter().sum::<u32>() <= e.args[0])
    );
    assert!(rounds.iter().any(|e| e.args[4] > 0));
    let label = |e: &&&bypassprof_wire::Event| e.flow != Flow::NONE;
    assert!(thread.at(points::TCP_IN).iter().filter(label).count() > 20);
    assert!(
        thread
            .at(points::DELIVER)
            .iter()
            .all(|e| e.args[1] >= e.args[0])
    );
    assert_eq!(thread.at(points::APP_START).len(), 20);
    assert_eq!(thread.at(points::APP_END).len(), 20);
    let calls = thread.at(points::SEND_CALL);
    assert!(calls.iter().all(|e| e.args[1] == e.args[0].min(e.args[2])));
    assert!(calls.iter().any(|e| e.args[1] < e.args[0]));
    assert!(thread.at(points::FULL).iter().any(|e| e.args[1] == 3));
    let left = thread.at(points::TCP_OUT);
    assert!(left.iter().any(|e| e.args[1] >> 24 == 0) && left.iter().any(|e| e.args[1] >> 24 == 1));
    let drains = thread.at(points::TX_BURST);
    let by = |trigger: u32| drains.iter().filter(move |e| e.args[2] == trigger);
    // The timer's bursts are what is left of full ones, or a lone frame's.
    assert!(by(2).count() > 0 && by(1).count() > 0);
    assert!(by(1).all(|e| e.flow.raw() & 0xfff >= 32));
    assert!(thread.at(points::TIMER).iter().any(|e| e.args[0] == 6));
}
