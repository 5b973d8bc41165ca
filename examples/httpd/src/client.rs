//! The HTTP job on a stack that nobody here wrote: a turn for each connection with news.
//!
//! In: turns on connections; out: the job's calls on them. It refuses to know which stack it is.

use bypassprof_probe::Flow;
use httpjob::{Next, Stream};
use stack_border::{App, Connection};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// The HTTP job of one stack.
pub struct Job(httpjob::Job<()>);

impl Job {
    /// A job whose replies have `body` letters.
    pub fn new(body: usize) -> Job {
        Job(httpjob::Job::new(body))
    }

    /// The number of requests answered, to look at from another thread.
    pub fn requests(&self) -> Arc<AtomicU64> {
        self.0.requests()
    }
}

impl App for Job {
    fn turn(&mut self, conn: &mut impl Connection) {
        let index = conn.index();
        if conn.is_new() {
            self.0.accept((), index);
        }
        // These stacks tell that there are news, not which: there may always be room again.
        if self.0.turn((), index, true, &mut Turn(conn)) == Next::Close {
            conn.finish();
        }
    }
}

struct Turn<'a, C>(&'a mut C);

impl<C: Connection> Stream for Turn<'_, C> {
    fn flow(&self) -> Flow {
        self.0.flow()
    }

    fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        Some(self.0.receive(buffer))
    }

    fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        self.0.send(bytes)
    }

    fn shutdown(&mut self) {
        self.0.end();
    }

    fn has_ended(&self) -> bool {
        self.0.has_ended()
    }
}
