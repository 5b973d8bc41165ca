//! No allocation per packet: two engines in steady state, under an allocator that counts.
//!
//! Unsafe code is fenced in here: an allocator is unsafe to write.
#![allow(unsafe_code)]

use bypassprof_probe::Burst;
use stack_tcp::{
    Config, ConnId, Engine, EventKind, FrameMeta, FrameSink, Policy, Time, TxFrame, TxHints,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    // A thread that ends has no count any more.
    let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
}

// SAFETY: everything is done by the system's allocator, with what it was asked for.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Frames under way in one direction, in memory that is used again.
struct Way {
    slots: Vec<Vec<u8>>,
    first: usize,
    queued: usize,
}

impl Way {
    fn new() -> Way {
        Way {
            slots: (0..1024).map(|_| Vec::with_capacity(2048)).collect(),
            first: 0,
            queued: 0,
        }
    }
}

impl FrameSink for Way {
    fn frame(&mut self, len: usize, _hints: TxHints) -> Option<TxFrame<'_>> {
        if self.queued == self.slots.len() {
            return None;
        }
        let at = (self.first + self.queued) % self.slots.len();
        self.queued += 1;
        self.slots[at].clear();
        self.slots[at].resize(len, 0);
        Some(TxFrame {
            bytes: &mut self.slots[at],
            number: 0,
        })
    }
}

struct Pair {
    engines: [Engine; 2],
    ways: [Way; 2],
    now: Time,
    /// Every so many frames one is lost; 0: none.
    loses: u64,
    carried: u64,
}

impl Pair {
    fn new(policy: &Policy) -> Pair {
        let engine = |last: u8| {
            let mac = [2, 0, 0, 0, 0, last];
            let mut config = Config::new(mac, [10, 0, 0, last].into(), 24);
            config.policy = policy.clone();
            Engine::new(config)
        };
        let mut engines = [engine(1), engine(2)];
        engines[1].listen(80, 1024).unwrap();
        Pair {
            engines,
            ways: [Way::new(), Way::new()],
            now: Time::from_millis(1000),
            loses: 0,
            carried: 0,
        }
    }

    /// Carries what is under way, both directions, and lets time pass.
    fn turn(&mut self) {
        for side in 0..2 {
            let (one, two) = self.ways.split_at_mut(1);
            let (from, to) = if side == 0 {
                (&mut one[0], &mut two[0])
            } else {
                (&mut two[0], &mut one[0])
            };
            let receiver = &mut self.engines[1 - side];
            for _ in 0..from.queued {
                let frame = &from.slots[from.first];
                self.carried += 1;
                if self.loses == 0 || !self.carried.is_multiple_of(self.loses) {
                    let meta = FrameMeta {
                        checksum_ok: false,
                        frame_no: 0,
                        burst: Burst::now(),
                    };
                    receiver.input(self.now, frame, meta, to);
                }
                from.first = (from.first + 1) % from.slots.len();
                from.queued -= 1;
            }
        }
        self.now = self.now + Duration::from_micros(500);
        for (engine, way) in self.engines.iter_mut().zip(&mut self.ways) {
            engine.poll_timers(self.now, way);
            engine.flush_acks(self.now, usize::MAX, way);
            engine.flush_data(self.now, usize::MAX, way);
        }
    }

    fn open(&mut self, n: usize) -> Vec<(ConnId, ConnId)> {
        let mut conns = Vec::new();
        for _ in 0..n {
            let ip = [10, 0, 0, 2].into();
            let client = self.engines[0].connect(self.now, ip, 80, &mut self.ways[0]);
            let client = client.unwrap();
            let server = loop {
                self.turn();
                if let Some(event) = self.engines[1].pop_event()
                    && let EventKind::Accepted(_) = event.kind
                {
                    break event.conn;
                }
            };
            conns.push((client, server));
        }
        conns
    }

    /// `turns` turns in which servers write all the time, clients read all and ask with a few bytes.
    fn work(&mut self, conns: &[(ConnId, ConnId)], turns: usize) -> u64 {
        let mut buf = [0; 8192];
        let mut carried = 0;
        for _ in 0..turns {
            for &(client, server) in conns {
                for (side, conn, data) in [(0, client, &buf[..40]), (1, server, &buf[..])] {
                    let _ = self.engines[side].write(conn, data);
                    self.engines[side].output(conn, self.now, &mut self.ways[side]);
                }
            }
            self.turn();
            for side in 0..2 {
                while self.engines[side].pop_event().is_some() {}
                for &(client, server) in conns {
                    let conn = [client, server][side];
                    let (engine, way) = (&mut self.engines[side], &mut self.ways[side]);
                    carried += engine.read(conn, &mut buf, self.now, way) as u64;
                }
            }
        }
        carried
    }
}

fn allocations_of(policy: &Policy, loses: u64) -> (u64, u64) {
    let mut pair = Pair::new(policy);
    let conns = pair.open(4);
    pair.loses = loses;
    // Buffers grow to what the windows ask for, once.
    pair.work(&conns, 600);
    let before = ALLOCATIONS.get();
    let bytes = pair.work(&conns, 200);
    (ALLOCATIONS.get() - before, bytes)
}

/// Data in both directions on some connections, with every stack's policy: not one allocation.
#[test]
fn steady_state_allocates_nothing() {
    let summed = |policy: Policy| Policy {
        verify_checksums: true,
        offload_checksums: false,
        ..policy
    };
    for policy in [
        Policy::default(),
        Policy::fstack(),
        summed(Policy::ix()),
        Policy::mtcp(),
        summed(Policy::tas()),
    ] {
        let (allocations, bytes) = allocations_of(&policy, 0);
        assert!(bytes > 1 << 20, "{bytes} bytes of {policy:?}");
        assert_eq!(allocations, 0, "{policy:?}");
    }
}

/// Losses and what comes out of order because of them allocate nothing either.
#[test]
fn losses_allocate_nothing() {
    let (allocations, bytes) = allocations_of(&Policy::default(), 97);
    assert!(bytes > 1 << 20, "{bytes} bytes");
    assert_eq!(allocations, 0);
}
