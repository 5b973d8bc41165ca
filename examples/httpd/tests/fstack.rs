//! The fstack stack behind real devices, in network namespaces of the test's own. Needs root; says so and passes without.

mod server;

use loadgen::{Load, Report};
use netlab::{Interface, Lab, LabError, Namespace};
use server::{Server, sha256_of_letters};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

const URL: &str = "http://10.123.0.2:8080/";

fn lab() -> Option<Lab> {
    match Lab::new() {
        Ok(lab) => Some(lab),
        Err(LabError::Threads | LabError::NotAllowed { .. }) => {
            eprintln!("skipped: network namespaces need root here");
            None
        }
        Err(e) => panic!("{e}"),
    }
}

/// A client's and a server's namespace, joined by a veth pair of which the client's end has an address.
fn joined(lab: &Lab) -> (Namespace, Namespace) {
    let client = lab.namespace("client").unwrap();
    let server = lab.namespace("server").unwrap();
    lab.veth((&client, "http-c"), (&server, "http-s")).unwrap();
    let ends = [(&client, "http-c"), (&server, "http-s")];
    for (namespace, end) in ends {
        let plain = || Interface::named(end)?.offloads_off();
        namespace.enter(plain).unwrap().unwrap();
    }
    let address = || Interface::named("http-c")?.set_address([10, 123, 0, 1].into(), 24);
    client.enter(address).unwrap().unwrap();
    (client, server)
}

fn serve(namespace: &Namespace, arguments: &[&str]) -> Server {
    let mut command = namespace.command(env!("CARGO_BIN_EXE_httpd"));
    command.args(["--stack", "fstack"]).args(arguments);
    Server::spawn(command)
}

fn load(client: &Namespace, load: &Load) -> Report {
    let run = || loadgen::run(load, &AtomicBool::new(false));
    let report = client.enter(run).unwrap().unwrap();
    assert!(report.requests > 0);
    assert_eq!((report.errors, report.timeouts), (0, 0), "{report:?}");
    report
}

fn installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
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
