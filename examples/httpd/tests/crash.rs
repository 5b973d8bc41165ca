//! Servers that die on purpose at known places, and what `bypassprof postmortem` says of each from what is left: function,
//! flow and stage.
#![allow(unsafe_code)]

use crate::veth;
use bypassprof_wire::Flow;
use bypassprof_wire::layout::SWITCH_ON;
use netlab::Namespace;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The tool, which a build of the whole workspace puts beside the server.
pub fn tool() -> Option<PathBuf> {
    let tool = Path::new(env!("CARGO_BIN_EXE_httpd")).with_file_name("bypassprof");
    if !tool.exists() {
        eprintln!("left out: {} is not built", tool.display());
        return None;
    }
    Some(tool)
}

/// A server that takes memory without end from its fiftieth request on.
const LEAKS: [&str; 8] = [
    "--listen",
    "127.0.0.1:0",
    "--threads",
    "1",
    "--plant-fault",
    "leak",
    "--plant-fault-at",
    "50",
];

/// A server that keeps its last events, in a directory of its own where its core falls.
pub struct Victim {
    place: tempfile::TempDir,
    pub child: Child,
    pub address: SocketAddrV4,
}

impl Victim {
    /// `filter` says what its core holds.
    pub fn start(mut command: Command, arguments: &[&str], filter: &str) -> Victim {
        let place = tempfile::tempdir().unwrap();
        let session = place.path().join("session");
        let made = std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
            .create(&session);
        made.unwrap();
        let script = format!(
            "cd {} && ulimit -c unlimited && echo {filter} > /proc/self/coredump_filter && exec \"$0\" \"$@\"",
            place.path().display()
        );
        command
            .args(["-c", &script, env!("CARGO_BIN_EXE_httpd")])
            .args(arguments)
            .env("BYPASSPROF_SESSION", &session)
            .env("BYPASSPROF_FLIGHT", "8M")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut ready)
            .unwrap();
        let address = ready.trim().rsplit("http://").next().unwrap();
        let address = address.parse().unwrap_or_else(|_| panic!("{ready:?}"));
        Victim {
            place,
            child,
            address,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "it lives on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its core, if the kernel is set to leave one here.
    pub fn core(&self) -> Option<PathBuf> {
        let entries = std::fs::read_dir(self.place.path()).unwrap();
        let mut names = entries.map(|e| e.unwrap().path());
        let core = names.find(|p| p.file_name().unwrap().to_string_lossy().starts_with("core"));
        if core.is_none() {
            eprintln!("left out: the kernel leaves no core in the program's directory");
        }
        core
    }

    fn told(&self, tool: &Path, paths: &[&Path]) -> Value {
        let mut command = Command::new(tool);
        command.args(["postmortem", "--json"]).args(paths);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection that asks until nothing answers; its flow, and how often it was answered.
fn ask(server: SocketAddrV4) -> Option<(Flow, u64)> {
    let mut stream = TcpStream::connect(server).ok()?;
    let wait = Some(Duration::from_secs(2));
    stream.set_read_timeout(wait).unwrap();
    let SocketAddr::V4(own) = stream.local_addr().unwrap() else {
        panic!("an IPv4 connection has no IPv4 address")
    };
    let flow = Flow::ipv4(
        u32::from(*server.ip()),
        server.port(),
        u32::from(*own.ip()),
        own.port(),
    );
    let mut answers = 0;
    let mut reply = [0; 4096];
    while stream.write_all(veth::GET.as_bytes()).is_ok() {
        match stream.read(&mut reply) {
            Ok(len) if len > 0 => answers += 1,
            _ => break,
        }
    }
    Some((flow, answers))
}

/// Several such connections at once.
fn load(server: SocketAddrV4, connections: usize) -> Vec<Flow> {
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..connections)
            .map(|_| scope.spawn(move || ask(server)))
            .collect();
        let flows = asked.into_iter().filter_map(|a| a.join().unwrap());
        flows.map(|(flow, _)| flow).collect()
    })
}

fn load_from(client: &Namespace, server: SocketAddrV4) -> Vec<String> {
    let asked = client.enter(|| Ok(load(server, 4))).unwrap();
    let flows: std::io::Result<Vec<Flow>> = asked;
    flows.unwrap().iter().map(named).collect()
}

fn named(flow: &Flow) -> String {
    format!("{:08x}", flow.raw())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn thread<'a>(told: &'a Value, name: &str) -> &'a Value {
    let threads = told["threads"].as_array().unwrap();
    let found = threads.iter().find(|t| text(&t["name"]) == name);
    found.unwrap_or_else(|| panic!("no {name} in {told:#}"))
}

/// Functions of a thread's last stack, innermost first.
fn stack(thread: &Value) -> Vec<&str> {
    let frames = thread["stack"]["frames"].as_array();
    let frames = frames.unwrap_or_else(|| panic!("no stack in {thread:#}"));
    frames.iter().map(|f| text(&f["function"])).collect()
}

/// The segment that killed it, and where.
fn is_segfault(told: &Value, flows: &[String], core: bool) {
    let ended = &told["ended"];
    let worker = thread(told, "fstack-0");
    assert_eq!(worker["stage"], "tcp_in", "{worker:#}");
    assert!(
        flows.contains(&text(&worker["flow"]).to_owned()),
        "{worker:#} of {flows:?}"
    );
    let requests = told["requests"].as_array().unwrap();
    let hit = requests.iter().find(|r| r["flow"] == worker["flow"]);
    let hit = hit.unwrap_or_else(|| panic!("{told:#}"));
    // TCP had put the data into the application's queue, and was to answer when it died.
    assert_eq!(
        (&hit["stage"], &hit["thread"]),
        (&"wait_app".into(), &"fstack-0".into())
    );
    if !core {
        assert_eq!(ended["function"], Value::Null);
        return;
    }
    assert_eq!(ended["signal_name"], "SIGSEGV");
    assert_eq!(ended["address"], "0xdeadb000");
    assert_eq!(ended["thread"], "fstack-0");
    assert_eq!(ended["flow"], worker["flow"]);
    assert_eq!(ended["stage"], "tcp_in");
    assert!(
        text(&ended["function"]).ends_with("follow_bad_pointer"),
        "{ended:#}"
    );
    let stack = stack(worker);
    assert!(stack.iter().any(|f| f.ends_with("tcp_input")), "{stack:?}");
    assert!(stack.iter().any(|f| f.contains("main_loop")), "{stack:?}");
    assert_eq!(worker["stack"]["whole"], true, "{stack:?}");
}

/// A server whose TCP engine follows a bad pointer under load: from its rings, from its core, from both, from a core
/// without rings beside the directory where they were, from one without either, and from one that is cut.
#[test]
fn segfault_in_tcp() {
    let (Some(tool), Some(lab)) = (tool(), veth::lab()) else {
        return;
    };
    for filter in ["0x3b", "0x33"] {
        let (client, server) = veth::joined(&lab);
        let arguments = [
            "--stack",
            "fstack",
            "--dev",
            "packet:http-s",
            "--plant-fault",
            "segfault",
            "--plant-fault-at",
            "400",
        ];
        let mut victim = Victim::start(server.command("sh"), &arguments, filter);
        let flows = load_from(&client, victim.address);
        assert_eq!(victim.wait().signal(), Some(11));
        let session = victim.path("session");
        if filter == "0x3b" {
            is_segfault(&victim.told(&tool, &[&session]), &flows, false);
        }
        let Some(core) = victim.core() else { return };
        // Its rings lie where the core says, if they are not in it.
        is_segfault(&victim.told(&tool, &[&core, &session]), &flows, true);
        is_segfault(&victim.told(&tool, &[&core]), &flows, true);
        let elsewhere = victim.path("elsewhere");
        std::fs::rename(&session, &elsewhere).unwrap();
        if filter == "0x3b" {
            is_segfault(&victim.told(&tool, &[&core]), &flows, true);
            // Cut where a small `ulimit -c` or a full disk would cut it: the notes are at its beginning.
            let file = std::fs::File::options().write(true).open(&core).unwrap();
            let half = file.metadata().unwrap().len() / 2;
            file.set_len(half).unwrap();
            let cut = victim.told(&tool, &[&core]);
            assert_eq!(cut["ended"]["signal_name"], "SIGSEGV");
            assert_eq!(cut["ended"]["address"], "0xdeadb000");
            let missing = cut["missing"].to_string();
            assert!(missing.contains("bytes of the core"), "{missing}");
            let both = victim.told(&tool, &[&core, &elsewhere]);
            assert_eq!(thread(&both, "fstack-0")["stage"], "tcp_in");
        } else {
            let alone = victim.told(&tool, &[&core]);
            let missing = alone["missing"].to_string();
            assert!(
                missing.contains("0x3b") && missing.contains("coredump_filter"),
                "{missing}"
            );
            assert!(text(&alone["ended"]["function"]).ends_with("follow_bad_pointer"));
            is_segfault(&victim.told(&tool, &[&core, &elsewhere]), &flows, true);
        }
    }
}

/// Two threads of a server that wait for each other: alive by `gcore`, then from the core of SIGABRT and from the rings.
#[test]
fn deadlock() {
    let Some(tool) = tool() else { return };
    let arguments = [
        "--listen",
        "127.0.0.1:0",
        "--threads",
        "1",
        "--plant-fault",
        "deadlock",
        "--plant-fault-at",
        "50",
    ];
    let mut victim = Victim::start(Command::new("sh"), &arguments, "0x3b");
    let (flow, answers) = ask(victim.address).unwrap();
    assert_eq!(answers, 49);
    let flow = named(&flow);
    let is_deadlock = |told: &Value, core: bool| {
        let requests = told["requests"].as_array().unwrap();
        let stuck = requests.iter().find(|r| text(&r["flow"]) == flow);
        let stuck = stuck.unwrap_or_else(|| panic!("no {flow} in {told:#}"));
        assert_eq!(stuck["stage"], "app");
        let worker = thread(told, text(&stuck["thread"]));
        assert_eq!(
            (&worker["stage"], text(&worker["flow"])),
            (&"app".into(), flow.as_str())
        );
        if core {
            let threads = told["threads"].as_array().unwrap();
            let waiting = threads.iter().filter(|t| t["stack"].is_object());
            let waiting: Vec<_> = waiting
                .filter(|t| stack(t).iter().any(|f| f.contains("lock_both")))
                .collect();
            assert_eq!(waiting.len(), 2, "{told:#}");
            assert!(waiting.iter().any(|t| t["tid"] == worker["tid"]));
        }
    };
    let pid = victim.child.id().to_string();
    let live = victim.path("live");
    let mut gcore = Command::new("gcore");
    gcore.args(["-o", live.to_str().unwrap(), &pid]);
    match gcore.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => {
            let core = victim.path(&format!("live.{pid}"));
            let told = victim.told(&tool, &[&core]);
            assert_eq!(told["ended"]["alive"], true);
            is_deadlock(&told, true);
        }
        _ => eprintln!("left out: gcore is not there, or may not look at the program"),
    }
    let number = rustix::process::Pid::from_child(&victim.child);
    rustix::process::kill_process(number, rustix::process::Signal::ABORT).unwrap();
    assert_eq!(victim.wait().signal(), Some(6));
    let session = victim.path("session");
    is_deadlock(&victim.told(&tool, &[&session]), false);
    let Some(core) = victim.core() else { return };
    let told = victim.told(&tool, &[&core, &session]);
    assert_eq!(told["ended"]["signal_name"], "SIGABRT");
    is_deadlock(&told, true);
}

/// A cgroup with little memory, which goes away; `None` where there is none to be had.
struct Small(PathBuf);

impl Small {
    fn new() -> Option<Small> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("bypassprof-test-{}-{number}", std::process::id());
        let one = Path::new("/sys/fs/cgroup/memory");
        let two = Path::new("/sys/fs/cgroup");
        let (base, limit) = match one.join("memory.oom_control").exists() {
            true => (one, "memory.limit_in_bytes"),
            false => (two, "memory.max"),
        };
        let path = base.join(name);
        std::fs::create_dir(&path).ok()?;
        let small = Small(path);
        let limited = std::fs::write(small.0.join(limit), "100000000");
        limited.is_ok().then_some(small)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // A process that was killed in it may need a moment.
        for _ in 0..50 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Waits until a recorder has switched on the points of a program that it started: what is done before is not told.
fn wait_for_recorder(recorder: u32) {
    let session = format!("bypassprof-session-{recorder}-");
    let is_on = |path: PathBuf| {
        let bytes = std::fs::read(&path).unwrap_or_default();
        let state = bytes.get(128..136).map(|b| b.try_into().unwrap());
        path.extension().is_some_and(|e| e == "control")
            && state.map(u64::from_ne_bytes) == Some(SWITCH_ON)
    };
    let files = |path: PathBuf| std::fs::read_dir(path).into_iter().flatten().flatten();
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        let sessions = files("/dev/shm".into()).map(|e| e.path());
        let mut ours = sessions.filter(|p| p.to_string_lossy().contains(&session));
        if ours.any(|p| files(p).any(|e| is_on(e.path()))) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the recorder has switched nothing on");
}

/// A server that takes memory until the kernel ends it: the recorder tells why, which request it was with and where its
/// thread was seen last.
#[test]
fn out_of_memory() {
    let (Some(tool), Some(small)) = (tool(), Small::new()) else {
        eprintln!("left out: no cgroup with a limit of memory can be made here");
        return;
    };
    let place = tempfile::tempdir().unwrap();
    let script = format!(
        "echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"",
        small.0.display()
    );
    let mut command = Command::new(&tool);
    command
        .current_dir(place.path())
        .args([
            "record",
            "--on-crash",
            "-o",
            "oom.mcap",
            "--",
            "sh",
            "-c",
            &script,
        ])
        .arg(env!("CARGO_BIN_EXE_httpd"))
        .args(LEAKS)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut recorder = command.spawn().unwrap();
    let mut ready = String::new();
    let mut out = BufReader::new(recorder.stdout.take().unwrap());
    out.read_line(&mut ready).unwrap();
    if ready.is_empty() {
        let output = recorder.wait_with_output().unwrap();
        eprintln!("left out: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let address = ready
        .trim()
        .rsplit("http://")
        .next()
        .unwrap()
        .parse()
        .unwrap();
    wait_for_recorder(recorder.id());
    let (flow, _) = ask(address).unwrap();
    let output = recorder.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(128 + 9), "{said}");
    assert!(said.contains("killed by SIGKILL: out of memory"), "{said}");
    assert!(said.contains("bypassprof postmortem oom.mcap"), "{said}");
    let mut again = Command::new(&tool);
    again
        .current_dir(place.path())
        .args(["postmortem", "--json", "oom.mcap"]);
    let told: Value = serde_json::from_slice(&again.output().unwrap().stdout).unwrap();
    assert!(text(&told["reason"]).contains("out of memory"), "{told:#}");
    let requests = told["requests"].as_array().unwrap();
    let stuck = requests.iter().find(|r| text(&r["flow"]) == named(&flow));
    let stuck = stuck.unwrap_or_else(|| panic!("no {flow:?} in {told:#}"));
    assert_eq!(stuck["stage"], "app");
    let worker = thread(&told, text(&stuck["thread"]));
    assert_eq!(worker["stage"], "app");
    let stack = stack(worker);
    assert!(stack.iter().any(|f| f.contains("take_memory")), "{stack:?}");
}

/// The same without a recorder: the rings alone do not know why, but what the thread was with and where that was.
#[test]
fn out_of_memory_unwatched() {
    let (Some(tool), Some(small)) = (tool(), Small::new()) else {
        eprintln!("left out: no cgroup with a limit of memory can be made here");
        return;
    };
    let inside = format!(
        "echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"",
        small.0.display()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &inside, "sh"]);
    let mut victim = Victim::start(command, &LEAKS, "0x3b");
    let (flow, answers) = ask(victim.address).unwrap();
    assert_eq!(answers, 49);
    assert_eq!(victim.wait().signal(), Some(9));
    let told = victim.told(&tool, &[&victim.path("session")]);
    assert_eq!(told["ended"]["signal"], Value::Null, "{told:#}");
    let requests = told["requests"].as_array().unwrap();
    let stuck = requests.iter().find(|r| text(&r["flow"]) == named(&flow));
    let stuck = stuck.unwrap_or_else(|| panic!("no {flow:?} in {told:#}"));
    assert_eq!(stuck["stage"], "app");
    let worker = thread(&told, text(&stuck["thread"]));
    assert_eq!(
        (&worker["stage"], text(&worker["flow"])),
        (&"app".into(), named(&flow).as_str())
    );
}
