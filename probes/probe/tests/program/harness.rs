//! Starts the traced program, plays the recorder.

use bypassprof_ring::reader::{ControlHandle, Drained, RingFile, SessionDir, Totals};
use bypassprof_wire::layout::Mode;
use bypassprof_wire::names::ProcessKey;
use bypassprof_wire::{Decoder, Event, Tsc};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A session directory that goes away at the end.
pub fn session_dir() -> tempfile::TempDir {
    let dir = tempfile::Builder::new()
        .prefix("bypassprof-test-")
        .tempdir_in("/dev/shm")
        .unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
    dir
}

/// The current user.
pub fn user() -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid()
}

/// A traced program.
pub struct Program {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Program {
    /// Starts a part in a session directory and waits until it has used its first probe.
    pub fn start(part: &str, session: &Path) -> Program {
        Program::start_with(part, session, |_| {})
    }

    /// The same with changes to the command.
    pub fn start_with(part: &str, session: &Path, change: impl FnOnce(&mut Command)) -> Program {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["program", "--exact", "--ignored", "--nocapture", "-q"])
            .env("BYPASSPROF_TEST_PART", part)
            .env("BYPASSPROF_SESSION", session)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut program = Program { child, lines };
        program.expect("ready");
        program
    }

    /// Waits for a line that starts with `word`; returns the rest.
    pub fn expect(&mut self, word: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.lines.read_line(&mut line).unwrap();
            assert!(read > 0, "the program ended before it said {word:?}");
            if let Some(rest) = line.trim_end().strip_prefix(word) {
                return rest.trim().to_string();
            }
        }
    }

    /// Lets the program go on.
    pub fn go(&mut self) {
        writeln!(self.child.stdin.as_mut().unwrap(), "go").unwrap();
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it run to its end.
    pub fn finish(mut self) -> ExitStatus {
        drop(self.child.stdin.take());
        self.child.wait().unwrap()
    }

    /// Ends it at once.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// What was read of one ring's owner.
#[derive(Debug, Default)]
pub struct Read {
    /// Its events.
    pub events: Vec<Event>,
    /// Its totals.
    pub totals: Totals,
    /// Slots that `LOST` slots told of.
    pub lost: u64,
    /// Slots that could not be decoded.
    pub bad: u64,
    /// Its name.
    pub name: String,
    /// Its thread.
    pub tid: u32,
    /// Slots read.
    pub slots: u64,
}

struct Source {
    file: RingFile,
    decoder: Decoder,
    read: Read,
}

/// A recorder of one process.
pub struct Recorder {
    session: SessionDir,
    /// The process's control file.
    pub control: ControlHandle,
    sources: BTreeMap<u32, Source>,
    finished: Vec<Read>,
    drained: Drained,
}

impl Recorder {
    /// Finds the process's control file and switches it on.
    pub fn attach(session: &Path, pid: u32, mode: Mode) -> Recorder {
        let recorder = Recorder::find(session, pid);
        recorder.control.switch_on(mode);
        recorder
    }

    /// Finds the process's control file.
    pub fn find(session: &Path, pid: u32) -> Recorder {
        let session = SessionDir::open(session, user()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let key = loop {
            let keys: Vec<ProcessKey> = session.processes().unwrap();
            if let Some(key) = keys.into_iter().find(|key| key.pid == pid) {
                break key;
            }
            assert!(
                Instant::now() < deadline,
                "process {pid} made no control file"
            );
            std::thread::sleep(Duration::from_millis(2));
        };
        let control = session.control(key).unwrap();
        Recorder {
            session,
            control,
            sources: BTreeMap::new(),
            finished: Vec::new(),
            drained: Drained::with_capacity(1 << 16),
        }
    }

    /// Reads what is there, and gives finished rings back. Returns how many slots there were.
    pub fn turn(&mut self) -> u64 {
        let mut slots = 0;
        for place in self.control.rings() {
            if !self.sources.contains_key(&place.index) {
                let Ok(file) = self.session.ring(&self.control, place) else {
                    continue;
                };
                let decoder = Decoder::new(None);
                let read = Read::default();
                self.sources.insert(
                    place.index,
                    Source {
                        file,
                        decoder,
                        read,
                    },
                );
            }
        }
        for source in self.sources.values_mut() {
            while let Ok(taken) = source.file.drain(&mut self.drained) {
                if taken.new_owner {
                    let read = std::mem::take(&mut source.read);
                    self.finished.extend((read.slots > 0).then_some(read));
                    source.decoder = Decoder::new(None);
                    continue;
                }
                if taken.skipped > 0 {
                    source.decoder.gap();
                    source.decoder = Decoder::new(Some(Tsc::from_raw(source.file.base_tsc())));
                }
                let events = &mut source.read.events;
                for &slot in self.drained.slots() {
                    source.decoder.push(slot, &mut |event| events.push(event));
                }
                self.drained.clear();
                slots += taken.slots as u64;
                source.read.slots += taken.slots as u64;
                source.read.totals = source.file.totals();
                source.read.name.clone_from(&source.file.owner().name);
                source.read.tid = source.file.owner().tid;
                if !taken.more {
                    break;
                }
            }
            if source.file.is_finished() && source.read.slots > 0 {
                source
                    .decoder
                    .flush(&mut |event| source.read.events.push(event));
                let counts = source.decoder.counts();
                source.read.lost = counts.lost_slots;
                source.read.bad = counts.orphan_slots + counts.undated_slots + counts.invalid_slots;
                source.file.release();
                self.finished.push(std::mem::take(&mut source.read));
            }
        }
        slots
    }

    /// Reads until nothing comes any more and returns all that was read. Call when the program rests or is gone.
    pub fn finish(mut self) -> Vec<Read> {
        while self.turn() > 0 {}
        let mut all = std::mem::take(&mut self.finished);
        for mut source in self.sources.into_values() {
            let mut read = source.read;
            source.decoder.flush(&mut |event| read.events.push(event));
            let counts = source.decoder.counts();
            read.lost = counts.lost_slots;
            read.bad = counts.orphan_slots + counts.undated_slots + counts.invalid_slots;
            read.totals = source.file.totals();
            all.extend((read.slots > 0).then_some(read));
        }
        all
    }
}
