//! The flight recorder: a program's newest events with no recorder attached, whatever end it takes, and what it leaves.
#![allow(unsafe_code)]

use crate::harness::{Program, Recorder, session_dir, user};
use bypassprof_ring::reader::{Drained, RingLook, SessionDir, Writing};
use bypassprof_wire::layout::Mode;
use bypassprof_wire::names::ProcessKey;
use bypassprof_wire::{Decoder, Event, Slot, Tsc};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

fn in_flight(command: &mut Command) {
    command
        .env("BYPASSPROF_FLIGHT", "1M")
        .env("BYPASSPROF_RING_SLOTS", "1024");
}

fn key_of(dir: &SessionDir, pid: u32) -> ProcessKey {
    let keys = dir.processes().unwrap();
    keys.into_iter().find(|key| key.pid == pid).unwrap()
}

fn looks(dir: &Path, pid: u32, writing: Writing) -> Vec<RingLook> {
    let dir = SessionDir::look(dir).unwrap();
    let control = dir.look_at_control(key_of(&dir, pid)).unwrap();
    let open = |place| dir.look_at(&control, place, writing).unwrap();
    control.rings().into_iter().map(open).collect()
}

/// All slots of a look, and the position of the first.
fn slots(look: &mut RingLook) -> (u64, Vec<Slot>) {
    let mut drained = Drained::with_capacity(1 << 12);
    let (mut first, mut slots) = (None, Vec::new());
    loop {
        let taken = look.take(&mut drained).unwrap();
        if taken.slots > 0 {
            first.get_or_insert(taken.first);
        }
        slots.extend_from_slice(drained.slots());
        drained.clear();
        if !taken.more {
            return (first.unwrap_or(look.positions().end), slots);
        }
    }
}

/// Started by the environment alone, the newest events are there while it runs, and nothing stops or changes for that.
#[test]
fn newest_events() {
    let dir = session_dir();
    let mut program = Program::start_with("steps", dir.path(), in_flight);
    for _ in 0..30 {
        program.go();
        program.expect("step");
    }
    let files = SessionDir::look(dir.path()).unwrap();
    let control = files.look_at_control(key_of(&files, program.pid()));
    let comm = fs::read_to_string(format!("/proc/{}/comm", program.pid())).unwrap();
    assert_eq!(control.unwrap().name(), comm.trim_end(), "not a thread's");
    let mut looks = looks(dir.path(), program.pid(), Writing::Goes);
    let main = looks
        .iter_mut()
        .max_by_key(|look| look.totals().events)
        .unwrap();
    // One event before the first step.
    assert_eq!(main.totals().events, 3001);
    assert_eq!(main.gone_before(), 3002 - 1024);
    let (first, slots) = slots(main);
    assert_eq!((first, main.overwritten()), (3002 - 1024 + 8, 8));
    let args: Vec<u32> = slots.iter().map(|slot| slot.word1 as u32).collect();
    let expected: Vec<u32> = (0..3000).map(|n| n % 100).collect();
    assert_eq!(args, expected[3000 - (1024 - 8)..]);
    assert!(program.finish().success());
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        0,
        "something was left"
    );
}

/// A recorder that comes reads everything without loss from the moment its wish is followed, and leaves the flight
/// recorder as it was.
#[test]
fn recorder_comes_and_goes() {
    let dir = session_dir();
    let mut program = Program::start_with("steps", dir.path(), in_flight);
    let step = |program: &mut Program| {
        program.go();
        program.expect("step");
    };
    step(&mut program);
    let recorder = Recorder::attach(dir.path(), program.pid(), Mode::Drain);
    assert_eq!(recorder.control.flight_bytes(), 1 << 20);
    assert_eq!(recorder.control.mode(), Mode::Drain);
    recorder.control.switch_off();
    assert!(recorder.control.is_on());
    assert_eq!(recorder.control.mode(), Mode::Flight);
    drop(recorder);
    step(&mut program);
    assert!(program.finish().success());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// A recorder that is killed: rings that are made afterwards are the flight recorder's, and one that comes later takes
/// them over as ever.
#[test]
fn recorder_killed() {
    let dir = session_dir();
    let mut program = Program::start_with("steps", dir.path(), in_flight);
    let step = |program: &mut Program| {
        program.go();
        program.expect("step");
    };
    let recorder = Recorder::attach(dir.path(), program.pid(), Mode::Drain);
    step(&mut program);
    assert_eq!(recorder.control.mode(), Mode::Drain, "it is there");
    // Its lock goes with it; nothing else is told. Children that other tests are starting hold it until they run their
    // program.
    drop(recorder);
    let mut steps = 0;
    let recorder = loop {
        step(&mut program);
        let recorder = Recorder::find(dir.path(), program.pid());
        steps += 1;
        if recorder.control.mode() == Mode::Flight || steps == 200 {
            break recorder;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    };
    assert_eq!(recorder.control.mode(), Mode::Flight);
    assert!(recorder.control.is_on());
    drop(recorder);
    let later = Recorder::attach(dir.path(), program.pid(), Mode::Drain);
    step(&mut program);
    assert_eq!(later.control.mode(), Mode::Drain);
    drop(later);
    assert!(program.finish().success());
}

/// Ten thousand threads that come and go take no more than what was allowed, and the newest have rings.
#[test]
fn bounded() {
    let dir = session_dir();
    let mut program = Program::start_with("threads", dir.path(), |command| {
        command.env("BYPASSPROF_FLIGHT", "8M");
    });
    program.go();
    program.expect("done");
    let sizes = fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().metadata().unwrap().len());
    let bytes: u64 = sizes.sum();
    assert!(bytes <= (8 << 20) + 16384, "{bytes} bytes");
    let looks = looks(dir.path(), program.pid(), Writing::Goes);
    assert!(looks.iter().any(|look| look.earlier_owners() > 0));
    assert!(program.finish().success());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// Killed at any moment in flight mode: every event that is reported was written, whole, in order, at its place, and
/// what is missing is exactly what lies before it.
#[test]
fn killed_in_flight() {
    let kills = std::env::var("BYPASSPROF_KILLS")
        .ok()
        .and_then(|n| n.parse().ok());
    let mut random = 0x9e37_79b9u32;
    let mut events = 0;
    for _ in 0..kills.unwrap_or(100u32) {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        let dir = session_dir();
        let mut program = Program::start_with("checksums", dir.path(), in_flight);
        let pid = program.pid();
        program.go();
        std::thread::sleep(Duration::from_micros(u64::from(random >> 8) % 1500));
        program.kill();
        for mut look in looks(dir.path(), pid, Writing::Over) {
            events += check_killed(&mut look);
        }
    }
    assert!(events > 0);
}

/// Checks a dead writer's ring; returns how many events it holds.
fn check_killed(look: &mut RingLook) -> usize {
    let (first, slots) = slots(look);
    let range = look.positions();
    assert_eq!(first + slots.len() as u64, range.end);
    assert_eq!(
        look.gone_before() + look.overwritten(),
        first,
        "the count of missing slots"
    );
    let mut decoder = Decoder::new(Some(Tsc::from_raw(look.base_tsc())));
    let (mut position, mut found) = (first, Vec::new());
    for slot in slots {
        // An event is given out when the next one begins; its own place is where its first slot was.
        let mut given = None;
        decoder.push(slot, &mut |event: Event| given = Some(event));
        found.extend(given);
        position += 1;
    }
    decoder.flush(&mut |event| found.push(event));
    let own = |event: &&Event| (300..=302).contains(&event.point.id());
    let numbers: Vec<u32> = found
        .iter()
        .filter(own)
        .map(|event| {
            crate::trouble::check(event);
            event.args[0]
        })
        .collect();
    assert!(
        numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "a gap: {numbers:?}"
    );
    if let Some(&last) = numbers.last() {
        // An EPOCH slot and the first event lie before number 0.
        assert_eq!(
            end_of(last),
            position,
            "event {last} is not where it was written"
        );
    }
    let counts = decoder.counts();
    assert_eq!(counts.undated_slots + counts.invalid_slots, 0);
    assert!(counts.orphan_slots <= 2, "{counts:?}");
    numbers.len()
}

/// Where event `n` of the part that is killed ends.
fn end_of(n: u32) -> u64 {
    2 + 6 * u64::from(n / 3) + [2, 5, 6][n as usize % 3]
}

/// A directory that programs of one user share, with a user of our own; gone at the end.
struct Shared(u32);

impl Shared {
    /// `None` for others than root, who have no second user.
    fn new(uid: u32) -> Option<Shared> {
        if user() != 0 {
            eprintln!("left out: only root can start programs as another user");
            return None;
        }
        let shared = Shared(uid);
        let _ = fs::remove_dir_all(shared.path());
        Some(shared)
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/dev/shm/bypassprof-{}", self.0))
    }

    fn start(&self, part: &str, change: impl FnOnce(&mut Command)) -> Program {
        Program::start_with(part, Path::new("/"), |command| {
            command
                .env_remove("BYPASSPROF_SESSION")
                .uid(self.0)
                .gid(self.0);
            change(command);
        })
    }

    /// A program that runs to its end.
    fn run(&self, change: impl FnOnce(&mut Command)) {
        end(self.start("steps", change));
    }

    fn names(&self) -> usize {
        fs::read_dir(self.path()).map_or(0, Iterator::count)
    }

    /// A program that is killed with a ring of 20 KiB.
    fn crash(&self) -> u32 {
        let program = self.start("steps", in_flight);
        let pid = program.pid();
        program.kill();
        pid
    }
}

/// Lets a program take its one step and end.
fn end(mut program: Program) {
    program.go();
    program.expect("step");
    assert!(program.finish().success());
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.path());
        let _ = fs::remove_dir_all(self.path());
    }
}

/// After a normal exit nothing is left in shared memory, not even the directory, with the flight recorder or without.
#[test]
fn nothing_left() {
    let Some(shared) = Shared::new(60_001) else {
        return;
    };
    for flight in [true, false] {
        let mut program = shared.start("steps", |command| {
            if flight {
                in_flight(command);
            }
        });
        program.go();
        program.expect("step");
        assert!(shared.path().exists());
        assert!(program.finish().success());
        assert!(!shared.path().exists());
    }
}

/// What tells of a crash stays until someone has read it and a day is over, or the user said how much to keep.
#[test]
fn kept_and_reaped() {
    let Some(shared) = Shared::new(60_002) else {
        return;
    };
    let crashes = [shared.crash(), shared.crash(), shared.crash()];
    assert_eq!(shared.names(), 3 * 2, "unread crashes are kept");
    let dir = SessionDir::open(&shared.path(), 60_002).unwrap();
    let read = key_of(&dir, crashes[1]);
    dir.mark_examined(read).unwrap();
    shared.run(|_| {});
    assert_eq!(shared.names(), 3 * 2, "what was read today is kept");
    let control = shared
        .path()
        .join(format!("{}-{}.control", read.pid, read.start_time));
    let file = fs::File::options().write(true).open(control).unwrap();
    let two_days = Duration::from_secs(48 * 3600);
    file.set_modified(std::time::SystemTime::now() - two_days)
        .unwrap();
    shared.run(|_| {});
    assert_eq!(shared.names(), 2 * 2, "what was read two days ago is gone");
    assert!(!dir.processes().unwrap().contains(&read));
    // Room for one: the oldest goes.
    shared.run(|command| {
        command.env("BYPASSPROF_KEEP", "40K");
    });
    let left: Vec<u32> = dir.processes().unwrap().iter().map(|key| key.pid).collect();
    assert_eq!(left, [crashes[2]]);
}

/// Crashes that no one has read leave less to new flight recorders, so that they all have a bound.
#[test]
fn crashes_count() {
    let Some(shared) = Shared::new(60_003) else {
        return;
    };
    shared.crash();
    // As if it had taken all but a little of what may be kept.
    let dir = SessionDir::open(&shared.path(), 60_003).unwrap();
    let key = dir.processes().unwrap()[0];
    let control = shared
        .path()
        .join(format!("{}-{}.control", key.pid, key.start_time));
    let file = fs::File::options().write(true).open(control).unwrap();
    let bytes: u64 = (256 << 20) - 16384 - 100_000;
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes.to_ne_bytes(), 264).unwrap();
    let program = shared.start("steps", in_flight);
    let key = key_of(&dir, program.pid());
    assert_eq!(dir.look_at_control(key).unwrap().flight_bytes(), 100_000);
    end(program);
}

/// Whatever another user puts in the place of a program's directory: the program runs as if it had no probes, and
/// nothing is written there.
#[test]
fn directory_of_someone_else() {
    let Some(shared) = Shared::new(60_004) else {
        return;
    };
    let victim = session_dir();
    type Make<'a> = (&'static str, &'a dyn Fn(&Path));
    let make: [Make<'_>; 4] = [
        ("another user's directory", &|path| {
            fs::create_dir(path).unwrap()
        }),
        ("a link to a directory", &|path| {
            std::os::unix::fs::symlink(victim.path(), path).unwrap();
        }),
        ("a file", &|path| fs::write(path, b"x").unwrap()),
        ("a FIFO", &|path| {
            let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
            // SAFETY: the path ends with a zero byte.
            assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o666) }, 0);
        }),
    ];
    for (what, make) in make {
        make(&shared.path());
        shared.run(in_flight);
        assert_eq!(fs::read_dir(victim.path()).unwrap().count(), 0, "{what}");
        assert!(!shared.path().is_dir() || shared.names() == 0, "{what}");
        let _ = fs::remove_file(shared.path());
        let _ = fs::remove_dir(shared.path());
    }
    // One's own, but open to others.
    let path = shared.path();
    fs::create_dir(&path).unwrap();
    std::os::unix::fs::chown(&path, Some(60_004), Some(60_004)).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let program = shared.start("steps", in_flight);
    assert_eq!(shared.names(), 0);
    end(program);
}

/// No other user can look into a program's directory.
#[test]
fn others_see_nothing() {
    let Some(shared) = Shared::new(60_005) else {
        return;
    };
    let program = shared.start("steps", in_flight);
    for entry in fs::read_dir(shared.path()).unwrap() {
        let path = entry.unwrap().path();
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o077, 0, "{}", path.display());
        let other = Command::new("cat")
            .arg(&path)
            .uid(60_006)
            .gid(60_006)
            .output()
            .unwrap();
        assert!(!other.status.success() && other.stdout.is_empty());
    }
    end(program);
}
