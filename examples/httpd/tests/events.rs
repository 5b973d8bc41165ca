//! A recorder in small: switches a server's probes on and reads what its threads tell.

use bypassprof_ring::reader::{ControlHandle, Drained, RingFile, SessionDir, Totals};
use bypassprof_wire::layout::Mode;
use bypassprof_wire::{Decoder, Event, Point};
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// A directory for a server's rings, to be named in its environment as `BYPASSPROF_SESSION`.
pub fn session() -> tempfile::TempDir {
    let mut builder = tempfile::Builder::new();
    let dir = builder.prefix("bypassprof-httpd-");
    let dir = dir.tempdir_in("/dev/shm").unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
    dir
}

/// What one thread told.
#[derive(Default)]
pub struct Thread {
    pub name: String,
    pub events: Vec<Event>,
    pub totals: Totals,
    /// The program's own points, by number.
    own: Vec<(u16, String)>,
}

impl Thread {
    /// Its events at one point.
    pub fn at(&self, point: Point) -> Vec<&Event> {
        self.events.iter().filter(|e| e.point == point).collect()
    }

    /// What a point is called.
    pub fn name_of(&self, point: Point) -> &str {
        let own = self.own.iter().find(|(number, _)| *number == point.id());
        match (point.info(), own) {
            (Some(info), _) => info.name,
            (None, Some((_, name))) => name,
            (None, None) => panic!("{point:?} has no name"),
        }
    }
}

struct Source {
    file: RingFile,
    decoder: Decoder,
    thread: Thread,
}

/// A recorder of one server, whose probes are on.
pub struct Recorder {
    session: SessionDir,
    /// New threads make their rings in it.
    _directory: Option<tempfile::TempDir>,
    control: ControlHandle,
    sources: BTreeMap<u32, Source>,
}

impl Recorder {
    /// Finds the server in its session and switches its probes on.
    pub fn attach(directory: tempfile::TempDir, pid: u32) -> Recorder {
        let mut recorder = Recorder::join(directory.path(), pid);
        recorder._directory = Some(directory);
        recorder
    }

    /// The same for another process of a server, in a session that someone else keeps.
    pub fn join(directory: &Path, pid: u32) -> Recorder {
        let user = std::fs::metadata("/proc/self").unwrap().uid();
        let session = SessionDir::open(directory, user).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let key = loop {
            let keys = session.processes().unwrap();
            if let Some(key) = keys.into_iter().find(|key| key.pid == pid) {
                break key;
            }
            assert!(Instant::now() < deadline, "{pid} made no control file");
            thread::sleep(Duration::from_millis(2));
        };
        let control = session.control(key).unwrap();
        control.switch_on(Mode::Drain);
        Recorder {
            session,
            _directory: None,
            control,
            sources: BTreeMap::new(),
        }
    }

    /// Reads while `work` is done.
    pub fn during<T: Send>(&mut self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let work = scope.spawn(work);
            while !work.is_finished() {
                self.drain();
                thread::sleep(Duration::from_millis(1));
            }
            match work.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Reads what is there.
    fn drain(&mut self) {
        for place in self.control.rings() {
            if self.sources.contains_key(&place.index) {
                continue;
            }
            if let Ok(file) = self.session.ring(&self.control, place) {
                let (decoder, thread) = (Decoder::new(None), Thread::default());
                let source = Source {
                    file,
                    decoder,
                    thread,
                };
                self.sources.insert(place.index, source);
            }
        }
        let mut drained = Drained::with_capacity(1 << 16);
        for source in self.sources.values_mut() {
            while let Ok(taken) = source.file.drain(&mut drained) {
                assert_eq!(taken.skipped, 0, "the ring was full");
                let events = &mut source.thread.events;
                for &slot in drained.slots() {
                    source.decoder.push(slot, &mut |event| events.push(event));
                }
                drained.clear();
                source.thread.totals = source.file.totals();
                source.thread.name.clone_from(&source.file.owner().name);
                source.thread.own = source.file.own_points();
                if !taken.more {
                    break;
                }
            }
        }
    }

    /// Switches the probes off; what each thread told. Nothing may be missing.
    pub fn finish(mut self) -> Vec<Thread> {
        self.control.switch_off();
        self.drain();
        let ended = |mut source: Source| {
            let events = &mut source.thread.events;
            source.decoder.flush(&mut |event| events.push(event));
            assert_eq!(source.decoder.counts().lost_slots, 0);
            assert_eq!(source.thread.totals.dropped_slots, 0);
            source.thread
        };
        self.sources.into_values().map(ended).collect()
    }
}
