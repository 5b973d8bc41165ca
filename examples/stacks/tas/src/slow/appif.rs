//! Applications: how they come, call, are told, and go.
//!
//! In: connections to the Unix socket, entries of the kernel queues; out: contexts, entries. Whatever an application
//! writes or does ends at most its own contexts: all others go on. An application of another user is refused.

use super::SlowPath;
use crate::attach::{self, Refusal};
use crate::config::CONTEXTS;
use crate::entry::{KernelIn, KernelOut};
use crate::shared::{ContextPart, ToFast, new_doorbell};
use crate::shm::{ByteRing, Consumer, Corrupt, Layout, Producer, Region, Sizes};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketFlags, accept_with, recv, sockopt};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Sockets that have not said what they want.
const MOST_GREETINGS: usize = 64;
/// Entries taken of one context in a round.
const CALLS: usize = 64;

/// A socket that has not said what it wants.
#[derive(Debug)]
pub struct Greeting {
    socket: OwnedFd,
    pid: i32,
}

impl Greeting {
    /// Its socket.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// One context of an application.
pub struct Application {
    part: Arc<ContextPart>,
    /// Gone with the application; the context stays until no core looks at it.
    socket: Option<OwnedFd>,
    pid: i32,
    kin: Consumer<8>,
    kout: Producer<8>,
    /// What the queue had no room for.
    owed: VecDeque<KernelOut>,
    told: bool,
    free_slots: Vec<u32>,
    next_slot: u32,
    /// Cores that still look at it.
    cores: usize,
}

impl Application {
    /// What all threads know of it.
    pub fn part(&self) -> &ContextPart {
        &self.part
    }

    /// What becomes readable when it wants something.
    pub fn wakers(&self) -> Option<(BorrowedFd<'_>, BorrowedFd<'_>)> {
        let socket = self.socket.as_ref()?;
        Some((self.part.slow_bell.as_fd(), socket.as_fd()))
    }

    fn flush(&mut self) -> Result<(), Corrupt> {
        while let Some(entry) = self.owed.front() {
            if !self.kout.push(entry.to_words(), 0)? {
                break;
            }
            self.owed.pop_front();
        }
        if std::mem::take(&mut self.told) {
            self.part.notify();
        }
        Ok(())
    }
}

impl SlowPath {
    /// Applications' calls, and now and then their sockets.
    #[inline(never)]
    pub(super) fn appif_poll(&mut self) {
        if self.now >= self.next_sockets {
            self.next_sockets = self.now + super::SOCKETS;
            self.appif_sockets_poll();
        }
        let mut taken = 0;
        for at in 0..CONTEXTS as u8 {
            taken += self.appif_ctx_poll(at);
        }
        self.did(taken);
    }

    fn appif_ctx_poll(&mut self, at: u8) -> usize {
        let mut taken = 0;
        while taken < CALLS
            && let Some(application) = self.alive(at)
        {
            match application.kin.pop() {
                Ok(None) => break,
                Ok(Some((words, _))) => {
                    taken += 1;
                    if let Some(call) = KernelIn::from_words(words) {
                        self.call(at, call);
                    }
                }
                Err(Corrupt) => self.end_application(at),
            }
        }
        if let Some(application) = self.alive(at)
            && application.flush().is_err()
        {
            self.end_application(at);
        }
        taken
    }

    fn call(&mut self, at: u8, call: KernelIn) {
        match call {
            KernelIn::Listen { port, backlog } => self.listen(at, port, backlog),
            KernelIn::Accept { port, opaque } => self.accept(at, port, opaque),
            KernelIn::Close { flow } => self.close(at, flow),
        }
    }

    fn alive(&mut self, at: u8) -> Option<&mut Application> {
        let application = self.applications.get_mut(usize::from(at))?.as_mut()?;
        application.socket.is_some().then_some(application)
    }

    /// Tells an application something; what finds no room waits.
    pub(super) fn tell_application(&mut self, at: u8, entry: KernelOut) {
        if let Some(application) = self.alive(at) {
            application.owed.push_back(entry);
            application.told = true;
        }
    }

    /// The process that a context belongs to.
    pub(super) fn owner(&self, at: u8) -> Option<i32> {
        let application = self.applications.get(usize::from(at))?.as_ref()?;
        Some(application.pid)
    }

    /// The sizes a context has.
    pub(super) fn application_sizes(&self, at: u8) -> Option<Sizes> {
        let application = self.applications.get(usize::from(at))?.as_ref()?;
        Some(application.part.layout.sizes())
    }

    /// Rings for a new flow.
    pub(super) fn take_slot(&mut self, at: u8) -> Option<u32> {
        let application = self.alive(at)?;
        if let Some(slot) = application.free_slots.pop() {
            return Some(slot);
        }
        let slot = application.next_slot;
        if slot >= application.part.layout.sizes().slots {
            return None;
        }
        application.next_slot += 1;
        Some(slot)
    }

    /// Rings that no flow has any more.
    pub(super) fn give_slot(&mut self, at: u8, slot: u32) {
        if let Some(application) = self.alive(at) {
            application.free_slots.push(slot);
        }
    }

    /// Where a slot's rings are.
    pub(super) fn rings(&self, at: u8, slot: u32) -> Option<(Arc<Region>, ByteRing, ByteRing)> {
        let application = self.applications.get(usize::from(at))?.as_ref()?;
        let (rx, tx) = application.part.layout.rings(slot)?;
        Some((application.part.region.clone(), rx, tx))
    }

    /// New sockets, first words, ends.
    fn appif_sockets_poll(&mut self) {
        while self.greetings.len() < MOST_GREETINGS
            && let Ok(socket) = accept_with(&self.listener, SocketFlags::CLOEXEC)
        {
            let who = sockopt::socket_peercred(&socket);
            let ours = rustix::process::geteuid();
            match who {
                Ok(who) if who.uid == ours || ours.is_root() && who.uid.is_root() => {
                    let pid = who.pid.as_raw_nonzero().get();
                    self.greetings.push(Greeting { socket, pid });
                }
                // Whether it hears of it is its own business.
                _ => drop(attach::answer(socket.as_fd(), Err(Refusal::User))),
            }
            self.did(1);
        }
        for greeting in std::mem::take(&mut self.greetings) {
            match attach::take_hello(greeting.socket()) {
                Ok(None) => self.greetings.push(greeting),
                Ok(Some(hello)) => self.welcome(greeting, hello.wish),
                Err(_) => {}
            }
        }
        for at in 0..CONTEXTS as u8 {
            if let Some(application) = self.alive(at)
                && let Some(socket) = &application.socket
                && has_ended(socket)
            {
                self.end_application(at);
            }
        }
    }

    fn welcome(&mut self, greeting: Greeting, wish: Sizes) {
        let Greeting { socket, pid } = greeting;
        let sizes = Sizes {
            cores: self.cores.len() as u32,
            ..wish
        };
        // Its death may have come already: the answer goes nowhere then.
        let refuse = |why| drop(attach::answer(socket.as_fd(), Err(why)));
        let Some(layout) = Layout::new(sizes) else {
            return refuse(Refusal::Sizes);
        };
        let Some(at) = self.applications.iter().position(Option::is_none) else {
            return refuse(Refusal::Full);
        };
        let Ok((part, memory)) = make_part(layout) else {
            return refuse(Refusal::Memory);
        };
        let mut descriptors = vec![
            memory.as_fd(),
            part.app_bell.as_fd(),
            part.slow_bell.as_fd(),
        ];
        descriptors.extend(part.fast_bells.iter().map(AsFd::as_fd));
        let ip = self.shared.ip.into();
        if attach::answer(socket.as_fd(), Ok((sizes, ip, &descriptors))).is_err() {
            return;
        }
        let part = Arc::new(part);
        self.applications[at] = Some(Application {
            kin: Consumer::new(part.region.clone(), layout.kernel_in()),
            kout: Producer::new(part.region.clone(), layout.kernel_out()),
            part: part.clone(),
            socket: Some(socket),
            pid,
            owed: VecDeque::new(),
            told: false,
            free_slots: Vec::new(),
            next_slot: 0,
            cores: self.cores.len(),
        });
        self.had_applications = true;
        for core in 0..self.cores.len() {
            self.tell_fast(core, ToFast::Attach(at as u8, part.clone()));
        }
        self.did(1);
    }

    /// A context's application is gone, or has written nonsense: its flows are reset, and its memory is freed as soon
    /// as no core looks at it.
    pub(super) fn end_application(&mut self, at: u8) {
        let Some(application) = self.alive(at) else {
            return;
        };
        application.socket = None;
        self.drop_all_of(at);
        for core in 0..self.cores.len() {
            self.tell_fast(core, ToFast::Detach(at));
        }
        self.did(1);
    }

    /// A core does not look at a context any more.
    pub(super) fn detached(&mut self, at: u8) {
        if let Some(place) = self.applications.get_mut(usize::from(at))
            && let Some(application) = place
        {
            application.cores -= 1;
            if application.cores == 0 {
                *place = None;
            }
        }
    }
}

fn make_part(layout: Layout) -> io::Result<(ContextPart, OwnedFd)> {
    let (region, memory) = Region::create(layout.bytes())?;
    let bells = (0..layout.sizes().cores).map(|_| new_doorbell());
    let part = ContextPart {
        region: Arc::new(region),
        layout,
        app_bell: new_doorbell()?,
        slow_bell: new_doorbell()?,
        fast_bells: bells.collect::<io::Result<_>>()?,
    };
    Ok((part, memory))
}

/// Whether the other end of a socket is closed, or says what it has no business to say.
pub fn has_ended(socket: &OwnedFd) -> bool {
    let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
    let outcome = recv(socket, &mut [0u8; 1][..], flags);
    !matches!(outcome, Err(Errno::AGAIN | Errno::INTR))
}
