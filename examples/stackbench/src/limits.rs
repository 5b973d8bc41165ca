//! What this user may have at most, for what is started from here too.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// As many descriptors as this user may have: ten thousand connections are ten thousand.
pub fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // Where it is refused, what needs them says so.
    let _ = setrlimit(Resource::Nofile, most);
}
