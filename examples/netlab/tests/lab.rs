//! Labs on this machine: what is made works, touches nothing outside and goes away in every way a lab can end.
//!
//! Needs root; says so and passes without it.

use netlab::{Interface, Lab, LabError};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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

/// Whether a process comes to its end within a generous while; one that waits to be reaped has.
fn ends(pid: u32) -> bool {
    let running = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| !rest.starts_with('Z'))
    };
    let start = Instant::now();
    while running() && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(10));
    }
    !running()
}

/// Two namespaces joined by a veth pair talk TCP, and the host never sees their interfaces.
#[test]
fn joined_namespaces_talk() {
    let Some(lab) = lab() else { return };
    let (client, server) = (
        lab.namespace("client").unwrap(),
        lab.namespace("server").unwrap(),
    );
    lab.veth((&client, "netlab-a"), (&server, "netlab-b"))
        .unwrap();
    let address = |name: &str, last| {
        let end = Interface::named(name)?;
        end.set_address([10, 123, 0, last].into(), 24)?;
        end.offloads_off()
    };
    client.enter(|| address("netlab-a", 1)).unwrap().unwrap();
    server.enter(|| address("netlab-b", 2)).unwrap().unwrap();
    let listener = server.enter(|| TcpListener::bind("10.123.0.2:80")).unwrap();
    let listener = listener.unwrap();
    let connect = || TcpStream::connect("10.123.0.2:80");
    let mut out = client.enter(connect).unwrap().unwrap();
    out.write_all(b"hello").unwrap();
    drop(out);
    let mut got = String::new();
    let (mut accepted, _) = listener.accept().unwrap();
    accepted.read_to_string(&mut got).unwrap();
    assert_eq!(got, "hello");
    assert!(!Path::new("/sys/class/net/netlab-a").exists());
}

/// Ends of a pair are up without an IPv6 address, so the kernel sends nothing by itself.
#[test]
fn ends_have_no_ipv6_address() {
    let Some(lab) = lab() else { return };
    let (a, b) = (lab.namespace("a").unwrap(), lab.namespace("b").unwrap());
    lab.veth((&a, "netlab-a"), (&b, "netlab-b")).unwrap();
    let addresses = || fs::read_to_string("/proc/thread-self/net/if_inet6");
    let addresses = a.enter(addresses).unwrap().unwrap_or_default();
    assert!(!addresses.contains("netlab-a"), "{addresses}");
}

/// A command runs in its namespace, and is killed with the lab.
#[test]
fn commands_end_with_the_lab() {
    let Some(lab) = lab() else { return };
    let namespace = lab.namespace("a").unwrap();
    let mut child = namespace.command("sleep").arg("1000").spawn().unwrap();
    let network = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).unwrap();
    assert_ne!(network("self"), network(&child.id().to_string()));
    drop(lab);
    assert!(ends(child.id()));
    child.wait().unwrap();
    let late = namespace.command("true").spawn();
    assert!(late.is_err(), "started without anyone to end it");
}

/// Where a command of the killed owner leaves word.
const LAST_WORDS: &str = "NETLAB_LAST_WORDS";

/// A lab's commands and their own children are asked to end, and do, when the process that made the lab is killed.
#[test]
fn commands_end_with_a_killed_owner() {
    if lab().is_none() {
        return;
    }
    let test = std::env::current_exe().unwrap();
    let arguments = [
        "--exact",
        "owner_that_gets_killed",
        "--ignored",
        "--nocapture",
    ];
    let mut owner = Command::new(test);
    let dir = tempfile::tempdir().unwrap();
    let last_words = dir.path().join("last-words");
    owner.args(arguments).stdout(Stdio::piped());
    owner.env(LAST_WORDS, &last_words);
    let mut owner = owner.spawn().unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let pids = lines.map(Result::unwrap).find_map(|line| {
        let (_, pids) = line.split_once("pids ")?;
        let pids = pids.split(' ').map(|pid| pid.parse::<u32>().unwrap());
        Some(pids.collect::<Vec<_>>())
    });
    let pids = pids.unwrap();
    owner.kill().unwrap();
    owner.wait().unwrap();
    for pid in pids {
        assert!(ends(pid), "process {pid} outlived the lab");
    }
    assert_eq!(fs::read_to_string(last_words).unwrap(), "asked\n");
}

/// The other side of the test above; by itself it would sleep.
#[test]
#[ignore = "helper process of commands_end_with_a_killed_owner"]
fn owner_that_gets_killed() {
    let lab = Lab::new().unwrap();
    let namespace = lab.namespace("a").unwrap();
    let mut shell = namespace.command("sh");
    let script = "trap 'echo asked >$NETLAB_LAST_WORDS; exit' TERM; sleep 1000 & echo $!; wait";
    let shell = shell.args(["-c", script]).stdout(Stdio::piped());
    let mut shell = shell.spawn().unwrap();
    let mut line = String::new();
    let mut lines = BufReader::new(shell.stdout.take().unwrap());
    lines.read_line(&mut line).unwrap();
    println!("\npids {} {}", shell.id(), line.trim());
    shell.wait().unwrap();
}

/// What is missing or misspelt is named.
#[test]
fn failures_name_the_interface() {
    let Some(lab) = lab() else { return };
    let (a, b) = (lab.namespace("a").unwrap(), lab.namespace("b").unwrap());
    let missing = a.enter(|| Interface::named("nothing0")).unwrap();
    let text = missing.unwrap_err().to_string();
    assert!(text.contains("no interface nothing0"), "{text}");
    let long = a.enter(|| Interface::named("a-name-that-is-too-long"));
    let text = long.unwrap().unwrap_err().to_string();
    assert!(text.contains("a-name-that-is-too-long"), "{text}");
    lab.veth((&a, "netlab-a"), (&b, "netlab-b")).unwrap();
    let twice = lab.veth((&a, "netlab-a"), (&b, "netlab-c"));
    let text = twice.unwrap_err().to_string();
    assert!(text.contains("netlab-a - netlab-c"), "{text}");
}
