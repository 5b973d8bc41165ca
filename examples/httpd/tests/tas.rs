//! What only the tas stack does, with the kernel's TCP as its clients, in network namespaces of the test's own: two
//! processes, either of which may die. Needs root; says so and passes without.

use crate::events::Thread;
use crate::server::Server;
use crate::traced::{children_of, named, of_kind, own, rx_burst, traced, tx_burst};
use crate::veth::{GET, bodies_come_whole, command, connect, joined, lab, load, serve};
use bypassprof_wire::{Event, points};
use loadgen::Load;
use netlab::Namespace;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

const DEV: [&str; 2] = ["--dev", "packet:http-s"];

fn start(namespace: &Namespace, arguments: &[&str]) -> Server {
    serve(namespace, "tas", &[&DEV, arguments].concat())
}

/// The service of an application: its only child.
fn service_of(application: u32) -> u32 {
    children_of(application)[0]
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

/// Waits for what must come, but not for ever.
fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !is() {
        assert!(Instant::now() < end, "{what} did not come");
        thread::sleep(Duration::from_millis(5));
    }
}

/// At the rate that congestion control sets and with no rate at all, through TAS's own transmit ring too, which is far
/// shorter than a body.
#[test]
fn every_rate_and_ring_carries_large_bodies() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    for choice in ["--tas-rate=dctcp", "--tas-rate=0", "--tas-buffer=8192"] {
        let arguments = [&DEV[..], &[choice]].concat();
        bodies_come_whole(&client, &server, "tas", &arguments);
    }
}

/// Two cores have a queue each, and both serve; application threads are as many as they like, and all serve.
#[test]
fn two_cores_use_two_queues() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let cores = [&DEV[..], &["--fp-cores", "2", "--threads", "3"]].concat();
    let threads = traced(&server, "tas", &cores, |address| {
        let mut plan = Load::new(address);
        plan.duration = Duration::from_millis(500);
        (plan.connections, plan.body) = (64, Some(64));
        load(&client, &plan);
    });
    for core in 0..2u32 {
        let fast = named(&threads, &format!("tas-fp-{core}"));
        let bursts = fast.at(points::RX_BURST);
        assert!(!bursts.is_empty());
        assert!(bursts.iter().all(|e| e.flow.raw() >> 24 == core));
        assert!(!fast.at(points::TCP_OUT).is_empty());
    }
    for thread in 0..3 {
        let application = named(&threads, &format!("tas-app-{thread}"));
        assert!(!application.at(points::APP_END).is_empty());
        assert!(application.at(points::RX_BURST).is_empty());
    }
}

/// Frames that come to another core than their flow's go to it by the forwarding ring.
#[test]
fn misplaced_flows_are_forwarded() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let turn = ["--dev", "packet:http-s,spread=turn", "--fp-cores", "2"];
    let threads = traced(&server, "tas", &turn, |address| {
        let mut plan = Load::new(address);
        plan.duration = Duration::from_millis(500);
        (plan.connections, plan.body) = (16, Some(64));
        load(&client, &plan);
    });
    let forwarded = |core: u32| {
        let handoffs = named(&threads, &format!("tas-fp-{core}")).at(points::HANDOFF);
        let sane = |e: &&&Event| e.args[2] > 0 && e.flow.raw() != 0;
        let queue = FORWARD | core;
        let forwarded = handoffs.iter().filter(|e| e.args[0] == queue);
        forwarded.filter(sane).count()
    };
    // Where a flow's first frame came to is where it belongs: all of them to one core, if chance has it.
    assert!(forwarded(0) + forwarded(1) > 10);
}

// Queues that `handoff` names, as `docs/stacks/tas.md` lists them; a core or context is in the low byte.
const ARX: u32 = 0x100;
const ATX: u32 = 0x200;
const FORWARD: u32 = 0x300;
const TO_SLOW: u32 = 0x400;

/// Every point that the study's page lists for TAS fires at its place, with arguments that can be true.
#[test]
fn every_point_fires() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    // Lengths of the reply's body and header; the ring holds a small part of it.
    const BODY: u32 = 100_000;
    const KEEP: u32 = 91;
    const TIMES: u32 = 20;
    let arguments = [
        "--body",
        "100000",
        "--tas-buffer",
        "8192",
        "--tas-spin-us",
        "50",
    ];
    let arguments = [&DEV[..], &arguments].concat();
    let threads = traced(&server, "tas", &arguments, |address| {
        let mut stream = connect(&client, address);
        for _ in 0..TIMES {
            stream.write_all(GET.as_bytes()).unwrap();
            let mut left = (BODY + KEEP) as usize;
            while left > 0 {
                left -= stream.read(&mut [0; 8192]).unwrap();
            }
            // All threads go to sleep between two requests.
            thread::sleep(Duration::from_millis(2));
        }
        // A link that is dead for a while: the service sends again.
        let cut = |up: &str| {
            let mut ip = client.command("ip");
            assert!(
                ip.args(["link", "set", "http-c", up])
                    .status()
                    .unwrap()
                    .success()
            );
        };
        if installed_ip() {
            stream.write_all(GET.as_bytes()).unwrap();
            cut("down");
            thread::sleep(Duration::from_millis(200));
            cut("up");
        }
    });
    let fast = named(&threads, "tas-fp-0");
    let slow = named(&threads, "tas-sp");
    let application = named(&threads, "tas-app-0");

    // Fast path: what it received, took, sent.
    assert!(fast.at(points::RX_BURST).iter().all(|e| {
        let (capacity, frames) = rx_burst(e);
        capacity == 16 && (1..=16).contains(&frames)
    }));
    assert!(!fast.at(points::IDLE_BEGIN).is_empty() && !fast.at(points::IDLE_END).is_empty());
    let is_get = |e: &&&Event| e.args[1] & 0xff_ffff == GET.len() as u32;
    let gets = fast.at(points::TCP_IN);
    let gets: Vec<_> = gets.iter().filter(is_get).collect();
    assert!(gets.len() >= TIMES as usize);
    assert!(gets.iter().all(|e| e.flow.raw() != 0 && e.args[3] > 0));
    let out = fast.at(points::TCP_OUT);
    let kind = |e: &Event| e.args[1] >> 24;
    assert!(
        out.iter()
            .all(|e| kind(e) <= 3 && e.args[3] == 0 && [0, 1, 3, 5].contains(&e.args[5]))
    );
    let data = out.iter().filter(|e| kind(e) == 0);
    let sent: u32 = data.clone().map(|e| e.args[1] & 0xff_ffff).sum();
    assert!(sent >= TIMES * (KEEP + BODY));
    assert!(data.clone().all(|e| e.args[1] & 0xff_ffff <= 1448));
    assert!(data.clone().any(|e| e.args[5] == 1) && data.clone().any(|e| e.args[5] == 5));
    let acks = out.iter().filter(|e| kind(e) == 1).count();
    assert!(acks >= TIMES as usize);
    assert!(fast.at(points::TX_BURST).iter().all(|e| {
        let (accepted, asked) = tx_burst(e);
        (1..=32).contains(&asked) && accepted <= asked
    }));
    // Detours: the SYN, and the segment that answers its answer.
    let detours = fast.at(points::SLOW_PATH);
    assert!(detours.iter().any(|e| e.args[0] == 1 && e.flow.raw() != 0));
    assert!(detours.iter().any(|e| e.args[0] == 4));
    // Hand-over both ways, with ages.
    let handoffs = fast.at(points::HANDOFF);
    let at = |queue: u32| handoffs.iter().filter(move |e| e.args[0] == queue);
    assert!(at(ARX).count() >= 2 * TIMES as usize && at(ARX).all(|e| e.args[1] >= 1));
    assert!(at(ATX).count() >= 2 * TIMES as usize && at(ATX).all(|e| e.args[2] > 0));
    // The queue manager: flows in time or late, at their rate.
    let fired = own(fast);
    assert!(fired.len() >= data.count() && fired.iter().all(|e| e.flow.raw() != 0));
    assert!(fired.iter().all(|e| e.args[1] >= 125));

    // Application: deliveries, requests, writes, publications.
    let delivered = application.at(points::DELIVER);
    let requests = delivered.iter().filter(|e| e.args[0] == GET.len() as u32);
    assert!(requests.clone().count() >= TIMES as usize);
    assert!(requests.clone().all(|e| e.args[2] > 0));
    let taken = application.at(points::HANDOFF);
    assert!(taken.iter().all(|e| e.args[0] == ARX && e.args[2] > 0));
    assert!(application.at(points::APP_START).len() >= TIMES as usize);
    assert_eq!(
        application.at(points::APP_END).len(),
        application.at(points::APP_START).len()
    );
    let calls = application.at(points::SEND_CALL);
    assert!(calls.iter().all(|e| {
        let [asked, accepted, free] = [e.args[0], e.args[1], e.args[2]];
        free <= 8192 && accepted == asked.min(free)
    }));
    assert!(calls.iter().any(|e| e.args[1] < e.args[0]));
    let bumps = own(application);
    assert!(bumps.iter().any(|e| e.args[0] > 0 && e.args[2] > 0));
    assert!(bumps.iter().any(|e| e.args[1] == GET.len() as u32));

    // Slow path: packets of the fast path, rounds of its control loop, a retransmission.
    let handoffs = slow.at(points::HANDOFF);
    assert!(
        handoffs
            .iter()
            .any(|e| e.args[0] == TO_SLOW && e.args[2] > 0)
    );
    let rounds = own(slow);
    assert!(!rounds.is_empty());
    assert!(
        rounds
            .iter()
            .all(|e| e.args[0] >= 1 && e.args[1] > 0 && e.args[2] >= 1)
    );
    if installed_ip() {
        let timers = slow.at(points::TIMER);
        assert!(timers.iter().any(|e| e.args[0] == 1 && e.flow.raw() != 0));
        assert!(out.iter().any(|e| kind(e) == 2));
    }
    assert!(!slow.at(points::IDLE_BEGIN).is_empty());

    // All: sleeps and what ended them.
    for thread in [fast, slow, application] {
        let (sleeps, wakes) = (thread.at(points::SLEEP), thread.at(points::WAKE));
        assert!(!sleeps.is_empty(), "{} never slept", thread.name);
        assert!(sleeps.len().abs_diff(wakes.len()) <= 1);
        assert!(wakes.iter().all(|e| (1..=3).contains(&e.args[0])));
    }
    assert!(fast.at(points::WAKE).iter().any(|e| e.args[0] == 1));
    assert!(application.at(points::WAKE).iter().any(|e| e.args[0] == 3));
    assert!(
        threads
            .iter()
            .map(|t| t.at(points::LOOP).len())
            .sum::<usize>()
            > 0
    );
}

/// Middle and nine-tenths value of some ticks, in microseconds.
fn spread(tick: f64, ticks: impl IntoIterator<Item = u32>) -> (f64, f64) {
    let mut ticks: Vec<u32> = ticks.into_iter().collect();
    ticks.sort_unstable();
    let at = |share: f64| f64::from(ticks[(ticks.len() as f64 * share) as usize]) * tick;
    (at(0.5), at(0.9))
}

/// Asks `times` for a reply of `reply` bytes on one connection; how long a request took, in microseconds.
fn ask_again(client: &Namespace, address: SocketAddrV4, times: usize, reply: usize) -> f64 {
    let mut stream = connect(client, address);
    let start = Instant::now();
    let mut buffer = vec![0; 1 << 16];
    for _ in 0..times {
        stream.write_all(GET.as_bytes()).unwrap();
        let mut left = reply;
        while left > 0 {
            left -= stream.read(&mut buffer).unwrap();
        }
    }
    start.elapsed().as_secs_f64() * 1e6 / times as f64
}

/// Microseconds of a tick, by the application's requests.
fn tick(application: &Thread, request: f64) -> f64 {
    let starts = application.at(points::APP_START);
    let (first, last) = (starts[0].tsc.raw(), starts[starts.len() - 1].tsc.raw());
    request * (starts.len() - 1) as f64 / (last - first) as f64
}

/// T1: a request crosses two queues between threads, each way one, and its reply is published by the next poll only,
/// never inside the handling. Each request is acknowledged by itself besides.
#[test]
fn requests_cross_queues_and_replies_wait_for_the_next_poll() {
    const TIMES: usize = 300;
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let mut request = 0.0;
    let threads = traced(&server, "tas", &DEV, |address| {
        request = ask_again(&client, address, TIMES, 151);
    });
    let (fast, application) = (named(&threads, "tas-fp-0"), named(&threads, "tas-app-0"));
    let tick = tick(application, request);
    let bumps = own(application);
    let replies: Vec<_> = bumps.iter().filter(|e| e.args[2] > 0).collect();
    assert_eq!(replies.len(), TIMES);
    // Between the start of a request and its end nothing is published.
    let mut inside = false;
    for event in &application.events {
        match event.point {
            points::APP_START => inside = true,
            points::APP_END => inside = false,
            point => assert!(!inside || point.id() < points::FIRST_OWN),
        }
    }
    let requests = |thread: &Thread| -> Vec<Event> {
        let at = thread.at(points::HANDOFF).into_iter();
        at.filter(|e| matches!(e.args[0], ARX | ATX))
            .cloned()
            .collect()
    };
    let arx: Vec<_> = requests(application).iter().map(|e| e.args[2]).collect();
    let atx: Vec<_> = requests(fast)
        .iter()
        .filter(|e| e.args[0] == ATX)
        .map(|e| e.args[2])
        .collect();
    assert!(arx.len() >= TIMES && atx.len() >= TIMES);
    let (waited, waited_high) = spread(tick, replies.iter().map(|e| e.args[0]));
    let (arx, arx_high) = spread(tick, arx);
    let (atx, atx_high) = spread(tick, atx);
    let kinds = |kind| of_kind(fast, kind) as f64 / TIMES as f64;
    println!(
        "T1: of {request:.0} us a request, ARX {arx:.1} us ({arx_high:.1} at 90 %), write to publication {waited:.1} us \
         ({waited_high:.1}), ATX {atx:.1} us ({atx_high:.1}); {:.2} pure acknowledgements and {:.2} segments with data",
        kinds(1),
        kinds(0)
    );
    assert!((0.95..1.1).contains(&kinds(1)) && (0.95..1.1).contains(&kinds(0)));
}

/// T2: a large reply goes through every stage one after the other, each byte copied once by the application into the
/// ring and once by the fast path out of it, and no thread of the three is busy all the time.
#[test]
fn large_replies_pass_stages_of_which_none_is_full() {
    const TIMES: usize = 100;
    const REPLY: usize = 131_163;
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let mut request = 0.0;
    let arguments = ["--body", "131072", "--tas-rate", "0"];
    let threads = traced(
        &server,
        "tas",
        &[&DEV[..], &arguments].concat(),
        |address| {
            request = ask_again(&client, address, TIMES, REPLY);
        },
    );
    let (fast, application) = (named(&threads, "tas-fp-0"), named(&threads, "tas-app-0"));
    let written: u64 = application
        .at(points::SEND_CALL)
        .iter()
        .map(|e| u64::from(e.args[1]))
        .sum();
    let new = |e: &&&Event| e.args[1] >> 24 == 0;
    let out = fast.at(points::TCP_OUT);
    let sent: u64 = out
        .iter()
        .filter(new)
        .map(|e| u64::from(e.args[1] & 0xff_ffff))
        .sum();
    assert_eq!(
        (written, sent),
        ((TIMES * REPLY) as u64, (TIMES * REPLY) as u64)
    );
    let busy: Vec<_> = ["tas-fp-0", "tas-sp", "tas-app-0"]
        .map(|name| format!("{name} {:.0} %", 100.0 * busy(named(&threads, name))))
        .into();
    let limits = [0, 1, 3, 5].map(|limit| {
        out.iter()
            .filter(new)
            .filter(|e| e.args[5] == limit)
            .count()
    });
    println!(
        "T2: {request:.0} us a reply of 128 KiB; busy: {}; segments limited by nothing, application, peer, pace: {limits:?}",
        busy.join(", ")
    );
}

/// T5: a round that finds nothing looks at all contexts three times all the same, which is a good part of what it
/// costs.
#[test]
fn empty_rounds_look_at_every_context() {
    let Some(lab) = lab() else { return };
    let (_client, server) = joined(&lab);
    let arguments = [&DEV[..], &["--fp-no-ints"]].concat();
    let threads = traced(&server, "tas", &arguments, |_| {
        thread::sleep(Duration::from_secs(2))
    });
    let fast = named(&threads, "tas-fp-0");
    let rounds = fast.at(points::LOOP);
    let empty: Vec<_> = rounds
        .iter()
        .filter(|e| e.flow.raw() == 0 && e.args[0] > 0)
        .collect();
    assert!(
        !empty.is_empty()
            && empty
                .iter()
                .all(|e| e.args[2] > 0 && e.args[2] <= e.args[0])
    );
    let mut shares: Vec<_> = empty.iter().map(|e| 100 * e.args[2] / e.args[0]).collect();
    shares.sort_unstable();
    println!(
        "T5: {} sampled rounds of {} were empty; queues of contexts and of the slow path took {} % of one (median)",
        empty.len(),
        rounds.len(),
        shares[shares.len() / 2]
    );
    // It polls and does not sleep.
    assert!(fast.at(points::SLEEP).is_empty());
}

/// Share of the time between a thread's first and last event in which it neither polled in vain nor slept.
fn busy(thread: &Thread) -> f64 {
    let mut idle = 0;
    let mut since = None;
    for event in &thread.events {
        let stamp = event.tsc.raw();
        match event.point {
            points::IDLE_BEGIN => since = Some(stamp),
            points::IDLE_END => {
                idle += since.take().map_or(0, |since| stamp.saturating_sub(since));
            }
            _ => {}
        }
    }
    let stamps = || thread.events.iter().map(|e| e.tsc.raw());
    let whole = stamps().max().unwrap() - stamps().min().unwrap();
    1.0 - idle as f64 / whole as f64
}

fn installed_ip() -> bool {
    Command::new("ip").arg("-V").output().is_ok()
}

/// The service is killed: the application says so and ends with a failure.
#[test]
fn the_application_survives_the_service() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let told = tempfile::NamedTempFile::new().unwrap();
    for threads in ["1", "2"] {
        let arguments = [&DEV[..], &["--threads", threads]].concat();
        let mut command = command(&server, "tas", &arguments);
        command.stderr(told.reopen().unwrap());
        let server = Server::spawn(command);
        let mut stream = connect(&client, server.address);
        stream.write_all(GET.as_bytes()).unwrap();
        assert!(stream.read(&mut [0; 1000]).unwrap() > 0);
        kill(service_of(server.pid()));
        assert_eq!(server.wait(), Some(1));
        let told = fs::read_to_string(told.path()).unwrap();
        assert!(
            told.contains("service is gone") && told.contains("signal: 9"),
            "{told}"
        );
    }
}

/// An application is killed: its connections are reset, its memory is freed, and another one on the same service goes
/// on as if nothing had happened, until it is gone too; then the service ends.
#[test]
fn the_service_survives_applications() {
    let Some(lab) = lab() else { return };
    let (client, namespace) = joined(&lab);
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("tas");
    let socket = socket.to_str().unwrap();
    let first = start(&namespace, &["--tas-socket", socket, "--threads", "2"]);
    let service = service_of(first.pid());
    let attach = [
        "--tas-socket",
        socket,
        "--tas-attach",
        "--listen",
        "10.123.0.2:8081",
    ];
    let second = serve(&namespace, "tas", &attach);
    let ask = |address| {
        let mut stream = connect(&client, address);
        stream.write_all(GET.as_bytes()).unwrap();
        assert!(stream.read(&mut [0; 1000]).unwrap() > 0);
        stream
    };
    let (mut lost, mut kept) = (ask(first.address), ask(second.address));
    let contexts = || {
        let maps = fs::read_to_string(format!("/proc/{service}/maps")).unwrap();
        maps.matches("memfd:tas-context").count()
    };
    assert_eq!(contexts(), 3);

    kill(first.pid());
    let end = lost.read(&mut [0; 10]).unwrap_err();
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    wait_until("the end of two contexts", || contexts() == 1);
    kept.write_all(GET.as_bytes()).unwrap();
    assert!(kept.read(&mut [0; 1000]).unwrap() > 0);
    let refused = || TcpStream::connect(first.address);
    let refused = client.enter(refused).unwrap().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);

    // The port is free for others, of another process too.
    let attach = ["--tas-socket", socket, "--tas-attach"];
    let third = serve(&namespace, "tas", &attach);
    drop(ask(third.address));
    third.end();
    second.end();
    let path = format!("/proc/{service}/stat");
    wait_until("the end of the service", || {
        fs::read_to_string(&path).map_or(true, |stat| stat.contains(") Z "))
    });
}

/// What cannot be is refused with a sentence that says what would do.
#[test]
fn refusals_name_the_fix() {
    let Some(lab) = lab() else { return };
    let (_client, namespace) = joined(&lab);
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("tas");
    let socket = socket.to_str().unwrap();
    let refused = |arguments: &[&str]| {
        let output = command(&namespace, "tas", arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };
    let (code, said) = refused(&["--tas-socket", socket, "--tas-attach"]);
    assert!(code == Some(1) && said.contains(socket), "{said}");
    let (code, said) = refused(&["--threads", "17"]);
    assert!(code == Some(2) && said.contains("16 contexts"), "{said}");
    let (code, said) = refused(&["--dev", "packet:nowhere"]);
    assert!(code == Some(1) && said.contains("nowhere"), "{said}");
    let (code, said) = refused(&["--tas-buffer", "5000"]);
    assert!(code == Some(2) && said.contains("power of two"), "{said}");

    let first = start(&namespace, &["--tas-socket", socket, "--threads", "15"]);
    let (code, said) = refused(&["--tas-socket", socket, "--tas-attach"]);
    assert!(
        code == Some(1) && said.contains("choose another --listen"),
        "{said}"
    );
    let two = ["--threads", "2", "--listen", "10.123.0.2:8081"];
    let (code, said) = refused(&[&["--tas-socket", socket, "--tas-attach"][..], &two].concat());
    assert!(
        code == Some(1) && said.contains("fewer --threads"),
        "{said}"
    );
    let other = [
        "--tas-socket",
        socket,
        "--tas-attach",
        "--listen",
        "10.123.0.9:80",
    ];
    let (code, said) = refused(&other);
    assert!(code == Some(1) && said.contains("10.123.0.2"), "{said}");
    first.end();
}
