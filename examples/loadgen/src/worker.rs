//! One thread of the client: its share of connections and of the schedule, its epoll, its histogram.

use crate::connection::{Connection, Doing, Step};
use crate::{Error, Load};
use hdrhistogram::Histogram;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often timeouts, lost connections and the stop flag are looked at.
const LOOK_AROUND: Duration = Duration::from_millis(50);
/// Longest latency told apart, in ns: ten minutes.
const LONGEST_NS: u64 = 600_000_000_000;
const READ: usize = 256 * 1024;
const EVENTS: usize = 1024;
const TIMER: u64 = u64::MAX;

/// What one thread measured.
pub struct Measured {
    pub latency: Histogram<u64>,
    pub errors: u64,
    /// Of the errors, replies that were wrong.
    pub wrong: u64,
    pub timeouts: u64,
    pub unsent: u64,
    pub bytes: u64,
    pub seconds: f64,
}

/// Intended send times of one thread, evenly spaced.
struct Schedule {
    begin: Instant,
    /// Between this thread's requests.
    interval: Duration,
    /// Intended send times that have been taken.
    taken: u32,
    nanos: f64,
}

impl Schedule {
    fn new(load: &Load, index: usize, begin: Instant) -> Option<Schedule> {
        let nanos = 1e9 * load.threads as f64 / load.rate?;
        let offset = nanos * index as f64 / load.threads as f64;
        Some(Schedule {
            begin: begin + Duration::from_nanos(offset as u64),
            interval: Duration::from_nanos(nanos as u64),
            taken: 0,
            nanos,
        })
    }

    /// The next intended send time.
    fn next(&self) -> Instant {
        self.begin + Duration::from_nanos((self.nanos * f64::from(self.taken)) as u64)
    }

    /// Intended send times up to `end` that were not taken.
    fn left(&self, end: Instant) -> u64 {
        let late = end.saturating_duration_since(self.next());
        if end < self.next() {
            return 0;
        }
        1 + (late.as_nanos() / self.interval.as_nanos().max(1)) as u64
    }
}

struct Worker<'a> {
    load: &'a Load,
    request: Vec<u8>,
    epoll: OwnedFd,
    timer: OwnedFd,
    connections: Vec<Connection>,
    /// Open loop: connections that could ask.
    idle: Vec<usize>,
    schedule: Option<Schedule>,
    measure_from: Instant,
    measured: Measured,
}

/// Connects, waits for the other threads at the barrier, makes load, and says what came of it.
pub fn run(
    load: &Load,
    index: usize,
    barrier: &Barrier,
    stop: &AtomicBool,
) -> Result<Measured, Error> {
    let share =
        load.connections / load.threads + usize::from(index < load.connections % load.threads);
    let connections: Result<Vec<_>, _> = (0..share).map(|_| Connection::first(load)).collect();
    // Whoever fails has to come to the barrier as well, or the others wait for ever.
    barrier.wait();
    let connections = connections.map_err(|error| Error::Connect(load.address, error))?;
    let mut worker = Worker::new(load, index, connections)?;
    worker.work(stop)?;
    Ok(worker.measured)
}

impl<'a> Worker<'a> {
    fn new(load: &'a Load, index: usize, connections: Vec<Connection>) -> Result<Self, Error> {
        let system = |errno: Errno| Error::System(errno.into());
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(system)?;
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )
        .map_err(system)?;
        let data = epoll::EventData::new_u64(TIMER);
        epoll::add(&epoll, &timer, data, epoll::EventFlags::IN).map_err(system)?;
        for (number, connection) in connections.iter().enumerate() {
            if let Some(socket) = &connection.socket {
                watch(&epoll, socket, number).map_err(system)?;
            }
        }
        let begin = Instant::now();
        let latency = Histogram::new_with_bounds(1, LONGEST_NS, 3)
            .map_err(|error| Error::System(io::Error::other(error.to_string())))?;
        Ok(Worker {
            load,
            request: load.request(),
            epoll,
            timer,
            connections,
            idle: Vec::new(),
            schedule: Schedule::new(load, index, begin),
            measure_from: begin + load.warmup,
            measured: Measured {
                latency,
                errors: 0,
                wrong: 0,
                timeouts: 0,
                unsent: 0,
                bytes: 0,
                seconds: 0.0,
            },
        })
    }

    fn work(&mut self, stop: &AtomicBool) -> Result<(), Error> {
        let end = self.measure_from + self.load.duration;
        let mut events = Vec::with_capacity(EVENTS);
        let mut buffer = vec![0; READ];
        let mut look_around = Instant::now() + LOOK_AROUND;
        for number in 0..self.connections.len() {
            self.may_ask(number);
        }
        loop {
            let now = Instant::now();
            if now >= end || stop.load(Ordering::Relaxed) {
                self.finish(now.min(end));
                return Ok(());
            }
            if now >= look_around {
                look_around = now + LOOK_AROUND;
                self.look_around(now);
            }
            self.ask_what_is_due(now);
            self.wait(&mut events, look_around.min(end))?;
            for event in &events {
                let number = event.data.u64();
                if number != TIMER {
                    self.serve(number as usize, event.flags, &mut buffer);
                }
            }
        }
    }

    /// Sleeps until something happens, an intended send time comes or `until`.
    fn wait(&self, events: &mut Vec<epoll::Event>, until: Instant) -> Result<(), Error> {
        let due = match &self.schedule {
            Some(schedule) if !self.idle.is_empty() => schedule.next().min(until),
            _ => until,
        };
        let system = |errno: Errno| Error::System(errno.into());
        let left = due.saturating_duration_since(Instant::now());
        events.clear();
        // A timer of the kernel wakes within microseconds, a wait's own limit within a millisecond.
        let limit = if left.is_zero() {
            Some(Timespec::default())
        } else {
            let value = Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let once = Itimerspec {
                it_interval: Timespec::default(),
                it_value: value,
            };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once).map_err(system)?;
            None
        };
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(events),
            limit.as_ref(),
        ) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(system(errno)),
        }
    }

    fn serve(&mut self, number: usize, flags: epoll::EventFlags, buffer: &mut [u8]) {
        use epoll::EventFlags;
        if flags.intersects(EventFlags::OUT | EventFlags::ERR | EventFlags::HUP) {
            let step = self.connections[number].writable(&self.request);
            self.take(number, step);
        }
        // Edge-triggered: what is there has to be read until there is nothing.
        while flags.intersects(EventFlags::IN | EventFlags::ERR | EventFlags::HUP) {
            let (n, step) = self.connections[number].readable(buffer);
            if n > 0 && Instant::now() >= self.measure_from {
                self.measured.bytes += n as u64;
            }
            let more = n == buffer.len();
            let go_on = matches!(step, Step::Wait | Step::Replied) && n > 0;
            self.take(number, step);
            // A server that ends the connection may have done so already.
            if !go_on || (step == Step::Replied && !more && !self.load.close) {
                break;
            }
        }
    }

    fn take(&mut self, number: usize, step: Step) {
        match step {
            Step::Wait => {}
            Step::Connected if self.load.close => self.ask(number, self.connections[number].begun),
            Step::Connected => self.may_ask(number),
            Step::Replied => {
                let now = Instant::now();
                if let Doing::Asking { due, .. } = self.connections[number].doing
                    && now >= self.measure_from
                {
                    let nanos = now.saturating_duration_since(due).as_nanos() as u64;
                    self.measured.latency.saturating_record(nanos.max(1));
                }
                if self.load.close {
                    self.connections[number].doing = Doing::Ending { since: now };
                } else {
                    self.connections[number].doing = Doing::Idle;
                    self.may_ask(number);
                }
            }
            Step::Ended => self.connect_again(number),
            Step::Failed | Step::Wrong => {
                self.count(|m| {
                    m.errors += 1;
                    m.wrong += u64::from(step == Step::Wrong);
                });
                self.give_up(number);
            }
        }
    }

    /// A connection has nothing to do: in the closed loop it asks at once.
    fn may_ask(&mut self, number: usize) {
        if self.schedule.is_some() {
            self.idle.push(number);
        } else {
            self.ask(number, Instant::now());
        }
    }

    fn ask(&mut self, number: usize, due: Instant) {
        let step = self.connections[number].ask(due, &self.request);
        if step == Step::Failed {
            self.count(|m| m.errors += 1);
            self.give_up(number);
        }
    }

    /// Open loop: asks for all whose time has come, while connections are free.
    fn ask_what_is_due(&mut self, now: Instant) {
        while let Some(schedule) = &mut self.schedule {
            let due = schedule.next();
            if due > now {
                return;
            }
            let Some(number) = self.idle.pop() else {
                return;
            };
            // A connection may have ended while it was in the list.
            if matches!(self.connections[number].doing, Doing::Idle) {
                schedule.taken = schedule.taken.saturating_add(1);
                self.ask(number, due);
            }
        }
    }

    /// Counts what happened after the warm-up.
    fn count(&mut self, what: impl FnOnce(&mut Measured)) {
        if Instant::now() >= self.measure_from {
            what(&mut self.measured);
        }
    }

    /// Leaves a broken connection to the next look-around, so that a server that is gone is not run down.
    fn give_up(&mut self, number: usize) {
        self.connections[number].close();
        self.idle.retain(|&n| n != number);
    }

    fn connect_again(&mut self, number: usize) {
        self.give_up(number);
        let watched = match self.connections[number].reconnect(self.load.address) {
            Ok(socket) => watch(&self.epoll, socket, number),
            Err(errno) => Err(errno),
        };
        if watched.is_err() {
            self.count(|m| m.errors += 1);
            self.give_up(number);
        }
    }

    fn look_around(&mut self, now: Instant) {
        for number in 0..self.connections.len() {
            let connection = &self.connections[number];
            let waited = connection.waiting_since();
            if waited.is_some_and(|since| now.saturating_duration_since(since) > self.load.timeout)
            {
                self.count(|m| m.timeouts += 1);
                self.connect_again(number);
            } else if matches!(connection.doing, Doing::Nothing) {
                self.connect_again(number);
            }
        }
    }

    fn finish(&mut self, end: Instant) {
        let measured = end.saturating_duration_since(self.measure_from);
        self.measured.seconds = measured.as_secs_f64();
        if let Some(schedule) = &self.schedule {
            self.measured.unsent = schedule.left(end);
        }
    }
}

/// Asks for edges of everything: what a connection waits for is in its state.
fn watch(epoll: &OwnedFd, socket: &OwnedFd, number: usize) -> rustix::io::Result<()> {
    use epoll::EventFlags;
    let data = epoll::EventData::new_u64(number as u64);
    let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
    epoll::add(epoll, socket, data, flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The threads' schedules interleave to the total rate, and what was not taken is counted.
    #[test]
    fn schedules_interleave() {
        let mut load = Load::new("127.0.0.1:1".parse().unwrap());
        (load.threads, load.rate) = (2, Some(1000.0));
        let begin = Instant::now();
        let ms = Duration::from_millis;
        let mut second = Schedule::new(&load, 1, begin).unwrap();
        assert_eq!(second.next(), begin + ms(1));
        second.taken = 3;
        assert_eq!(second.next(), begin + ms(7));
        assert_eq!(second.left(begin + ms(6)), 0);
        assert_eq!(second.left(begin + ms(12)), 3);
    }
}
