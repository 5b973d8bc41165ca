//! What is being done and how long it will take: one line that rewrites itself on a terminal, a line a step elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Before so much is over, its pace says nothing.
const ENOUGH: Duration = Duration::from_secs(10);

/// A number of steps of known length.
pub struct Progress {
    started: Instant,
    total: Duration,
    passed: Duration,
    rewrites: bool,
}

impl Progress {
    /// Something that takes about `total`.
    pub fn new(total: Duration) -> Progress {
        Progress {
            started: Instant::now(),
            total,
            passed: Duration::ZERO,
            rewrites: std::io::stderr().is_terminal(),
        }
    }

    /// Says what is done now.
    pub fn step(&self, what: &str) {
        let left = self.left(self.started.elapsed());
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

    /// A step is over that was thought to take so long: what is left takes as much longer as what is over did.
    pub fn passed(&mut self, thought: Duration) {
        self.passed += thought;
    }

    fn left(&self, elapsed: Duration) -> Duration {
        if self.passed < ENOUGH {
            return self.total.saturating_sub(elapsed);
        }
        let pace = elapsed.as_secs_f64() / self.passed.as_secs_f64();
        self.total.saturating_sub(self.passed).mul_f64(pace)
    }

    /// Leaves a clean line.
    pub fn done(&self) {
        if self.rewrites {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What takes twice as long as thought has twice as much left.
    #[test]
    fn the_pace_counts() {
        let seconds = Duration::from_secs;
        let mut progress = Progress::new(seconds(100));
        assert_eq!(progress.left(seconds(30)), seconds(70));
        progress.passed(seconds(40));
        assert_eq!(progress.left(seconds(80)), seconds(120));
    }
}
