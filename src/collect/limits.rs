//! What this process may have open.
//!
//! In: nothing; out: the limit on open files at its most: an event is a file, and there is one for each thread and CPU.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit as far as it goes without asking anyone. Returns what it is.
pub fn raise_open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, most) {
        Ok(()) => limit.maximum,
        // It stays what it was.
        Err(_) => limit.current,
    }
}
