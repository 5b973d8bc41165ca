//! What a DPDK program says of its ports and memory pools when it is asked over its telemetry socket.
//!
//! In: a process; out: [`Device`] records, one a second while it runs. The program answers from a thread of DPDK's own; a
//! program without the socket, or one that does not answer, says nothing.

pub mod answers;

use crate::collect::clock;
use crate::trace::record::{Device, DevicePool, DevicePort, Pid};
use answers::MOST_BYTES;
use bypassprof_ring::reader::QueueFile;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with,
};
use serde_json::Value;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Between two questions.
const EVERY: Duration = Duration::from_secs(1);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(300);
/// Start of the names of sockets in a program's run-time directory.
const SOCKET: &str = "dpdk_telemetry.v2";

/// The way to a program: its socket, and the file in which it says whether it may be asked.
struct Line<'a> {
    socket: OwnedFd,
    file: &'a QueueFile,
}

/// A program that is asked.
#[derive(Debug)]
pub struct Telemetry {
    told: mpsc::Receiver<Device>,
    over: Arc<AtomicBool>,
}

impl Telemetry {
    /// Asks a process until this is dropped.
    pub fn of(pid: Pid, file: QueueFile) -> Option<Telemetry> {
        let (tell, told) = mpsc::channel();
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        let ask = move || {
            // Whoever connects too early finds nothing yet: the socket comes with the end of DPDK's initialization.
            while !ends.load(Ordering::Relaxed) {
                if let Some(socket) = connect_to(pid) {
                    let line = Line {
                        socket,
                        file: &file,
                    };
                    if !ask_until(&line, pid, &ends, &tell) {
                        return;
                    }
                }
                std::thread::sleep(EVERY / 4);
            }
        };
        let thread = std::thread::Builder::new().name("telemetry".to_owned());
        thread.spawn(ask).ok()?;
        Some(Telemetry { told, over })
    }

    /// What has come in.
    pub fn take(&self) -> impl Iterator<Item = Device> + '_ {
        self.told.try_iter()
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        // Not waited for: it may be in the middle of a question.
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Where DPDK puts its run-time directories: root's, then those of users.
fn directories() -> Vec<PathBuf> {
    let user = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let parents = [Some("/var/run".into()), user, Some("/tmp".into())];
    let dpdk = parents
        .into_iter()
        .flatten()
        .map(|p: PathBuf| p.join("dpdk"));
    let programs = dpdk.filter_map(|dir| fs::read_dir(dir).ok());
    programs
        .flatten()
        .filter_map(|e| Some(e.ok()?.path()))
        .collect()
}

/// The socket of a process: the one whose other end it is, by the kernel's word.
fn connect_to(pid: Pid) -> Option<OwnedFd> {
    let sockets = directories()
        .into_iter()
        .filter_map(|dir| fs::read_dir(dir).ok());
    let mut sockets = sockets.flatten().filter_map(|e| Some(e.ok()?.path()));
    sockets.find_map(|path| {
        let named = path.file_name()?.to_str()?.starts_with(SOCKET);
        let line = named.then(|| open(&path)).flatten()?;
        let peer = socket_peercred(&line).ok()?.pid.as_raw_nonzero().get();
        (peer.unsigned_abs() == pid).then_some(line)
    })
}

fn open(path: &Path) -> Option<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let line = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).ok()?;
    for way in [Timeout::Recv, Timeout::Send] {
        set_socket_timeout(&line, way, Some(PATIENCE)).ok()?;
    }
    connect(&line, &SocketAddrUnix::new(path).ok()?).ok()?;
    // It introduces itself first.
    receive(&line)?;
    Some(line)
}

fn receive(line: &OwnedFd) -> Option<Vec<u8>> {
    let mut answer = vec![0u8; MOST_BYTES];
    let (_, len) = recv(line, &mut answer[..], RecvFlags::empty()).ok()?;
    answer.truncate(len);
    Some(answer)
}

/// The answer to a question. Nothing is asked of a program that takes its memory down, and one that has not answered yet
/// is not let go: DPDK would read what is gone.
fn ask(line: &Line<'_>, question: &str, about: &str) -> Option<Value> {
    let text = match about {
        "" => question.to_owned(),
        about => format!("{question},{about}"),
    };
    if !line.file.ask() {
        return None;
    }
    send(&line.socket, text.as_bytes(), SendFlags::NOSIGNAL).ok()?;
    let answer = receive(&line.socket)?;
    line.file.answered();
    answers::under(&answer, question)
}

/// Asks once a second; returns whether it is worth to connect again.
fn ask_until(line: &Line<'_>, pid: Pid, ends: &AtomicBool, tell: &mpsc::Sender<Device>) -> bool {
    loop {
        let Some(device) = question(line, pid) else {
            return true;
        };
        if tell.send(device).is_err() {
            return false;
        }
        for _ in 0..10 {
            std::thread::sleep(EVERY / 10);
            if ends.load(Ordering::Relaxed) {
                return false;
            }
        }
    }
}

fn question(line: &Line<'_>, pid: Pid) -> Option<Device> {
    let ports = ask(line, "/ethdev/list", "")?;
    let ports = answers::numbers(&ports);
    let ports = ports.filter_map(|number| port(line, number)).collect();
    let pools = ask(line, "/mempool/list", "").unwrap_or_default();
    let pools = answers::names(&pools);
    let pools = pools.filter_map(|name| pool(line, name)).collect();
    Some(Device {
        time: clock::now(),
        pid,
        ports,
        pools,
    })
}

fn port(line: &Line<'_>, number: u16) -> Option<DevicePort> {
    let about = number.to_string();
    let stats = ask(line, "/ethdev/stats", &about)?;
    let link = ask(line, "/ethdev/link_status", &about).unwrap_or_default();
    let info = ask(line, "/ethdev/info", &about).unwrap_or_default();
    answers::port(number, &stats, &link, &info)
}

fn pool(line: &Line<'_>, name: &str) -> Option<DevicePool> {
    answers::pool(name, &ask(line, "/mempool/info", name)?)
}
