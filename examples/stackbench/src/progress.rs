//! What is being done and how long it will take: one line that rewrites itself on a terminal, a line a step elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// A number of steps of known length.
pub struct Progress {
    started: Instant,
    total: Duration,
    rewrites: bool,
}

impl Progress {
    /// Something that takes about `total`.
    pub fn new(total: Duration) -> Progress {
        Progress {
            started: Instant::now(),
            total,
            rewrites: std::io::stderr().is_terminal(),
        }
    }

    /// Says what is done now.
    pub fn step(&self, what: &str) {
        let left = self.total.saturating_sub(self.started.elapsed());
        let line = format!("{what} (about {} s left)", left.as_secs());
        let mut err = std::io::stderr().lock();
        // Talk that cannot be written is talk nobody hears.
        let _ = if self.rewrites {
            write!(err, "\r\x1b[K{line}")
        } else {
            writeln!(err, "{line}")
        };
        let _ = err.flush();
    }

    /// Leaves a clean line.
    pub fn done(&self) {
        if self.rewrites {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}
