//! Ctrl-C and SIGTERM as a flag that every wait looks at.

use crate::Failure;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io::{self, Read};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often a child is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Whether we were asked to end.
#[derive(Clone, Debug)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// From here on signals set the flag instead of ending the process.
    pub fn on_signals() -> Result<Stop, Failure> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&flag))
                .map_err(|e| Failure::Wrong(format!("cannot catch signals: {e}")))?;
        }
        Ok(Stop(flag))
    }

    /// An error once we were asked to end.
    pub fn check(&self) -> Result<(), Failure> {
        // A flag that carries no data.
        if self.0.load(Ordering::Relaxed) {
            return Err(Failure::Interrupted);
        }
        Ok(())
    }

    /// Waits for a child and takes what it says, or ends it when we are asked to end.
    pub fn output(&self, mut child: Child) -> Result<Vec<u8>, Failure> {
        let wrong =
            |e: io::Error| Failure::Wrong(format!("a program that was started is gone: {e}"));
        while child.try_wait().map_err(wrong)?.is_none() {
            if let Err(interrupted) = self.sleep(LOOK) {
                let _ = child.kill();
                let _ = child.wait();
                return Err(interrupted);
            }
        }
        let mut text = Vec::new();
        if let Some(mut out) = child.stdout.take() {
            // Not more than the pipe holds.
            out.read_to_end(&mut text).map_err(wrong)?;
        }
        Ok(text)
    }

    /// Waits, but not longer than until we are asked to end.
    pub fn sleep(&self, time: Duration) -> Result<(), Failure> {
        let end = Instant::now() + time;
        loop {
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(20)));
        }
    }
}
