//! A writer stopped after every single instruction: whoever looks at its ring then sees what a kill there would leave.
//!
//! The writer is a forked child whose parent steps it through the very code that programs run. Shared memory is looked
//! at whenever it has changed, so that no store is passed over, whatever the compiler made of them.

use crate::Scratch;
use bypassprof_ring::Ordering;
use bypassprof_ring::reader::{Drained, RingLook, Writing};
use bypassprof_wire::layout::Mode;
use bypassprof_wire::{Decoder, Event, Flow, Point, Slot, Tsc};

const CAPACITY: u64 = 512;
/// Events that fill the ring before the stepping begins, a little more than once.
const BEFORE: u32 = 300;
/// Events that are stepped through.
const STEPPED: u32 = 24;

/// Slots of event `n`: as many as `n` says, all of them know `n`.
fn slots_of(tsc: Tsc, n: u32) -> ([Slot; 4], usize) {
    let head = Slot::head(tsc, Point::from_id(300), Flow::from_raw(!n), n);
    let more = |part| Slot::cont(n, n.wrapping_mul(3), part);
    ([head, more(1), more(2), more(3)], 1 + n as usize % 4)
}

fn push(scratch: &Scratch, n: u32) {
    // The epoch changes in the middle of what is stepped through.
    let tsc = Tsc::from_raw((1 << 47) - u64::from(BEFORE + STEPPED / 2) + u64::from(n));
    let (all, count) = slots_of(tsc, n);
    match count {
        1 => scratch.ring.push(tsc, [all[0]]),
        2 => scratch.ring.push(tsc, [all[0], all[1]]),
        3 => scratch.ring.push(tsc, [all[0], all[1], all[2]]),
        _ => scratch.ring.push(tsc, all),
    };
}

/// Checks what a look finds: whole events in order without a gap up to the newest, and an exact count of what is not
/// there. Returns the newest.
fn check(scratch: &Scratch, flight: bool) -> Option<u32> {
    let file = std::fs::File::open(scratch.file.path()).unwrap();
    let mut look = RingLook::open(&file, scratch.file.path(), Writing::Over).unwrap();
    let mut drained = Drained::with_capacity(CAPACITY as usize);
    look.take(&mut drained).unwrap();
    let range = look.positions();
    let slots = drained.slots();
    assert_eq!(
        look.gone_before() + look.overwritten() + slots.len() as u64,
        range.end
    );
    let mut decoder = Decoder::new(Some(Tsc::from_raw(look.base_tsc())));
    let mut numbers = Vec::new();
    let mut keep = |event: Event| {
        if event.point == Point::from_id(300) {
            numbers.push((event.args[0], event.arg_count));
        }
    };
    for &slot in slots {
        decoder.push(slot, &mut keep);
    }
    decoder.flush(&mut keep);
    for &(n, args) in &numbers {
        assert_eq!(args, 1 + 3 * (n as u8 % 4), "event {n} is not whole");
    }
    if flight {
        let gap = numbers.windows(2).find(|pair| pair[1].0 != pair[0].0 + 1);
        assert_eq!(gap, None);
    } else {
        assert!(numbers.windows(2).all(|pair| pair[1].0 > pair[0].0));
    }
    let counts = decoder.counts();
    assert_eq!((counts.undated_slots, counts.invalid_slots), (0, 0));
    assert!(
        counts.orphan_slots <= 3,
        "only the oldest event may lack its start"
    );
    for &slot in slots {
        if slot.point() == Point::from_id(300) {
            let n = slot.word1 as u32;
            assert_eq!(slot.word1 >> 32, u64::from(!n), "a torn slot");
        }
    }
    numbers.last().map(|&(n, _)| n)
}

/// Steps a child through pushes; how often memory had changed.
fn step_through(mode: Mode) -> Option<usize> {
    let scratch = Scratch::new(CAPACITY, mode);
    let flight = mode == Mode::Flight;
    for n in 0..BEFORE {
        push(&scratch, n);
    }
    if !flight {
        // A reader has made a little room: an event that tells of the loss, some more, and then loss again.
        let header = scratch.ring.header();
        let head = header.writer.head.load(Ordering::Relaxed);
        let tail = head - CAPACITY + 40;
        header.reader.tail.store(tail, Ordering::Relaxed);
    }
    // SAFETY: the child stores into memory that was mapped before, makes system calls, and leaves by _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: as above; the parent waits for the stop.
        unsafe {
            if libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) != 0 {
                libc::_exit(1);
            }
            libc::raise(libc::SIGSTOP);
        }
        for n in BEFORE..BEFORE + STEPPED {
            push(&scratch, n);
        }
        // SAFETY: ends this process.
        unsafe { libc::_exit(0) };
    }
    let bytes = scratch.file.path().metadata().unwrap().len() as usize / 8;
    // SAFETY: the mapping is this long, and lives as long as `scratch`; the child is stopped whenever it is read.
    let memory =
        || unsafe { std::slice::from_raw_parts(scratch.ring.as_ptr().cast::<u64>(), bytes) };
    let mut before = memory().to_vec();
    let (mut changes, mut newest) = (0, check(&scratch, flight));
    loop {
        let mut status = 0;
        // SAFETY: the status is written to a variable of ours.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        if libc::WIFEXITED(status) {
            if libc::WEXITSTATUS(status) == 1 {
                return None;
            }
            break;
        }
        assert!(libc::WIFSTOPPED(status), "status {status}");
        if memory() != before {
            changes += 1;
            before.copy_from_slice(memory());
            let now = check(&scratch, flight);
            assert!(now >= newest, "an event that was there is gone");
            newest = now;
        }
        // SAFETY: the child is ours, stopped, and traced by this very thread.
        let stepped = unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, child, 0, 0) };
        assert_eq!(stepped, 0);
    }
    if flight {
        assert_eq!(newest, Some(BEFORE + STEPPED - 1));
    }
    Some(changes)
}

/// Stopped at every store of the hot path in flight mode, and in drain mode where a full ring drops.
#[test]
fn stopped_at_every_store() {
    for mode in [Mode::Flight, Mode::Drain] {
        match step_through(mode) {
            // Each event stores two words a slot and the head; a dropped one counts itself twice.
            Some(changes) => assert!(changes >= 2 * STEPPED as usize, "{changes} changes"),
            None => println!("left out: this machine forbids ptrace"),
        }
    }
}
