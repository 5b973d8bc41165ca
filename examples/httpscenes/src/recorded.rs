//! A server's events: its points switched on for a while, its rings read afterwards.
//!
//! In: a session directory that the server was started with; out: the events of its threads.

use bypassprof_ring::reader::{Drained, SessionDir};
use bypassprof_wire::layout::Mode;
use bypassprof_wire::{Decoder, Event, Point, Tsc};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The variable that names the session's directory.
pub const SESSION: &str = bypassprof_wire::names::SESSION_VARIABLE;

/// A session directory of the test's own.
pub struct Session {
    dir: TempDir,
}

impl Session {
    /// An empty one, in memory and with the rights that a recorder asks for.
    pub fn in_memory() -> Session {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        Session { dir }
    }

    /// What the server's environment names.
    pub fn path(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    /// The events that the session's one process makes while `scene` runs.
    pub fn record(&self, scene: impl FnOnce()) -> Events {
        let owner = fs::metadata(self.dir.path()).unwrap().uid();
        let session = SessionDir::open(self.dir.path(), owner).unwrap();
        let begun = Instant::now();
        let key = loop {
            if let Some(&key) = session.processes().unwrap().first() {
                break key;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "no control file");
            std::thread::sleep(Duration::from_millis(1));
        };
        let control = session.control(key).unwrap();
        control.switch_on(Mode::Flight);
        scene();
        control.switch_off();
        // A point that saw the switch before may still be writing.
        std::thread::sleep(Duration::from_millis(50));
        let mut all = Vec::new();
        let mut own = Vec::new();
        for place in control.rings() {
            let mut ring = session.ring(&control, place).unwrap();
            own.extend(ring.own_points());
            let mut decoder = Decoder::new(Some(Tsc::from_raw(ring.base_tsc())));
            let mut drained = Drained::with_capacity(1 << 16);
            while ring.drain(&mut drained).unwrap().slots > 0 {
                for &slot in drained.slots() {
                    decoder.push(slot, &mut |event| all.push(event));
                }
                drained.clear();
            }
            decoder.flush(&mut |event| all.push(event));
        }
        Events { all, own }
    }
}

/// What was recorded.
pub struct Events {
    all: Vec<Event>,
    own: Vec<(u16, String)>,
}

impl Events {
    /// All events at a point; there must be one at least.
    pub fn at(&self, point: Point) -> Vec<&Event> {
        let found: Vec<_> = self
            .all
            .iter()
            .filter(|event| event.point == point)
            .collect();
        let name = point.info().map_or("its own", |info| info.name);
        assert!(
            !found.is_empty(),
            "{name} did not fire in {} events",
            self.all.len()
        );
        found
    }

    /// A point of the program's own, by name.
    pub fn own(&self, name: &str) -> Point {
        let named = self.own.iter().find(|(_, own)| own == name);
        Point::from_id(
            named
                .unwrap_or_else(|| panic!("no point is called {name}"))
                .0,
        )
    }
}
