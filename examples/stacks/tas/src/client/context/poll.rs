//! One turn of an application's context: what the slow path and the fast path say, what is to be published, a sleep.
//!
//! In: entries of queues; out: events, bumps. It refuses to trust what a service wrote more than it must.

use super::{CONNECTION, Context, DATA, EVENTS, Gone, Is, Nonsense, Place, SOCKET, open, place};
use crate::client::conn::{Conn, ConnId, Event};
use crate::entry::{Arx, KernelIn, KernelOut, Opaque};
use crate::fast::age;
use crate::shared::{queues, ring_across, silence_doorbell, sleep_across};
use crate::slow::has_ended;
use bypassprof_probe::{self as probe, Flow as Label, Stage, points};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use std::os::fd::AsFd;
use std::time::Duration;

impl Context {
    /// Fills `events` with what is new; how many. Polls for at most `timeout`, and sleeps for the part of it that lies
    /// beyond the time of empty polling.
    #[inline(never)]
    pub fn tas_epoll_wait(
        &mut self,
        events: &mut [Event],
        timeout: Duration,
    ) -> Result<usize, Gone> {
        self.end_round();
        let start = self.clock.now();
        let timeout = timeout.as_nanos() as u64;
        let (mut now, mut last_work) = (start, start);
        loop {
            self.begin_round(now);
            let taken = self.flextcp_context_poll()?;
            if taken > 0 {
                self.rounds.worked(taken as u32);
            }
            self.rounds.stage(Stage::Rings);
            let found = self.take_events(events);
            if found > 0 {
                self.rounds.worked(found as u32);
                return Ok(found);
            }
            self.rounds.end();
            self.in_round = false;
            self.totals.rounds += 1;
            let began = std::mem::replace(&mut now, self.clock.now());
            if taken > 0 {
                // Acknowledgements, calls: work, and nothing for the application to see.
                self.totals.working_ns += now - began;
                last_work = now;
            } else {
                self.totals.empty_rounds += 1;
            }
            if now >= self.next_socket {
                self.next_socket = now + SOCKET;
                if has_ended(&self.socket) {
                    return Err(Gone::Dead);
                }
            }
            let spent = now - start;
            if spent >= timeout {
                return Ok(0);
            }
            if now - last_work >= self.spin {
                self.sleep(timeout - spent)?;
                now = self.clock.now();
            }
        }
    }

    pub(super) fn begin_round(&mut self, now: u64) {
        self.rounds.begin();
        self.in_round = true;
        self.round_began = now;
    }

    /// The application has handled what the last poll found.
    pub(super) fn end_round(&mut self) {
        if std::mem::take(&mut self.in_round) {
            self.rounds.stage(Stage::App);
            self.rounds.end();
            self.totals.rounds += 1;
            self.totals.working_ns += self.clock.now().saturating_sub(self.round_began);
        }
    }

    /// How many entries were taken and published.
    #[inline(never)]
    pub(super) fn flextcp_context_poll(&mut self) -> Result<usize, Gone> {
        let mut taken = self.conns_bump()?;
        taken += self.kernel_poll()?;
        taken += self.fastpath_poll_vec()?;
        self.txq_probe()?;
        self.kernel_flush()?;
        for (at, core) in self.cores.iter_mut().enumerate() {
            if std::mem::take(&mut core.told) {
                ring_across(&self.region, self.layout.fast_sleeps(at), &core.bell);
            }
        }
        Ok(taken)
    }

    /// Publishes what was read and written since the last poll, and says farewell to what was closed.
    #[inline(never)]
    pub(super) fn conns_bump(&mut self) -> Result<usize, Gone> {
        let mut published = 0;
        for _ in 0..self.dirty.len() {
            let Some(opaque) = self.dirty.pop_front() else {
                break;
            };
            let Some(conn) = open(&mut self.places, opaque) else {
                continue;
            };
            if let Some((atx, written)) = conn.unpublished() {
                let core = &mut self.cores[conn.core];
                let now = if probe::enabled() {
                    probe::now().raw()
                } else {
                    0
                };
                if !core.atx.push(atx.to_words(), now)? {
                    let capacity = core.atx.capacity() as u32;
                    probe::emit_with(points::FULL, conn.label, capacity, [2, 0, 0]);
                    self.dirty.push_back(opaque);
                    continue;
                }
                core.told = true;
                let more = [atx.rx_bump, atx.tx_bump, 0];
                probe::emit_with(self.bump, conn.label, age(now, written), more);
                conn.published();
                published += 1;
            }
            conn.dirty = false;
            if conn.closed {
                self.calls.push_back(KernelIn::Close { flow: conn.flow });
                self.release(opaque);
            }
        }
        Ok(published)
    }

    pub(super) fn release(&mut self, opaque: Opaque) {
        let place = &mut self.places[opaque.index as usize];
        place.is = Is::Free;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(opaque.index);
    }

    /// Calls that wait go to the slow path, as far as there is room.
    pub(super) fn kernel_flush(&mut self) -> Result<(), Gone> {
        let mut told = false;
        while let Some(call) = self.calls.front() {
            if !self.kin.push(call.to_words(), 0)? {
                break;
            }
            self.calls.pop_front();
            told = true;
        }
        if told {
            ring_across(&self.region, self.layout.slow_sleeps(), &self.slow_bell);
        }
        Ok(())
    }

    #[inline(never)]
    pub(super) fn kernel_poll(&mut self) -> Result<usize, Gone> {
        for taken in 0..EVENTS {
            let Some((words, _)) = self.kout.pop()? else {
                return Ok(taken);
            };
            match KernelOut::from_words(words).ok_or(Nonsense)? {
                KernelOut::Listening { port, status: 1 } => return Err(Gone::PortInUse(port)),
                KernelOut::Listening { port, .. } => self.listening.push(port),
                KernelOut::NewConn { port } => self.name_one(port),
                KernelOut::Accepted {
                    opaque,
                    flow,
                    slot,
                    core,
                    peer,
                    peer_port,
                } => {
                    let core = usize::from(core);
                    let rings = self.layout.rings(slot).ok_or(Nonsense)?;
                    let place = place(&mut self.places, opaque).ok_or(Nonsense)?;
                    let Is::Accepting(port, early) = place.is else {
                        return Err(Gone::Nonsense);
                    };
                    if core >= self.cores.len() {
                        return Err(Gone::Nonsense);
                    }
                    let label = Label::ipv4(self.ip.to_bits(), port, peer, peer_port);
                    let mut conn = Box::new(Conn::new(flow, core, label, rings));
                    let accepted = Event {
                        accepted: true,
                        ..conn.update(&early)?
                    };
                    probe::emit_with(points::DELIVER, label, 0, [0, 0, CONNECTION]);
                    if early.rx_bump > 0 && probe::enabled() {
                        let more = [0, age(probe::now().raw(), early.received), DATA];
                        probe::emit_with(points::DELIVER, label, early.rx_bump, more);
                    }
                    place.is = Is::Open(conn);
                    self.tell(opaque, accepted);
                }
                KernelOut::Reset { opaque, .. } => self.reset(opaque),
            }
        }
        Ok(EVENTS)
    }

    /// A connection waits: it gets a name.
    pub(super) fn name_one(&mut self, port: u16) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            self.places.len() as u32 - 1
        });
        let place = &mut self.places[index as usize];
        place.is = Is::Accepting(port, Arx::default());
        let opaque = Opaque {
            index,
            generation: place.generation,
        };
        self.calls.push_back(KernelIn::Accept { port, opaque });
    }

    pub(super) fn reset(&mut self, opaque: Opaque) {
        match place(&mut self.places, opaque).map(|p| &mut p.is) {
            Some(Is::Accepting(..)) => self.release(opaque),
            Some(Is::Open(conn)) => {
                conn.failed = true;
                let failed = Event {
                    failed: true,
                    ended: true,
                    ..Event::default()
                };
                self.tell(opaque, failed);
            }
            _ => {}
        }
    }

    /// Adds news to a connection's others.
    pub(super) fn tell(&mut self, opaque: Opaque, news: Event) {
        let Some(conn) = open(&mut self.places, opaque) else {
            return;
        };
        if conn.closed {
            return;
        }
        if conn.news.is_none() {
            self.ready.push_back(opaque);
        }
        let sum = conn.news.get_or_insert_default();
        *sum = Event {
            conn: ConnId(opaque),
            accepted: sum.accepted | news.accepted,
            readable: sum.readable | news.readable,
            writable: sum.writable | news.writable,
            ended: sum.ended | news.ended,
            failed: sum.failed | news.failed,
        };
    }

    #[inline(never)]
    pub(super) fn fastpath_poll_vec(&mut self) -> Result<usize, Gone> {
        let mut taken = 0;
        for core in 0..self.cores.len() {
            for _ in 0..EVENTS {
                let Some((words, _)) = self.cores[core].arx.pop()? else {
                    break;
                };
                let arx = Arx::from_words(words).ok_or(Nonsense)?;
                self.event_arx_connupdate(core, &arx)?;
                taken += 1;
            }
        }
        Ok(taken)
    }

    #[inline(never)]
    pub(super) fn event_arx_connupdate(&mut self, core: usize, arx: &Arx) -> Result<(), Gone> {
        let depth = self.cores[core].arx.depth() as u32;
        let conn = match place(&mut self.places, arx.opaque).map(|p| &mut p.is) {
            Some(Is::Open(conn)) => conn,
            Some(Is::Accepting(_, early)) => {
                early.rx_bump = early.rx_bump.saturating_add(arx.rx_bump);
                early.tx_bump = early.tx_bump.saturating_add(arx.tx_bump);
                early.fin |= arx.fin;
                early.received = arx.received;
                return Ok(());
            }
            // News of a connection that was closed meanwhile are nobody's.
            _ => return Ok(()),
        };
        let news = conn.update(arx)?;
        if probe::enabled() {
            let now = probe::now().raw();
            let waited = [depth, age(now, arx.written), 0];
            let queue = queues::ARX | core as u32;
            probe::emit_with(points::HANDOFF, conn.label, queue, waited);
            if news.readable || news.ended {
                let what = if news.readable { DATA } else { CONNECTION };
                let more = [depth, age(now, arx.received), what];
                probe::emit_with(points::DELIVER, conn.label, arx.rx_bump, more);
            }
        }
        if news != Event::default() {
            self.tell(arx.opaque, news);
        }
        Ok(())
    }

    /// Looks how far each core has read.
    #[inline(never)]
    pub(super) fn txq_probe(&mut self) -> Result<(), Gone> {
        for core in &mut self.cores {
            core.atx.probe()?;
        }
        Ok(())
    }

    #[inline(never)]
    pub(super) fn take_events(&mut self, events: &mut [Event]) -> usize {
        let mut found = 0;
        while found < events.len()
            && let Some(opaque) = self.ready.pop_front()
        {
            let news = open(&mut self.places, opaque).and_then(|c| c.news.take());
            if let Some(news) = news {
                events[found] = news;
                found += 1;
            }
        }
        found
    }

    pub(super) fn sleep(&mut self, most: u64) -> Result<(), Gone> {
        let flag = self.layout.app_sleeps();
        sleep_across(&self.region, flag, true);
        // Whoever did not see the flag has filled a queue before; a call that waits for room is asked for again soon.
        let taken = self.flextcp_context_poll()?;
        let waiting = !self.calls.is_empty() || !self.dirty.is_empty();
        let most = if waiting { most.min(SOCKET) } else { most };
        // A poll that took something may have left the rest.
        if taken == 0 && self.ready.is_empty() {
            self.wait(most);
        }
        sleep_across(&self.region, flag, false);
        silence_doorbell(&self.bell);
        self.next_socket = 0;
        Ok(())
    }

    pub(super) fn wait(&self, most: u64) {
        probe::emit(points::SLEEP, Label::NONE, (most / 1000).max(1) as u32);
        let mut fds = [
            PollFd::from_borrowed_fd(self.bell.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN),
        ];
        let limit = Timespec {
            tv_sec: (most / 1_000_000_000).cast_signed(),
            tv_nsec: (most % 1_000_000_000).cast_signed(),
        };
        // A signal ends the sleep, and the loop goes on.
        let woken = poll(&mut fds, Some(&limit)).unwrap_or(0);
        probe::emit(points::WAKE, Label::NONE, if woken > 0 { 3 } else { 2 });
    }
}
