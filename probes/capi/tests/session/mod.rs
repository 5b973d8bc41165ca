//! Builds a C or C++ program against the headers, runs it in a session of its own, and reads back what it wrote.
//!
//! In: source files and how to link them; out: each ring with its owner, its events as text, its totals.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use bypassprof_ring::reader::{ControlHandle, Drained, SessionDir, Totals};
use bypassprof_wire::layout::Mode;
use bypassprof_wire::{Decoder, Event, Tsc, names::SESSION_VARIABLE, points};
use tempfile::TempDir;

/// The manifest's directory.
pub const CAPI: &str = env!("CARGO_MANIFEST_DIR");

/// A scratch directory and the compilers.
pub struct Workbench {
    dir: TempDir,
}

/// Which of the libraries a program is linked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// `libbypassprof_capi.a`.
    Static,
    /// `libbypassprof_capi.so`, with BYPASSPROF_SHARED.
    Shared,
    /// None, with BYPASSPROF_OFF.
    Off,
}

impl Workbench {
    pub fn new() -> Workbench {
        Workbench {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A compiler for one of the programs.
    pub fn compiler(&self, source: &str) -> Command {
        self.compiler_for(&Path::new(CAPI).join("tests/programs").join(source))
    }

    /// A compiler with all warnings as errors and the headers in reach; C++ for `.cc`.
    pub fn compiler_for(&self, source: &Path) -> Command {
        let (compiler, standard) = if source.extension().is_some_and(|e| e == "cc") {
            ("c++", "-std=c++17")
        } else {
            ("cc", "-std=c11")
        };
        let mut command = Command::new(compiler);
        command.args([standard, "-Wall", "-Wextra", "-Wpedantic", "-Werror"]);
        command.arg(format!("-I{CAPI}/include"));
        command.arg(source);
        command
    }

    /// Compiles and links one of the programs.
    pub fn build(&self, source: &str, library: Library) -> PathBuf {
        let program = self.path(&format!("{source}.{library:?}"));
        let mut command = self.compiler(source);
        command.arg("-O2").arg("-o").arg(&program).arg("-pthread");
        match library {
            Library::Static => command
                .arg(built("libbypassprof_capi.a"))
                .args(SYSTEM_LIBRARIES),
            Library::Shared => {
                let library = built("libbypassprof_capi.so");
                let place = library.parent().unwrap().display().to_string();
                command
                    .arg("-DBYPASSPROF_SHARED")
                    .arg(&library)
                    .arg(format!("-Wl,-rpath,{place}"))
            }
            Library::Off => command.arg("-DBYPASSPROF_OFF"),
        };
        succeed(&mut command);
        program
    }
}

/// What a program that links the static library needs besides: `rustc --print native-static-libs`.
pub const SYSTEM_LIBRARIES: &[&str] = &["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl"];

/// A library that cargo built for this test, next to the test itself.
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let library = test.parent().unwrap().join(name);
    assert!(library.exists(), "{} is not there", library.display());
    library
}

/// Runs a command that has to succeed, and shows what it said if it does not.
pub fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// One ring as found after its program ended.
#[derive(Debug)]
pub struct Recorded {
    /// The owner's name.
    pub thread: String,
    /// What it wrote.
    pub events: Vec<Event>,
    /// What it counted.
    pub totals: Totals,
    /// Names of the program's own points.
    pub own_points: BTreeMap<u16, String>,
}

impl Recorded {
    /// Events as text: a `=` in front of those that carry the stamp of the event before them, then the point, the flow
    /// field and the arguments that were carried. Sampled rounds are left out: which ones they are is left to chance.
    pub fn text(&self) -> Vec<String> {
        let mut before = None;
        let told = self
            .events
            .iter()
            .filter(|event| event.point != points::LOOP);
        let lines = told.map(|event| {
            let same = if before == Some(event.tsc) { "= " } else { "" };
            before = Some(event.tsc);
            let point = match (event.point.info(), self.own_points.get(&event.point.id())) {
                (Some(info), _) => info.name,
                (None, Some(own)) => own,
                (None, None) => "unknown",
            };
            let args = &event.args[..usize::from(event.arg_count)];
            format!("{same}{point} {:#x} {args:?}", event.flow.raw())
        });
        lines.collect()
    }
}

/// The ring of a thread by name.
pub fn thread<'a>(rings: &'a [Recorded], name: &str) -> &'a Recorded {
    let mut named = rings.iter().filter(|ring| ring.thread == name);
    let found = named.next().unwrap_or_else(|| {
        let names: Vec<_> = rings.iter().map(|ring| &ring.thread).collect();
        panic!("no ring of thread {name}: {names:?}")
    });
    assert!(named.next().is_none(), "thread {name} has two rings");
    found
}

/// Runs a program, switches its points on as soon as it can be found, and reads its rings once it has ended.
pub fn record(command: &mut Command) -> Vec<Recorded> {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
    let owner = fs::metadata(dir.path()).unwrap().uid();
    let session = SessionDir::open(dir.path(), owner).unwrap();
    command
        .env(SESSION_VARIABLE, dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let control = find(&session, &mut child);
    if let Some(control) = &control {
        control.switch_on(Mode::Drain);
    }
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let control = control.expect("the program ended without a control file");
    assert_eq!(control.unreached(), 0, "a thread got no ring");
    let rings = control.rings();
    rings
        .into_iter()
        .map(|place| drain(session.ring(&control, place).unwrap()))
        .collect()
}

/// The program's control file; `None` if the program ended first.
fn find(session: &SessionDir, child: &mut Child) -> Option<ControlHandle> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let ended = child.try_wait().unwrap().is_some();
        if let Some(&key) = session.processes().unwrap().first() {
            return Some(session.control(key).unwrap());
        }
        if ended || Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn drain(mut ring: bypassprof_ring::reader::RingFile) -> Recorded {
    let mut decoder = Decoder::new(Some(Tsc::from_raw(ring.base_tsc())));
    let mut drained = Drained::with_capacity(1 << 16);
    let mut events = Vec::new();
    while ring.drain(&mut drained).unwrap().slots > 0 {
        for &slot in drained.slots() {
            decoder.push(slot, &mut |event| events.push(event));
        }
        drained.clear();
    }
    decoder.flush(&mut |event| events.push(event));
    let counts = decoder.counts();
    assert_eq!(
        (
            counts.lost_slots,
            counts.orphan_slots,
            counts.invalid_slots,
            ring.skipped()
        ),
        (0, 0, 0, 0),
        "slots are missing or damaged"
    );
    // The main thread does not end before its process does.
    let is_main = ring.owner().tid == ring.facts().pid;
    assert!(
        is_main || ring.owner().ended,
        "the thread's end was not noted"
    );
    Recorded {
        thread: ring.owner().name.clone(),
        events,
        totals: ring.totals(),
        own_points: ring.own_points().into_iter().collect(),
    }
}
