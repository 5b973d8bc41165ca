//! A server over each kind of device and with each kind of option, in network namespaces of the test's own. Needs root;
//! says so and passes without.

mod server;
mod veth;

use loadgen::Load;
use netlab::{Interface, Lab, Namespace};
use server::sha256_of_letters;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::Duration;
use veth::{command, joined, lab, load, serve};

const BODY: &str = "1048576";

/// Megabytes with their digest out, large POSTs in.
fn carries(client: &Namespace, server: &Namespace, dev: &str) {
    let server = serve(server, "fstack", &["--dev", dev, "--body", BODY]);
    let mut plan = Load::new(server.address);
    plan.duration = Duration::from_secs(2);
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

/// Over a bad link every body arrives intact all the same.
#[test]
fn bad_links_harm_no_body() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let faults = "loss=0.5%,reorder=1%,duplicate=0.5%,corrupt=0.1%,delay=200us,seed=4";
    carries(&client, &server, &format!("packet:http-s,{faults}"));
    carries(&client, &server, &format!("xdp:http-s,{faults}"));
}

/// A server whose interface is removed ends, with what happened.
#[test]
fn a_device_that_goes_ends_the_server() {
    let Some(lab) = lab() else { return };
    let (client, server) = joined(&lab);
    let mut command = command(&server, "fstack", &["--dev", "packet:http-s"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut ready = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut ready).unwrap();
    assert!(ready.starts_with("ready fstack"), "{ready}");
    // Both ends go with the namespace of one.
    drop(client);
    let status = child.wait().unwrap();
    let mut text = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert!(!status.success(), "{status}");
    assert!(text.contains("interface http-s has gone"), "{text}");
}
