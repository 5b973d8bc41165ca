//! Threads followed one by one, where the kernel hands no group on to those that are made later.
//!
//! In: what is told of threads; out: events open for each from then on. What a thread ran before is counted, not known. It refuses
//! to know where such a kernel begins.

use super::{Events, Leader, Refused, is_gone};
use crate::collect::clock;
use crate::trace::record::{Meta, Pid, Tid};
use crate::units::Nanos;
use std::io;

impl Events {
    /// Whether threads that are made later have to be followed.
    pub fn is_per_thread(&self) -> bool {
        self.plan.per_thread
    }

    /// Opens what is sampled for threads that were made, and closes it for those that ended, if it is not inherited.
    pub fn follow(&mut self, told: &[Meta]) {
        if !self.plan.per_thread {
            return;
        }
        let time = |meta: &&Meta| match meta {
            Meta::Thread(thread) => thread.time,
            Meta::Exit(exit) => exit.time,
            _ => Nanos::default(),
        };
        let mut told: Vec<&Meta> = told.iter().collect();
        told.sort_by_key(time);
        for meta in told {
            match meta {
                Meta::Thread(made)
                    if made.parent_tid != 0 && !self.threads.has(made.tid, made.time) =>
                {
                    let opened = self.open_thread(made.tid, false);
                    match self.add(made.pid, made.tid, made.time, opened) {
                        Ok(()) => self.unsampled.began_sooner += u64::from(self.running),
                        Err(e) if is_gone(&e) => self.unsampled.ended_sooner += 1,
                        Err(e) => {
                            self.unsampled.refused.0 += 1;
                            self.unsampled
                                .refused
                                .1
                                .get_or_insert_with(|| e.to_string());
                        }
                    }
                }
                Meta::Thread(thread) if thread.exec => self.threads.exec(thread.pid),
                Meta::Exit(exit) => {
                    let ended = self.threads.remove(exit.tid, exit.time);
                    self.close(ended.unwrap_or_default());
                }
                _ => {}
            }
        }
    }

    /// Opens what is sampled for a thread that was there already and may have been missed: made by one that was not opened yet.
    pub fn find(&mut self, pid: Pid, tid: Tid) {
        let now = clock::now();
        if !self.plan.per_thread || self.threads.is_there(tid) {
            return;
        }
        let opened = self.open_thread(tid, false);
        // What has ended meanwhile was to be recorded from here on.
        let _ = self.add(pid, tid, now, opened);
    }

    fn add(
        &mut self,
        pid: Pid,
        tid: Tid,
        since: Nanos,
        opened: Result<Vec<Leader>, Refused>,
    ) -> io::Result<()> {
        let leaders = opened.map_err(|(_, e)| e)?;
        if self.running {
            leaders.iter().try_for_each(|l| l.1.leader().enable())?;
        }
        let earlier = self.threads.add(pid, tid, since, leaders);
        self.close(earlier.unwrap_or_default());
        Ok(())
    }

    /// Keeps what was counted.
    fn close(&mut self, leaders: Vec<Leader>) {
        let mut before = std::mem::take(&mut self.before);
        self.sum(&leaders, &mut before);
        self.before = before;
    }
}
