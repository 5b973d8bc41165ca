//! The list of attacks of docs/design/security.md, tried: by another user, by a program that is recorded, by whoever may
//! write where a recording is to lie. Most need root and a second user, and are left out for others.

use crate::flight::Program;
use crate::support::{HOT, Place, Run};
use bypassprof::trace::Reader;
use bypassprof_wire::layout::SWITCH_ON;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("left out: only root can play two users");
    }
    root
}

fn fifo(path: &Path) {
    let _ = fs::remove_file(path);
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).unwrap();
}

/// Runs a command that must not hang.
fn within(seconds: u64, command: &mut Command) -> Run {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child: Child = child.unwrap();
    let until = Instant::now() + Duration::from_secs(seconds);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            child.kill().unwrap();
            panic!("it hangs: {command:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Run::from(child.wait_with_output().unwrap())
}

/// A recording is not written through a link of either kind, into a FIFO, or over a file of someone else's.
#[test]
fn output_that_is_not_ours() {
    let place = Place::new();
    let victim = place.path("victim");
    fs::write(&victim, b"").unwrap();
    let out = place.path("out.mcap");
    type Trap<'a> = (&'static str, Box<dyn Fn() + 'a>);
    let mut traps: Vec<Trap<'_>> = vec![
        (
            "symbolic link",
            Box::new(|| symlink(&victim, &out).unwrap()),
        ),
        (
            "another name",
            Box::new(|| fs::hard_link(&victim, &out).unwrap()),
        ),
        ("not a recording", Box::new(|| fifo(&out))),
    ];
    if is_root() {
        traps.push((
            "another user",
            Box::new(|| {
                fs::write(&out, b"").unwrap();
                chown(&out, Some(60_010), None).unwrap();
            }),
        ));
    }
    for (words, trap) in traps {
        trap();
        for args in [
            &["record", "-o", "out.mcap", "--", "true"][..],
            &["import", "--folded", "-o", "out.mcap", "stacks"],
        ] {
            fs::write(place.path("stacks"), "a;b 1\n").unwrap();
            let run = within(20, &mut place.bypassprof(args));
            assert_eq!(run.code, Some(1), "{words}: {}", run.err);
            assert!(run.err.contains(words), "{words}: {}", run.err);
        }
        assert_eq!(fs::metadata(&victim).unwrap().len(), 0, "{words}");
        fs::remove_file(&out).unwrap();
    }
    let run = place.run(&["record", "-o", "out.mcap", "--", "true"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let mode = fs::metadata(&out).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "others can read it");
}

/// A program of another user's own, running from a folder of its.
struct Theirs {
    child: Child,
    path: PathBuf,
}

impl Theirs {
    fn start(place: &Place, uid: u32) -> Theirs {
        let dir = place.path("theirs");
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(dir.parent().unwrap(), Permissions::from_mode(0o711)).unwrap();
        let built = place.hot();
        let path = dir.join("hot");
        fs::copy(&built, &path).unwrap();
        chown(&dir, Some(uid), Some(uid)).unwrap();
        let child = Command::new(&path)
            .arg("20")
            .uid(uid)
            .gid(uid)
            .spawn()
            .unwrap();
        Theirs { child, path }
    }

    /// Functions of it that a recording names.
    fn names(&self, place: &Place) -> Vec<String> {
        let pid = self.child.id().to_string();
        let args = ["record", "-p", &pid, "--duration", "0.4", "-o", "r.mcap"];
        let run = within(30, &mut place.bypassprof(&args));
        assert_eq!(run.code, Some(0), "{}", run.err);
        let reader = Reader::open(&place.path("r.mcap")).unwrap();
        let symbols = reader.meta().symbols.iter();
        let ours = symbols.filter(|s| s.path.ends_with("/hot"));
        let frames = ours.flat_map(|s| &s.addresses).flat_map(|a| &a.frames);
        frames.map(|f| f.name.clone()).collect()
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A recorder that is root opens no file for a program that the program's user could not read, and waits for none.
#[test]
fn symbols_of_theirs() {
    if !is_root() {
        return;
    }
    assert!(HOT.contains("void hot"));
    let place = Place::new();
    let theirs = Theirs::start(&place, 60_011);
    assert!(theirs.names(&place).contains(&"hot".to_owned()));
    // The same build, so that nothing but the right to read it is in the way.
    let secret = place.path("secret");
    fs::create_dir(&secret).unwrap();
    fs::set_permissions(&secret, Permissions::from_mode(0o700)).unwrap();
    fs::copy(&theirs.path, secret.join("hot")).unwrap();
    // What was mapped is known to the process for good; that its user may not read it any more counts.
    fs::set_permissions(&theirs.path, Permissions::from_mode(0o100)).unwrap();
    chown(&theirs.path, Some(0), Some(0)).unwrap();
    fs::rename(&theirs.path, place.path("away")).unwrap();
    symlink(secret.join("hot"), &theirs.path).unwrap();
    assert_eq!(theirs.names(&place), [""; 0], "a file of root's was opened");
    fifo(&theirs.path);
    assert_eq!(theirs.names(&place), [""; 0]);
}

/// Whether a program that has its files in a directory has been told to write.
fn is_recorded(dir: &Path) -> bool {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut controls = entries.filter(|e| e.path().extension().is_some_and(|e| e == "control"));
    controls.any(|control| {
        let bytes = fs::read(control.path()).unwrap_or_default();
        let state = bytes.get(128..136).map(|word| word.try_into().unwrap());
        state.map(u64::from_ne_bytes) == Some(SWITCH_ON)
    })
}

/// A user's program that root records, and that ends by itself, leaves nothing; one that is killed leaves its rings.
#[test]
fn nothing_left_of_theirs() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let dir = Path::new("/dev/shm/bypassprof-60012");
    let _ = fs::remove_dir_all(dir);
    for killed in [false, true] {
        let program = Program::start_with(|command| {
            command.uid(60_012).gid(60_012);
        });
        let pid = program.pid();
        let mut recorder = place.bypassprof(&["record", "-p", &pid]);
        let mut recorder = recorder.stderr(Stdio::null()).spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        while !is_recorded(dir) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(300));
        if killed {
            drop(program);
        } else {
            program.end();
        }
        assert!(recorder.wait().unwrap().success());
        let reader = Reader::open(&place.path("bypassprof.mcap")).unwrap();
        assert!(reader.meta().slot_count() > 100);
        assert_eq!(dir.exists(), killed);
    }
    fs::remove_dir_all(dir).unwrap();
}

/// Another user's program gives nothing away to who is not root.
#[test]
fn snapshot_of_theirs() {
    if !is_root() {
        return;
    }
    let dir = Path::new("/dev/shm/bypassprof-60013");
    let _ = fs::remove_dir_all(dir);
    let program = Program::start_with(|command| {
        command
            .env("BYPASSPROF_FLIGHT", "1M")
            .uid(60_013)
            .gid(60_013);
    });
    let place = Place::new();
    let pid = program.pid();
    let mut command = place.bypassprof(&["snapshot", "-p", &pid, "-o", "/dev/null"]);
    let run = within(20, command.current_dir("/").uid(60_014).gid(60_014));
    assert_eq!(run.code, Some(1), "{}", run.err);
    assert!(run.err.contains("another user's"), "{}", run.err);
    // Root may, and so may the user.
    let run = place.run(&["snapshot", "-p", &pid, "-o", "root.mcap"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let theirs = place.path("theirs");
    fs::create_dir(&theirs).unwrap();
    chown(&theirs, Some(60_013), None).unwrap();
    fs::set_permissions(theirs.parent().unwrap(), Permissions::from_mode(0o711)).unwrap();
    let mut command = place.bypassprof(&["snapshot", "-p", &pid]);
    let run = within(20, command.current_dir(&theirs).uid(60_013).gid(60_013));
    assert_eq!(run.code, Some(0), "{}", run.err);
    program.end();
    assert!(!dir.exists());
}

/// A hostile program's directory: links, FIFOs and other users' files in the places of its control file and rings.
#[test]
fn traps_in_their_directory() {
    if !is_root() {
        return;
    }
    let dir = PathBuf::from("/dev/shm/bypassprof-60015");
    let _ = fs::remove_dir_all(&dir);
    let place = Place::new();
    let secret = place.path("secret");
    let program = Program::start_with(|command| {
        command
            .env("BYPASSPROF_FLIGHT", "1M")
            .uid(60_015)
            .gid(60_015);
    });
    let named = |ending: &str| {
        let entries = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path());
        entries
            .into_iter()
            .find(|p| p.extension().is_some_and(|e| e == ending))
            .unwrap()
    };
    for ending in ["ring", "control"] {
        let trap = named(ending);
        let good = fs::read(&trap).unwrap();
        // A file of root's own that looks just as it should: it must not be opened because a link leads to it.
        fs::write(&secret, &good).unwrap();
        let tries: [(&str, &dyn Fn()); 3] = [
            ("symbolic link", &|| symlink(&secret, &trap).unwrap()),
            ("root's file", &|| {
                fs::write(&trap, &good).unwrap();
                chown(&trap, Some(0), Some(0)).unwrap();
            }),
            ("FIFO", &|| fifo(&trap)),
        ];
        for (what, lay) in tries {
            fs::remove_file(&trap).unwrap();
            lay();
            let run = within(
                20,
                &mut place.bypassprof(&["snapshot", "-p", &program.pid()]),
            );
            let unread = run.err.contains("1 rings not reached") || run.code == Some(1);
            assert!(unread, "{what} for the {ending}: {}", run.err);
            let args = [
                "record",
                "-p",
                &program.pid(),
                "--duration",
                "0.1",
                "-o",
                "r.mcap",
            ];
            let run = within(20, &mut place.bypassprof(&args));
            assert_eq!(run.code, Some(0), "{what} for the {ending}: {}", run.err);
            assert!(
                fs::read(&secret).unwrap() == good,
                "{what} for the {ending}: written"
            );
        }
        let _ = fs::remove_file(&trap);
        fs::write(&trap, &good).unwrap();
        chown(&trap, Some(60_015), Some(60_015)).unwrap();
    }
    drop(program);
    fs::remove_dir_all(&dir).unwrap();
}

/// What `--redact` takes away is nowhere in the file, whatever else is.
#[test]
fn redacted() {
    let place = Place::new();
    let hot = place.hot();
    let folder = place
        .path("")
        .file_name()
        .map(|n| n.to_string_lossy().into_owned());
    for redact in [false, true] {
        let mut args = vec!["record", "-o", "r.mcap"];
        args.extend(redact.then_some("--redact"));
        args.extend([
            "--",
            hot.to_str().unwrap(),
            "0.3",
            "0",
            "--password=hunter2",
        ]);
        let run = place.run(&args);
        assert_eq!(run.code, Some(0), "{}", run.err);
        let all = all_of(&place.path("r.mcap"));
        let folder = folder.as_deref().unwrap();
        assert_eq!(all.contains("hunter2"), !redact);
        assert_eq!(all.contains(folder), !redact, "the folder {folder}");
        let report = place.run(&["report", "r.mcap"]);
        assert!(report.out.contains("hot"), "{}{}", report.out, report.err);
    }
}

/// Everything of low rate that a recording tells.
fn all_of(file: &Path) -> String {
    let reader = Reader::open(file).unwrap();
    let metas = reader.metas().map(|meta| format!("{:?}", meta.unwrap()));
    metas.collect::<Vec<_>>().join("\n")
}

/// Neither does a post mortem, of a recording or beside it, which quotes paths where nobody would look for them.
#[test]
fn redacted_crash() {
    let place = Place::new();
    let source = "int main(void) { *(volatile int *)0x40 = 1; return 0; }";
    let dies = place.compile("cc", "dies", source, &["-g", "-Wl,--build-id"]);
    let folder = place.path("");
    let folder = folder.file_name().unwrap().to_str().unwrap();
    let program = dies.to_str().unwrap();
    for redact in [false, true] {
        let mut args = vec!["record", "--on-crash", "-o", "r.mcap"];
        args.extend(redact.then_some("--redact"));
        args.extend(["--", program, "--password=hunter2"]);
        let run = place.run(&args);
        assert_eq!(run.code, Some(128 + 11), "{}", run.err);
        let all = all_of(&place.path("r.mcap"));
        assert!(
            all.contains("PostMortem") && all.contains("SIGSEGV"),
            "{all}"
        );
        for word in [folder, "hunter2"] {
            assert_eq!(all.contains(word), !redact, "{word} in {all}");
        }
        if !redact {
            let args = ["postmortem", "r.mcap", "--redact", "--out", "out.mcap"];
            let run = place.run(&args);
            assert_eq!(run.code, Some(0), "{}", run.err);
            let all = all_of(&place.path("out.mcap")) + &run.out;
            for word in [folder, "hunter2"] {
                assert!(!all.contains(word), "{word} in {all}");
            }
        }
    }
}

/// A file larger than any disk: these bytes and nothing behind them.
fn sparse(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_len(8 << 40).unwrap();
}

fn seed(name: &str) -> Vec<u8> {
    fs::read(format!("{}/fuzz/seeds/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// What a post mortem may be asked for and is none: devices, FIFOs, links that lead to themselves, files of terabytes.
#[test]
fn no_remains() {
    let place = Place::new();
    fifo(&place.path("fifo"));
    symlink("loop", place.path("loop")).unwrap();
    fs::create_dir(place.path("folder")).unwrap();
    symlink(".", place.path("folder/again")).unwrap();
    sparse(&place.path("huge"), b"");
    sparse(&place.path("huge.mcap"), &seed("recording/whole")[..400]);
    for (path, says) in [
        ("/dev/zero", "not a regular file"),
        ("/dev/full", "not a regular file"),
        ("/proc/self/mem", ""),
        ("fifo", "not a regular file"),
        ("loop", "symbolic links"),
        ("folder/again/again", "holds no rings"),
        ("huge", "no whole chunk"),
        ("huge.mcap", "no whole chunk"),
    ] {
        for command in ["postmortem", "recover", "report"] {
            let run = within(20, &mut place.bypassprof(&[command, path]));
            assert_eq!(run.code, Some(1), "{command} {path}: {}", run.err);
            let told = command == "report" || run.err.contains(says) || path.contains("again");
            assert!(told, "{command} {path}: {}", run.err);
        }
    }
    // As large, but with something in it.
    sparse(&place.path("large.mcap"), &seed("recording/whole"));
    let run = within(20, &mut place.bypassprof(&["postmortem", "large.mcap"]));
    assert_eq!(run.code, Some(0), "{}", run.err);
}

/// Cores that say to hold more than any disk, or the same bytes again and again.
#[test]
fn cores_without_end() {
    let place = Place::new();
    let core = seed("core/ring-and-thread");
    let word = |at: usize| u64::from_le_bytes(core[at..at + 8].try_into().unwrap());
    // Its last segment is the ring's: 56 bytes, of which offset, address and length lie at 8, 16 and 32.
    let last = 64 + 56 * 3;
    let (ring, address) = (word(last + 8), word(last + 16));
    let mut large = core.clone();
    for at in [last + 32, last + 40] {
        large[at..at + 8].copy_from_slice(&(8u64 << 40).to_le_bytes());
    }
    sparse(&place.path("large"), &large);
    // Thousands of segments, each of them the ring once more, and as many times the notes.
    let mut again = core.clone();
    let table = again.len() as u64;
    again[32..40].copy_from_slice(&table.to_le_bytes());
    again[56..58].copy_from_slice(&60_000u16.to_le_bytes());
    for n in 0..60_000u64 {
        let mut header = core[if n % 2 == 0 { 64..120 } else { last..last + 56 }].to_vec();
        if n % 2 == 1 {
            let at = address + (n << 20);
            header[8..16].copy_from_slice(&ring.to_le_bytes());
            header[16..24].copy_from_slice(&at.to_le_bytes());
        }
        again.extend(header);
    }
    fs::write(place.path("again"), again).unwrap();
    for (name, says) in [("large", ""), ("again", "share bytes of its file")] {
        let run = within(60, &mut place.bypassprof(&["postmortem", name]));
        assert_eq!(run.code, Some(0), "{name}: {}", run.err);
        assert!(run.out.contains("killed by SIGSEGV"), "{name}: {}", run.out);
        assert!(run.out.contains("trust: 13 events"), "{name}: {}", run.out);
        assert!(run.out.contains(says), "{name}: {}", run.out);
    }
}

/// A session directory handed on by someone else, with traps in the places of rings: what is good is told, nothing is
/// read through a link, nothing waits, and what is told of cannot be led elsewhere.
#[test]
fn traps_among_remains() {
    let place = Place::new();
    let ring = seed("ring/drain");
    let trap = |name: &str| place.path(&format!("copy/{name}"));
    fs::create_dir(place.path("copy")).unwrap();
    fs::write(place.path("outside"), &ring).unwrap();
    fs::write(trap("0-0-0.ring"), &ring).unwrap();
    symlink(place.path("outside"), trap("0-0-1.ring")).unwrap();
    symlink("/dev/zero", trap("0-0-2.ring")).unwrap();
    fifo(&trap("0-0-3.ring"));
    fs::create_dir(trap("0-0-4.ring")).unwrap();
    sparse(&trap("0-0-5.ring"), b"");
    fs::write(trap("0-0-6.ring"), &ring[..5000]).unwrap();
    symlink("0-0-7.ring", trap("0-0-7.ring")).unwrap();
    symlink("..", trap("up")).unwrap();
    let controls: [&dyn Fn(&Path); 3] = [
        &|path| fifo(path),
        &|path| symlink(place.path("outside"), path).unwrap(),
        &|path| fs::create_dir(path).unwrap(),
    ];
    for lay in controls {
        let control = trap("0-0.control");
        lay(&control);
        let run = within(20, &mut place.bypassprof(&["postmortem", "copy"]));
        assert_eq!(run.code, Some(0), "{}", run.err);
        assert!(run.out.contains("trust: 13 events"), "{}", run.out);
        for n in 1..8 {
            assert!(
                run.out.contains(&format!("0-0-{n}.ring")),
                "{n}: {}",
                run.out
            );
        }
        let _ = fs::remove_file(&control);
    }
    assert_eq!(fs::read(place.path("outside")).unwrap(), ring);
    symlink(place.path("outside"), place.path("out.mcap")).unwrap();
    let args = ["postmortem", "copy", "--out", "out.mcap"];
    assert_eq!(within(20, &mut place.bypassprof(&args)).code, Some(1));
    assert_eq!(fs::read(place.path("outside")).unwrap(), ring);
}

/// Every file that a command line may name, as a FIFO that nobody writes to, a device without an end, and a file of
/// terabytes of nothing: refused at once, and named.
#[test]
fn inputs_without_end() {
    let place = Place::new();
    fifo(&place.path("fifo"));
    symlink("/dev/zero", place.path("zero")).unwrap();
    sparse(&place.path("huge"), b"");
    fs::write(place.path("whole"), seed("recording/whole")).unwrap();
    for words in [
        "report TRAP",
        "report --html out.html whole TRAP",
        "report --pack TRAP whole",
        "flamegraph -o out.svg TRAP",
        "flamegraph -o out.svg whole --diff TRAP",
        "ledger TRAP",
        "ledger --idle TRAP whole",
        "spans TRAP",
        "explain TRAP",
        "explain --idle TRAP whole",
        "explain whole TRAP",
        "compare TRAP whole",
        "compare whole TRAP",
        "queues TRAP",
        "stat TRAP",
        "packs TRAP",
        "packs --check TRAP",
        "export --format folded TRAP",
        "postmortem TRAP",
        "postmortem --out out.mcap TRAP",
        "postmortem --pack TRAP whole",
        "recover TRAP",
        "import TRAP",
        "import --folded TRAP",
        "import --format perf-script TRAP",
        "import --format perf-data TRAP",
    ] {
        for trap in ["fifo", "zero", "huge"] {
            let words = words.replace("TRAP", trap);
            let args: Vec<&str> = words.split(' ').collect();
            let run = within(20, &mut place.bypassprof(&args));
            assert_eq!(run.code, Some(1), "{words}: {}", run.err);
            assert!(run.err.contains(trap), "{words}: {}", run.err);
            let told = trap == "huge" || run.err.contains("not a regular file");
            assert!(told, "{words}: {}", run.err);
        }
    }
    let left = ["fifo", "huge", "whole", "zero"];
    assert_eq!(place.names(), left, "something was made");
}

/// Folders with programs and debug information that are none, or whose files are FIFOs.
#[test]
fn folders_of_traps() {
    let place = Place::new();
    fifo(&place.path("fifo"));
    fs::write(place.path("data"), seed("perfdata/shell")).unwrap();
    for below in ["traps/usr/bin", "traps/.build-id"] {
        fs::create_dir_all(place.path(below)).unwrap();
    }
    for name in ["dash", "usr/bin/dash", "libc.so.6", "dash.debug"] {
        fifo(&place.path(&format!("traps/{name}")));
    }
    for folder in ["fifo", "/dev/zero", "traps"] {
        for option in ["--symbol-dir", "--debuginfo-dir"] {
            let args = ["import", option, folder, "data"];
            let run = within(20, &mut place.bypassprof(&args));
            let code = if folder == "traps" { 0 } else { 1 };
            assert_eq!(run.code, Some(code), "{option} {folder}: {}", run.err);
            let told = code == 0 || run.err.contains("not a folder");
            assert!(told, "{option} {folder}: {}", run.err);
        }
    }
}
