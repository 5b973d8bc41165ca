//! What only the mtcp stack does, with the kernel's TCP as its clients, in network namespaces of the test's own. Needs root;
//! says so and passes without.

use crate::events::Thread;
use crate::server::Server;
use crate::traced::{named, of_kind, own, rx_burst, traced};
use crate::veth::{
    GET, LAST_GET, bodies_come_whole, come_and_go, connect, dialogue, joined, lab, load, serve,
};
use bypassprof_wire::points;
use loadgen::Load;
use netlab::Namespace;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::time::Duration;

const DEV: [&str; 2] = ["--dev", "packet:http-s"];

fn start(namespace: &Namespace, arguments: &[&str]) -> Server {
    serve(namespace, "mtcp", &[&DEV, arguments].concat())
}

/// What the threads told while `work` was done.
fn trace(
    namespace: &Namespace,
    arguments: &[&str],
    work: impl FnOnce(SocketAddrV4) + Send,
) -> Vec<Thread> {
    traced(namespace, "mtcp", &[&DEV, arguments].concat(), work)
}

/// A body far longer than the send buffer passes it.
#[test]
fn small_send_buffers_carry_large_bodies() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let arguments = [&DEV[..], &["--mtcp-sndbuf", "8192"]].concat();
    bodies_come_whole(&client, &server, "mtcp", &arguments);
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
    let out = dialogue(&client, server.address, LAST_GET, 100);
    assert!(out.ends_with('a'), "{out}");
    server.end();
}

/// Two threads are two pairs, each with a queue of its own, and both serve.
#[test]
fn two_threads_use_two_queues() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let threads = trace(&server, &["--threads", "2"], |address| {
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
    let threads = trace(&server, &arguments, |address| {
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
        dialogue(&client, address, LAST_GET, 100);
    });
    let (stack, application) = (
        named(&threads, "mtcp-stack-0"),
        named(&threads, "mtcp-app-0"),
    );

    let bursts = stack.at(points::RX_BURST);
    assert!(bursts.iter().all(|e| {
        let (capacity, frames) = rx_burst(e);
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
    let signals = own(stack);
    assert!(signals.len() >= 20 && signals.iter().all(|e| e.args[0] > 0));
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
    let of_kind = |kind| of_kind(stack, kind);
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
