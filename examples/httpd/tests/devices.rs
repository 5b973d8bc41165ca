//! A server over each kind of device and with each kind of option, in network namespaces of the test's own. Needs root;
//! says so and passes without.

use crate::traced::{segment_out, traced};
use crate::veth::{bodies_come_whole, is_built, joined, lab, load, serve};
use bypassprof_wire::points;
use httpscenes::sha256_of_letters;
use loadgen::Load;
use netlab::{Interface, Lab, Namespace};
use std::time::Duration;

const BODY: &str = "1048576";

/// Megabytes with their digest out, in long segments where the device cuts them, large POSTs in.
fn carries(client: &Namespace, server: &Namespace, dev: &str) {
    let server = serve(server, "fstack", &["--dev", dev, "--body", BODY, "--tso"]);
    let mut plan = Load::new(server.address);
    plan.duration = Duration::from_secs(2);
    plan.timeout = Duration::from_secs(10);
    plan.connections = 2;
    plan.digest = Some(sha256_of_letters(1 << 20));
    load(client, &plan);
    plan.post = Some(300_000);
    load(client, &plan);
    server.end();
}

/// Over a link that carries what a wire would, through each kind of socket.
#[test]
fn every_kind_carries_megabytes() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    carries(&client, &server, "packet:http-s");
    carries(&client, &server, "packet:http-s,offload=tx");
    carries(&client, &server, "xdp:http-s");
}

/// The rows beside `fstack`, which the other tests are about.
const ROWS: [&str; 6] = ["ix", "mtcp", "tas", "smoltcp", "lwip", "demikernel"];

/// Every other row serves through AF_XDP and through a TAP of its own.
#[test]
fn every_row_takes_every_device() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let alone = lab.namespace("alone").unwrap();
    for stack in ROWS.into_iter().filter(|stack| is_built(stack)) {
        bodies_come_whole(&client, &server, stack, &["--dev", "xdp:http-s"]);
        bodies_come_whole(&alone, &alone, stack, &["--dev", "tap:http-t"]);
    }
}

/// Every row serves through DPDK's drivers for an interface and for a TAP of its own.
#[test]
fn dpdk_carries_every_row() {
    if !cfg!(feature = "dpdk") {
        eprintln!("left out: built without --features dpdk");
        return;
    }
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let alone = lab.namespace("alone").unwrap();
    for stack in ROWS.into_iter().chain(["fstack"]) {
        // A program of its own, built without the feature.
        if stack != "demikernel" && is_built(stack) {
            let dev = ["--dev", "dpdk:net_af_packet0,iface=http-s"];
            bodies_come_whole(&client, &server, stack, &dev);
            let dev = ["--dev", "dpdk:net_tap0,iface=http-t"];
            bodies_come_whole(&alone, &alone, stack, &dev);
        }
    }
}

/// Stacks of others lose no byte over a bad link, either.
#[test]
fn bad_links_harm_no_body_of_others() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let dev = "packet:http-s,loss=0.5%,reorder=1%,corrupt=0.1%,seed=4";
    for stack in ["smoltcp", "lwip", "demikernel"] {
        if is_built(stack) {
            bodies_come_whole(&client, &server, stack, &["--dev", dev]);
        }
    }
}

/// A link with all offloads on, as veth pairs have them.
fn joined_with_offloads(lab: &Lab) -> (Namespace, Namespace) {
    let client = lab.namespace("client").unwrap();
    let server = lab.namespace("server").unwrap();
    lab.veth((&client, "http-c"), (&server, "http-s")).unwrap();
    let address = || Interface::named("http-c")?.set_address([10, 123, 0, 1].into(), 24);
    client.enter(address).unwrap().unwrap();
    (client, server)
}

/// Frames of 64 KiB in both directions, over veth and through a TAP.
#[test]
fn long_frames_carry_megabytes() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined_with_offloads(&lab);
    carries(&client, &server, "packet:http-s,offload=both");
    let alone = lab.namespace("alone").unwrap();
    carries(&alone, &alone, "tap:http-t,offload=both");
    carries(&alone, &alone, "tap:http-t");
}

/// Through a TAP, whose frames have a header that says what is left to the host, every stack of ours leaves the cutting of
/// long segments to it if so asked, and to nobody if not.
#[test]
fn long_segments_leave_by_choice() {
    let Some(lab) = lab() else { return };
    let host = lab.namespace("host").unwrap();
    for stack in ["mtcp", "fstack", "ix", "tas"] {
        for tso in [&["--tso"][..], &[]] {
            let mut arguments = vec!["--dev", "tap:http-t,offload=tx", "--body", BODY];
            if stack == "tas" {
                // A rate would make bursts of a millisecond's worth.
                arguments.extend(["--tas-rate", "0"]);
            }
            let threads = traced(&host, stack, &[&arguments[..], tso].concat(), |address| {
                let mut plan = Load::new(address);
                plan.duration = Duration::from_millis(500);
                plan.timeout = Duration::from_secs(10);
                plan.digest = Some(sha256_of_letters(1 << 20));
                load(&host, &plan);
            });
            let sent = threads.iter().flat_map(|thread| thread.at(points::TCP_OUT));
            let longest = sent.map(|event| segment_out(event).1).max().unwrap();
            let expected = if tso.is_empty() {
                1..=1460
            } else {
                4000..=65_535
            };
            assert!(expected.contains(&longest), "{stack} {tso:?}: {longest}");
        }
    }
}

/// Over a bad link every body arrives intact all the same.
#[test]
fn bad_links_harm_no_body() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let faults = "loss=0.5%,reorder=1%,duplicate=0.5%,corrupt=0.1%,delay=200us,seed=4";
    carries(&client, &server, &format!("packet:http-s,{faults}"));
    carries(&client, &server, &format!("xdp:http-s,{faults}"));
}
