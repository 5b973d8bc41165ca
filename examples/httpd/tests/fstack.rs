//! What only the fstack stack does, in network namespaces of the test's own. Needs root; says so and passes without.

use crate::events::Thread;
use crate::server::Server;
use crate::traced::{named, of_kind, rx_burst, traced, tx_burst};
use crate::veth::{GET, LAST_GET, connect, dialogue, joined, lab, load};
use bypassprof_probe::Flow;
use bypassprof_wire::points;
use loadgen::Load;
use netlab::Namespace;
use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

fn serve(namespace: &Namespace, arguments: &[&str]) -> Server {
    crate::veth::serve(namespace, "fstack", arguments)
}

/// Two loops, a queue each: both serve, and no flow is seen by both.
#[test]
fn two_threads_use_two_queues() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let arguments = ["--dev", "packet:http-s", "--threads", "2"];
    let threads = traced(&server, "fstack", &arguments, |address| {
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
    let threads = traced(&server, "fstack", &arguments, |address| {
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
        let other = dialogue(&client, server.address, LAST_GET, 5);
        assert!(other.ends_with(&"a".repeat(300_000)));
        let mut out = String::new();
        slow.read_to_string(&mut out).unwrap();
        assert_eq!(out.matches("200 OK").count(), TIMES);
        assert_eq!(out.len(), TIMES * (91 + 300_000));
    }
    server.end();
}

/// Every point that the study's page lists for F-Stack fires at its place, with arguments that can be true.
#[test]
fn every_point_fires() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let arguments = ["--dev", "packet:http-s", "--body", "300000", "--side-poll"];
    let threads = traced(&server, "fstack", &arguments, |address| {
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
    assert!(bursts.iter().all(|e| (1..=32).contains(&rx_burst(e).1)));
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
    assert!(of_kind(thread, 0) > 0 && of_kind(thread, 1) > 0);
    let drains = thread.at(points::TX_BURST);
    let by = |trigger: u32| drains.iter().filter(move |e| e.args[2] == trigger);
    // The timer's bursts are what is left of full ones, or a lone frame's.
    assert!(by(2).count() > 0 && by(1).count() > 0);
    assert!(by(1).all(|e| tx_burst(e).1 >= 32));
    assert!(thread.at(points::TIMER).iter().any(|e| e.args[0] == 6));
}
