//! One thread of the application: events of its context, each connection read and answered in turn.
//!
//! In: events; out: the job's calls on TAS's connections. An event tells of data once: it is read until there is none.

use super::Counts;
use bypassprof_probe::Flow;
use httpjob::{Job, Next, Stream};
use stack_tas::{ConnId, Context, Event, Gone};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Most events of one turn.
const EVENTS: usize = 2048;
/// How often the end is looked for.
const TURN: Duration = Duration::from_millis(50);

/// One thread.
pub struct Worker {
    context: Option<Context>,
    job: Job<ConnId>,
}

impl Worker {
    /// A thread whose replies have `body` letters.
    pub fn new(body: usize) -> Worker {
        Worker {
            context: None,
            job: Job::new(body),
        }
    }

    /// Bytes of the longest reply.
    pub fn longest_reply(&self) -> usize {
        self.job.longest_reply()
    }

    /// The number of requests answered, to look at from another thread.
    pub fn requests(&self) -> Arc<AtomicU64> {
        self.job.requests()
    }

    /// Serves on this context, which listens.
    pub fn use_context(&mut self, context: Context) {
        self.context = Some(context);
    }

    /// Serves until `stop` is set or the service is gone.
    pub fn serve(&mut self, counts: &Counts, stop: &AtomicBool) -> Result<(), Gone> {
        let Some(context) = &mut self.context else {
            return Ok(());
        };
        let mut events = vec![Event::default(); EVENTS];
        // A flag that carries no data; it is seen a turn later at worst.
        while !stop.load(Ordering::Relaxed) {
            let found = match context.tas_epoll_wait(&mut events, TURN) {
                Ok(found) => found,
                Err(gone) => {
                    let open = self.job.open();
                    eprintln!("httpd: {open} connections of this thread have ended");
                    return Err(gone);
                }
            };
            for &event in &events[..found] {
                tas_handle_event(&mut self.job, event, context);
            }
            tell(counts, context);
        }
        Ok(())
    }
}

/// Counts for a person to look at: no other data hangs on them.
fn tell(counts: &Counts, context: &Context) {
    let (own, fast) = (context.totals(), context.fast_path_totals());
    counts.rounds.store(own.rounds, Ordering::Relaxed);
    counts
        .empty_rounds
        .store(own.empty_rounds, Ordering::Relaxed);
    counts.working_ns.store(own.working_ns, Ordering::Relaxed);
    let fast = [fast.rounds, fast.empty_rounds, fast.working_ns];
    for (to, count) in counts.fast_path.iter().zip(fast) {
        to.store(count, Ordering::Relaxed);
    }
}

#[inline(never)]
fn tas_handle_event(job: &mut Job<ConnId>, event: Event, context: &mut Context) {
    let (conn, index) = (event.conn, event.conn.index());
    if event.accepted {
        job.accept(conn, index);
    }
    if !job.serves(conn, index) {
        return;
    }
    let mut stream = Turn { event, context };
    if event.failed {
        job.forget(index);
        context.tas_close(conn);
    } else if job.turn(conn, index, event.writable, &mut stream) == Next::Close {
        context.tas_close(conn);
    }
}

struct Turn<'a> {
    event: Event,
    context: &'a mut Context,
}

impl Stream for Turn<'_> {
    fn flow(&self) -> Flow {
        self.context.flow(self.event.conn)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        Some(self.context.tas_read(self.event.conn, buffer))
    }

    fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        self.context.tas_write(self.event.conn, bytes).ok()
    }

    fn shutdown(&mut self) {
        self.context.tas_shutdown(self.event.conn);
    }

    fn has_ended(&self) -> bool {
        self.event.ended
    }
}
