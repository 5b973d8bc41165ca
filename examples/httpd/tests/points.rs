//! Every point that `docs/design/stacks.md` lists for a stack, or `docs/reference/third-party-stacks.md`, fires at its place with arguments that can be true, and no event
//! comes from a place that the table does not have. The table is `docs/reference/points-by-stack.md`, too.

mod table;

use crate::events::Thread;
use crate::traced::traced;
use crate::veth::{GET, LAST_GET, connect, dialogue, is_built, joined, lab, load};
use loadgen::Load;
use netlab::{Interface, Namespace};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use table::{Place, STACKS, Stack};

/// Length of the replies' body, and of a whole one on a connection that is kept open.
const BODY: &str = "100000";
const REPLY: usize = 91 + 100_000;

/// Everything that makes points fire: requests one by one with pauses, many at once whose replies find no room, half of one,
/// connections that are given up, load over two queues, a peer that is gone for a while.
fn work(client: &Namespace, address: SocketAddrV4) {
    let take = |stream: &mut TcpStream, mut left: usize| {
        let mut buffer = vec![0; 1 << 16];
        while left > 0 {
            let n = stream.read(&mut buffer).unwrap();
            assert!(n > 0, "the server ended");
            left -= n;
        }
    };
    let mut stream = connect(client, address);
    for _ in 0..10 {
        stream.write_all(GET.as_bytes()).unwrap();
        take(&mut stream, REPLY);
        thread::sleep(Duration::from_millis(5));
    }
    stream.write_all(GET.repeat(20).as_bytes()).unwrap();
    // What the peer takes without reading is taken, and the window is asked for.
    thread::sleep(Duration::from_millis(700));
    take(&mut stream, 20 * REPLY);
    let (a, b) = LAST_GET.split_at(9);
    stream.write_all(a.as_bytes()).unwrap();
    thread::sleep(Duration::from_millis(100));
    stream.write_all(b.as_bytes()).unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();

    // One too many for those that have few; they are given up.
    let idle: Vec<_> = (0..4).map(|_| connect(client, address)).collect();
    let short = Duration::from_millis(200);
    let late = || TcpStream::connect_timeout(&address.into(), short).is_ok();
    client.enter(late).unwrap();
    drop(idle);
    dialogue(client, address, LAST_GET, 100);

    let mut plan = Load::new(address);
    plan.duration = Duration::from_millis(300);
    plan.timeout = Duration::from_secs(10);
    plan.connections = 4;
    load(client, &plan);
    dialogue(client, address, LAST_GET, 100);
}

/// Serves, with much that is lost and spoilt, frames on any queue where that may be, and little room.
fn run(stack: &str) -> Option<Vec<Thread>> {
    if !is_built(stack) {
        return None;
    }
    let lab = lab()?;
    let (client, server) = joined(&lab);
    let faults = match stack {
        // These lose much time with each frame that is lost.
        "demikernel" | "smoltcp" | "lwip" => "loss=0.1%,corrupt=0.3%,seed=5",
        _ => "loss=1%,corrupt=1%,seed=5",
    };
    let spread = match stack {
        "fstack" | "tas" => ",spread=turn",
        _ => "",
    };
    let dev = format!("packet:http-s,{faults}{spread}");
    let mut arguments = vec!["--body", BODY, "--dev", &dev];
    let own = match stack {
        "mtcp" => "--mtcp-sndbuf 8192 --mtcp-max-streams 4 --mtcp-idle-timeout-s 2",
        "fstack" => "--threads 2 --side-poll",
        "ix" => "--ix-side-poll shared",
        "tas" => "--fp-cores 2 --tas-buffer 8192 --tas-spin-us 50",
        "linux" => "--threads 2",
        _ => "",
    };
    arguments.extend(own.split_whitespace());
    if stack == "linux" {
        arguments.retain(|&word| word != "--dev" && word != dev);
        let address = || Interface::named("http-s")?.set_address([10, 123, 0, 2].into(), 24);
        server.enter(address).unwrap().unwrap();
    }
    Some(traced(&server, stack, &arguments, |address| {
        work(&client, address);
    }))
}

fn places(stack: &Stack) -> impl Iterator<Item = &'static Place> {
    stack.places.iter().copied().flatten()
}

/// Numbers of the table's places that fired in a run; an event that no place explains is an error.
fn fired(stack: &Stack, threads: &[Thread]) -> BTreeSet<usize> {
    let (mut fired, mut strange) = (BTreeSet::new(), BTreeMap::new());
    for thread in threads {
        let role = thread.name.trim_end_matches(|c: char| c.is_ascii_digit());
        let role = role.trim_end_matches('-');
        for event in &thread.events {
            let point = thread.name_of(event.point);
            let here = places(stack)
                .enumerate()
                .filter(|(_, place)| (place.thread, place.point) == (role, point));
            let mut explained = here.filter(|(_, place)| (place.sane)(event)).peekable();
            if explained.peek().is_none() {
                let place = (thread.name.as_str(), point);
                strange.entry(place).or_insert(event);
            }
            fired.extend(explained.map(|(number, _)| number));
        }
    }
    assert!(
        strange.is_empty(),
        "{}: events that the table does not have, the first of each kind: {strange:#?}",
        stack.name
    );
    fired
}

/// Every place of the table fires in a run, or in the two after it where a busy machine left no time for all.
fn check(name: &str) {
    let stack = STACKS.iter().find(|stack| stack.name == name).unwrap();
    let mut silent: BTreeSet<usize> = places(stack)
        .enumerate()
        .filter_map(|(number, place)| place.seen.then_some(number))
        .collect();
    for _ in 0..3 {
        let Some(threads) = run(name) else { return };
        silent = &silent - &fired(stack, &threads);
        if silent.is_empty() {
            return;
        }
    }
    let silent = places(stack)
        .enumerate()
        .filter(|(number, _)| silent.contains(number))
        .map(|(_, p)| (p.thread, p.point, p.at.1));
    panic!(
        "{name}: these never fired: {:?}",
        silent.collect::<Vec<_>>()
    );
}

macro_rules! check_each {
    ($($stack:ident)*) => {
        $(#[test]
        fn $stack() {
            check(stringify!($stack));
        })*
    };
}

check_each! { linux mtcp fstack ix tas demikernel smoltcp lwip }

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Places are where the table says.
#[test]
fn places_are_in_the_code() {
    for place in STACKS.iter().flat_map(places) {
        let (file, function) = place.at;
        let code = std::fs::read_to_string(root().join(file));
        let code = code.unwrap_or_else(|e| panic!("{file}: {e}"));
        let mark = if file.ends_with(".c") { "" } else { "fn " };
        let names = ["(", "<"].map(|end| format!("{mark}{function}{end}"));
        assert!(
            names.iter().any(|name| code.contains(name)),
            "{file} has no function {function}"
        );
    }
}

fn page() -> String {
    let mut page = String::from(
        "# Points by stack\n\n\
         Which point stands where in which stack, and what is particular to its fields there; what they mean\n\
         everywhere is on the page [points.md](points.md). Generated from `examples/httpd/tests/points/table.rs` by the test that\n\
         holds it against every event of a run: `BLESS=1 cargo test -p httpd --test main points::page` writes it again. What\n\
         fires only in distress (a queue that is full, a lock that is held) is marked `!`: the run need not show it. What third-party\n\
         stacks are, and what cannot be seen of them: [third-party-stacks.md](third-party-stacks.md).\n",
    );
    for stack in STACKS {
        let _ = write!(
            page,
            "\n## {}\n\nListed in [{}]({}) {}.\n\n| thread | point | where | particular |\n|---|---|---|---|\n",
            stack.name,
            stack.listed.0.trim_start_matches("../design/"),
            stack.listed.0,
            stack.listed.1
        );
        for place in places(stack) {
            let mark = if place.seen { "" } else { " !" };
            let (file, function) = place.at;
            let Place { point, says, .. } = place;
            // There is one slow path.
            let number = if place.thread == "tas-sp" { "" } else { "-N" };
            let thread = place.thread;
            let _ = writeln!(
                page,
                "| `{thread}{number}` | `{point}`{mark} | `{function}` in `{file}` | {says} |"
            );
        }
    }
    page
}

/// The committed page says what the table says.
#[test]
fn page_is_the_table() {
    let path = root().join("docs/reference/points-by-stack.md");
    let wanted = page();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "docs/reference/points-by-stack.md is not what the table says: run BLESS=1 cargo test -p httpd --test main points::page"
    );
}
