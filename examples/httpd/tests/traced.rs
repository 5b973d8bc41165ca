//! A server with its probes on, and what its threads told while something was done.

use crate::events::{Recorder, Thread, session};
use crate::server::Server;
use crate::veth::command;
use bypassprof_wire::{Event, points};
use netlab::Namespace;
use std::fs;
use std::net::SocketAddrV4;

/// The processes that a server has started: the service of tas, nothing else.
pub fn children_of(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(path).unwrap();
    let numbers = children.split_whitespace();
    numbers.map(|number| number.parse().unwrap()).collect()
}

/// What the threads of a server, in all its processes, told while `work` was done.
pub fn traced(
    namespace: &Namespace,
    stack: &str,
    arguments: &[&str],
    work: impl FnOnce(SocketAddrV4) + Send,
) -> Vec<Thread> {
    let session = session();
    let mut command = command(namespace, stack, arguments);
    command.env("BYPASSPROF_SESSION", session.path());
    let server = Server::spawn(command);
    let children = children_of(server.pid());
    let joined = children
        .iter()
        .map(|&child| Recorder::join(session.path(), child));
    let mut recorders: Vec<_> = joined.collect();
    recorders.push(Recorder::attach(session, server.pid()));
    let address = server.address;
    during(&mut recorders, Box::new(|| work(address)));
    let threads = recorders.into_iter().flat_map(Recorder::finish).collect();
    server.end();
    threads
}

fn during<'a>(recorders: &mut [Recorder], work: Box<dyn FnOnce() + Send + 'a>) {
    match recorders {
        [] => work(),
        [first, rest @ ..] => first.during(|| during(rest, work)),
    }
}

/// The thread of this name.
pub fn named<'a>(threads: &'a [Thread], name: &str) -> &'a Thread {
    let found = threads.iter().find(|thread| thread.name == name);
    let names: Vec<_> = threads.iter().map(|thread| &thread.name).collect();
    found.unwrap_or_else(|| panic!("no ring of {name} among {names:?}"))
}

/// A thread's events at the program's own points.
pub fn own(thread: &Thread) -> Vec<&Event> {
    let own = |e: &&Event| e.point.id() >= points::FIRST_OWN;
    thread.events.iter().filter(own).collect()
}

/// Kind and payload of a segment that left.
pub fn segment_out(event: &Event) -> (u32, u32) {
    (event.args[1] >> 24, event.args[1] & 0xff_ffff)
}

/// Segments of a kind that left: 0 data, 1 a pure acknowledgement, 2 data again, 3 a probe, 4 control.
pub fn of_kind(thread: &Thread, kind: u32) -> usize {
    let left = thread.at(points::TCP_OUT);
    left.iter().filter(|e| segment_out(e).0 == kind).count()
}

/// Capacity and frames of a received burst.
pub fn rx_burst(event: &Event) -> (u32, u32) {
    ((event.flow.raw() >> 12) & 0xfff, event.flow.raw() & 0xfff)
}

/// Frames accepted and asked of a transmitted burst.
pub fn tx_burst(event: &Event) -> (u32, u32) {
    rx_burst(event)
}
