//! What clients send and servers answer is in no ring, no recording and no answer: a request with words that stand nowhere
//! else goes through servers whose probes are all on, and all that is left behind is searched for them.

use crate::crash::{Victim, tool};
use crate::veth;
use bypassprof::trace::{Message, Reader};
use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const MARK: &str = "zQ7~vK0!xJ4^wB9%yH3&uG8*tN2@sM6#";

/// As much of it as fits an argument of an event, and as would be a word in a text.
fn pieces(len: usize) -> impl Iterator<Item = &'static [u8]> {
    MARK.as_bytes().windows(len)
}

fn has(bytes: &[u8], piece: &[u8]) -> bool {
    bytes.windows(piece.len()).any(|w| w == piece)
}

/// A file of whatever kind, as it lies there.
fn search(path: &Path) {
    let bytes = std::fs::read(path).unwrap();
    let found = pieces(8).find(|piece| has(&bytes, piece));
    assert_eq!(found, None, "{}", path.display());
}

/// A recording, unpacked: no text in it has eight bytes of the mark, no word of an event four. Returns its slots.
fn search_recording(path: &Path) -> usize {
    let reader = Reader::open(path).unwrap();
    let mut slots = 0;
    for message in reader.messages() {
        match message.unwrap() {
            Message::Meta(json) => {
                let found = pieces(8).find(|piece| has(&json, piece));
                assert_eq!(found, None, "{}", String::from_utf8_lossy(&json));
            }
            Message::Slots(_, block) => {
                slots += block.slots.len();
                for slot in block.slots {
                    let arguments = [slot.word1 as u32, (slot.word1 >> 32) as u32];
                    for word in arguments.into_iter().flat_map(|w| [w, w.swap_bytes()]) {
                        let bytes = word.to_le_bytes();
                        assert!(pieces(4).all(|piece| piece != bytes), "{slot:?}");
                    }
                }
            }
            Message::Samples(_) | Message::Switches(_) => {}
        }
    }
    slots
}

/// Asks with the mark in path, header and body, each answered, for as long as it is wanted.
fn ask(server: SocketAddrV4, time: Duration) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (length, until) = (MARK.len(), Instant::now() + time);
    let request = format!(
        "POST /{MARK} HTTP/1.1\r\nHost: x\r\nX-Mark: {MARK}\r\nContent-Length: {length}\r\n\r\n{MARK}"
    );
    let mut reply = [0; 4096];
    while Instant::now() < until {
        stream.write_all(request.as_bytes())?;
        assert!(stream.read(&mut reply)? > 0, "it closed");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Runs the tool, which must not say it either.
fn said(tool: &Path, place: &Path, arguments: &[&str]) {
    let mut command = Command::new(tool);
    command.args(arguments).stdin(Stdio::null());
    let output = command.current_dir(place).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{arguments:?}: {text}");
    assert_eq!(pieces(8).find(|piece| has(&said, piece)), None, "{text}");
}

fn is_nowhere(server: Command, arguments: &[&str], ask: impl Fn(SocketAddrV4, Duration) + Sync) {
    let Some(tool) = tool() else { return };
    let mut victim = Victim::start(server, arguments, "0x3b");
    let (address, pid) = (victim.address, victim.child.id().to_string());
    let place = victim.path(".");
    let run = |arguments: &[&str]| said(&tool, &place, arguments);
    ask(address, Duration::from_millis(100));
    run(&["snapshot", "-p", &pid, "-o", "snapshot.mcap"]);
    std::thread::scope(|scope| {
        scope.spawn(|| ask(address, Duration::from_millis(1500)));
        run(&["record", "-p", &pid, "--duration", "1", "-o", "record.mcap"]);
    });
    ask(address, Duration::from_millis(100));
    let number = rustix::process::Pid::from_child(&victim.child);
    rustix::process::kill_process(number, rustix::process::Signal::ABORT).unwrap();
    victim.wait();
    let session = victim.path("session");
    for entry in std::fs::read_dir(&session).unwrap() {
        search(&entry.unwrap().path());
    }
    let mut recordings = vec!["snapshot.mcap", "record.mcap", "rings.mcap"];
    run(&["postmortem", "session", "--out", "rings.mcap"]);
    if let Some(core) = victim.core() {
        // The core itself is the program's memory, and holds what the program held.
        let name = core.file_name().unwrap().to_str().unwrap();
        run(&["postmortem", name, "--json", "--out", "core.mcap"]);
        recordings.push("core.mcap");
    }
    for name in recordings {
        let path = victim.path(name);
        search(&path);
        assert!(search_recording(&path) > 10, "{name} tells of no request");
    }
}

/// The server on the kernel's TCP.
#[test]
fn linux() {
    let arguments = ["--listen", "127.0.0.1:0", "--threads", "1"];
    is_nowhere(Command::new("sh"), &arguments, |address, time| {
        ask(address, time).unwrap();
    });
}

/// A server on a TCP of ours, which sees every segment.
#[test]
fn fstack() {
    let Some(lab) = veth::lab() else { return };
    let (client, server) = veth::joined(&lab);
    let arguments = ["--stack", "fstack", "--dev", "packet:http-s"];
    is_nowhere(server.command("sh"), &arguments, |address, time| {
        client.enter(|| ask(address, time)).unwrap().unwrap();
    });
}
