//! How a core that has nothing to do sleeps, and what wakes it.
//!
//! In: the next moment something is due; out: a sleep that no doorbell is missed in.

use super::{Context, FastPath};
use crate::shared::sleep_across;
use bypassprof_probe::{self as probe, Flow as Label, points};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use stack_netio::Device;
use std::os::fd::AsFd;

impl<D: Device> FastPath<D> {
    /// Sleeps until something happens; whether it did sleep.
    pub(super) fn sleep(&mut self, now: u64) -> bool {
        let timeout = match self.qman.next_due() {
            Some(due) if due <= now => return false,
            Some(due) => Some(due - now),
            None if self.has_to_look() => Some(1_000_000),
            None => None,
        };
        self.show_counts();
        let shared = self.shared.clone();
        let bell = &shared.fast_bells[usize::from(self.index)];
        bell.going_to_sleep();
        self.set_sleeping(true);
        // Whoever did not see the flags has filled a queue before.
        let worked = self.round(self.clock.now());
        if !worked && !shared.stopping() {
            self.wait(timeout);
        }
        self.set_sleeping(false);
        bell.awake();
        !worked
    }

    /// Something may come without a bell: room in the device or in an application's queue, or frames of a device that
    /// cannot be waited for.
    pub(super) fn has_to_look(&self) -> bool {
        self.port.queue.device.tx_queued() > 0
            || self.port.queue.device.poll_fd().is_none()
            || self.contexts.iter().flatten().any(Context::is_behind)
    }

    pub(super) fn set_sleeping(&self, asleep: bool) {
        let core = usize::from(self.index);
        for context in self.contexts.iter().flatten() {
            let part = &context.part;
            sleep_across(&part.region, part.layout.fast_sleeps(core), asleep);
        }
    }

    pub(super) fn wait(&mut self, timeout: Option<u64>) {
        let micros = timeout.map_or(0, |ns| (ns / 1000).clamp(1, u64::from(u32::MAX)) as u32);
        probe::emit(points::SLEEP, Label::NONE, micros);
        let core = usize::from(self.index);
        let readable = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let bells = self.contexts.iter().flatten();
        let bells = bells.filter_map(|c| c.part.fast_bells.get(core));
        let mut fds = vec![readable(self.shared.fast_bells[core].fd.as_fd())];
        fds.extend(bells.map(|bell| readable(bell.as_fd())));
        fds.extend(self.port.queue.device.poll_fd().map(readable));
        let device = self.port.queue.device.poll_fd().map(|_| fds.len() - 1);
        let limit = timeout.map(|ns| Timespec {
            tv_sec: (ns / 1_000_000_000).cast_signed(),
            tv_nsec: (ns % 1_000_000_000).cast_signed(),
        });
        // A signal ends the sleep, and the loop goes on.
        let _ = poll(&mut fds, limit.as_ref());
        let rung = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let cause = match fds.iter().rposition(rung) {
            None => 2,
            at if at == device => 1,
            _ => 3,
        };
        probe::emit(points::WAKE, Label::NONE, cause);
        for context in self.contexts.iter().flatten() {
            if let Some(bell) = context.part.fast_bells.get(core) {
                crate::shared::silence_doorbell(bell);
            }
        }
    }
}
