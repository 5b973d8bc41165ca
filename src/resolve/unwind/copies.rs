//! Walks user stacks of samples, from the registers and the piece of stack that the kernel copied.
//!
//! In: samples with copies, what was mapped, files; out: the stack in place of what the kernel walked. Unwind tables lead
//! where there are some, frame pointers where there are none. Where the kernel followed frame pointers too, its walk is
//! taken over as soon as all that is left of it lies in files that keep them: then a small copy does.

use super::super::files::MappedFiles;
use super::super::space::AddressSpaces;
use super::MAX_DEPTH;
use super::tables::{Bytes, FileTables};
use crate::trace::record::{Meta, Pid, Sample, StackEnd};
use crate::trace::{Memory, Registers, StackCopy};
use crate::units::{Avma, Nanos};
use framehop::{
    CacheNative, Error, FrameAddress, MayAllocateDuringUnwind, UnwindRegsNative, Unwinder as _,
    UnwinderNative,
};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::rc::Rc;

type Cache = CacheNative<MayAllocateDuringUnwind>;

/// Walks the stacks of all that is recorded.
#[derive(Default)]
pub struct StackCopies {
    cache: Box<Cache>,
    files: HashMap<(String, String), Option<Rc<FileTables>>>,
    processes: HashMap<Pid, Process>,
}

/// What is known of a process until something else is mapped in it.
#[derive(Default)]
struct Process {
    unwinder: UnwinderNative<Bytes, MayAllocateDuringUnwind>,
    /// Memory with code, by address, and whether it keeps frame pointers.
    code: Vec<(Range<u64>, bool)>,
    /// Where handlers of signals return to.
    signals: Vec<Range<u64>>,
    /// Pages without.
    nothing: HashSet<u64>,
}

const PAGE: u64 = 4096;

/// Frame pointers that are followed to find where the kernel's walk meets ours.
const LOOK_AHEAD: usize = 8;

impl StackCopies {
    /// Takes note of what changes a process.
    pub fn meta(&mut self, meta: &Meta) {
        let pid = match meta {
            Meta::Mapping(mapping) => mapping.pid,
            Meta::Thread(thread) if thread.exec => thread.pid,
            Meta::Exit(exit) if exit.pid == exit.tid => exit.pid,
            _ => return,
        };
        self.processes.remove(&pid);
    }

    /// Walks the user's part of a sample's stack.
    pub fn walk(
        &mut self,
        spaces: &AddressSpaces,
        files: &MappedFiles,
        sample: &mut Sample,
        copy: &StackCopy,
    ) {
        let kernel = usize::from(sample.kernel_frames).min(sample.frames.len());
        let pointers = sample.frames.split_off(kernel);
        let StackCopies {
            cache,
            files: tables,
            processes,
        } = self;
        let process = processes.entry(sample.pid).or_default();
        let place = Place {
            spaces,
            files,
            pid: sample.pid,
            time: sample.time,
        };
        let mut learn = |process: &mut Process, at| process.learn(at, &place, tables);
        let (walked, end) = process.walk(cache, copy, &pointers, sample.stack, &mut learn);
        // A walk that broke at once leaves what the kernel found.
        if end == StackEnd::Broken && pointers.len() > walked.len() {
            sample.frames.extend(pointers);
            return;
        }
        sample.frames.extend(walked);
        sample.stack = end;
    }
}

/// Where addresses are looked up.
struct Place<'a> {
    spaces: &'a AddressSpaces,
    files: &'a MappedFiles,
    pid: Pid,
    time: Nanos,
}

impl Process {
    fn known(&self, at: u64) -> Result<usize, usize> {
        let after = self.code.partition_point(|(range, _)| range.start <= at);
        match after.checked_sub(1) {
            Some(before) if self.code[before].0.contains(&at) => Ok(before),
            _ => Err(after),
        }
    }

    fn keeps_pointers(&self, at: u64) -> bool {
        self.known(at).is_ok_and(|place| self.code[place].1)
    }

    fn is_signal(&self, at: FrameAddress) -> bool {
        let at = at.address_for_lookup();
        self.signals.iter().any(|range| range.contains(&at))
    }

    /// Makes known what lies at an address.
    fn learn(
        &mut self,
        at: u64,
        place: &Place,
        tables: &mut HashMap<(String, String), Option<Rc<FileTables>>>,
    ) {
        let Err(after) = self.known(at) else {
            return;
        };
        if self.nothing.contains(&(at / PAGE)) {
            return;
        }
        let Some(mapping) = place.spaces.find(place.pid, place.time, Avma(at)) else {
            self.nothing.insert(at / PAGE);
            return;
        };
        let tables = tables
            .entry((mapping.path.clone(), mapping.build_id.clone()))
            .or_insert_with(|| place.files.tables(mapping).map(Rc::new));
        // Of what was mapped, a part may lie under something newer.
        let from = self.code[..after].last().map_or(0, |(range, _)| range.end);
        let to = self
            .code
            .get(after)
            .map_or(u64::MAX, |(range, _)| range.start);
        let range = mapping.range();
        let range = range.start.max(from)..range.end.min(to);
        let module = tables
            .as_ref()
            .and_then(|t| t.module(mapping, range.clone()));
        // Without tables nothing better than frame pointers is known.
        let keeps = tables.as_ref().is_none_or(|t| t.keeps_pointers);
        if let (Some(module), Some(tables)) = (module, tables) {
            self.signals.extend(tables.signals(mapping));
            self.unwinder.add_module(module);
        }
        self.code.insert(after, (range, keeps));
    }

    /// The stack, innermost first; `pointers` is what the kernel found by frame pointers, and how that `ended`.
    fn walk(
        &mut self,
        cache: &mut Cache,
        copy: &StackCopy,
        pointers: &[u64],
        ended: StackEnd,
        learn: &mut dyn FnMut(&mut Process, u64),
    ) -> (Vec<u64>, StackEnd) {
        let copied = copy.registers.sp.saturating_add(copy.bytes.len() as u64);
        let mut beyond = false;
        let mut read = |address: u64| {
            let mut word = [0; 8];
            if copy.read(address, &mut word) {
                return Ok(u64::from_le_bytes(word));
            }
            beyond |= address.saturating_add(8) > copied;
            Err(())
        };
        let mut registers = native(copy.registers);
        let mut frames = vec![copy.registers.ip];
        let mut address = FrameAddress::InstructionPointer(copy.registers.ip);
        let end = loop {
            if frames.len() >= MAX_DEPTH {
                break StackEnd::Truncated;
            }
            learn(self, address.address_for_lookup());
            if self.is_signal(address)
                && let Some(interrupted) = interrupted(copy, &registers)
            {
                // Where it was interrupted, as if a call before had returned there: so stacks are looked up.
                frames.push(interrupted.ip.saturating_add(1));
                address = FrameAddress::InstructionPointer(interrupted.ip);
                registers = native(interrupted);
                continue;
            }
            let next = self
                .unwinder
                .unwind_frame(address, &mut registers, cache, &mut read);
            let next = match next {
                Ok(Some(next)) => next,
                Ok(None) | Err(Error::ReturnAddressIsNull) => break StackEnd::Whole,
                // The outermost frame of a program has none before it: so the processors' ABIs mark it.
                Err(Error::FramepointerUnwindingMovedBackwards)
                    if frame_pointer(&registers) == 0 =>
                {
                    break StackEnd::Whole;
                }
                Err(_) if beyond => break StackEnd::Truncated,
                Err(_) => break StackEnd::Broken,
            };
            let Some(returned) = FrameAddress::from_return_address(next) else {
                break StackEnd::Whole;
            };
            address = returned;
            learn(self, address.address_for_lookup());
            // No one called the code that handlers return to: the address is its first.
            frames.push(next.saturating_add(u64::from(self.is_signal(address))));
            if pointers.len() > 1 && self.keeps_pointers(address.address_for_lookup()) {
                let met = meet(copy, frame_pointer(&registers));
                let rest = met.and_then(|at| pointers.get(at..)).unwrap_or_default();
                let inner = &rest[..rest.len().saturating_sub(1)];
                for &at in inner {
                    learn(self, at.saturating_sub(1));
                }
                if !rest.is_empty()
                    && inner
                        .iter()
                        .all(|&at| self.keeps_pointers(at.saturating_sub(1)))
                {
                    frames.extend(rest);
                    break match ended {
                        StackEnd::Truncated => StackEnd::Truncated,
                        _ => StackEnd::Whole,
                    };
                }
            }
        };
        (frames, end)
    }
}

/// The place, in what the kernel found, of the caller of the function whose frame pointer this is.
fn meet(copy: &StackCopy, pointer: u64) -> Option<usize> {
    let mut at = copy.registers.fp;
    for place in 1..=LOOK_AHEAD {
        if at == pointer {
            return Some(place);
        }
        let mut word = [0; 8];
        if !copy.read(at, &mut word) {
            return None;
        }
        at = u64::from_le_bytes(word);
    }
    None
}

/// The registers where a signal interrupted the program: the kernel put them on the stack, above what the handler returns to.
#[cfg(target_arch = "x86_64")]
fn interrupted(copy: &StackCopy, registers: &UnwindRegsNative) -> Option<Registers> {
    // `gregs` of `ucontext_t`: the tenth, fifteenth and sixteenth.
    const GREGS: u64 = 40;
    let register = |number: u64| {
        let mut word = [0; 8];
        let at = registers.sp().checked_add(GREGS + 8 * number)?;
        copy.read(at, &mut word).then(|| u64::from_le_bytes(word))
    };
    Some(Registers {
        fp: register(10)?,
        sp: register(15)?,
        ip: register(16)?,
        lr: 0,
    })
}

/// On this processor unwind tables lead through.
#[cfg(not(target_arch = "x86_64"))]
fn interrupted(_copy: &StackCopy, _registers: &UnwindRegsNative) -> Option<Registers> {
    None
}

#[cfg(target_arch = "x86_64")]
fn native(registers: Registers) -> UnwindRegsNative {
    UnwindRegsNative::new(registers.ip, registers.sp, registers.fp)
}

#[cfg(target_arch = "x86_64")]
fn frame_pointer(registers: &UnwindRegsNative) -> u64 {
    registers.bp()
}

#[cfg(target_arch = "aarch64")]
fn native(registers: Registers) -> UnwindRegsNative {
    UnwindRegsNative::new(registers.lr, registers.sp, registers.fp)
}

#[cfg(target_arch = "aarch64")]
fn frame_pointer(registers: &UnwindRegsNative) -> u64 {
    registers.fp()
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STACK: u64 = 0x7000;

    /// The walk of a stack whose frame pointers lead on twice, in code that keeps them everywhere.
    fn walked(pointers: &[u64], words: &[u64]) -> (Vec<u64>, StackEnd) {
        let mut process = Process {
            code: vec![(0..u64::MAX, true)],
            ..Process::default()
        };
        let copy = StackCopy {
            registers: Registers {
                ip: 0x40_0000,
                sp: STACK,
                fp: STACK + 16,
                lr: 0,
            },
            bytes: words.iter().flat_map(|w| w.to_le_bytes()).collect(),
        };
        let mut cache = Box::<Cache>::default();
        process.walk(&mut cache, &copy, pointers, StackEnd::Whole, &mut |_, _| ())
    }

    /// What the kernel found is taken over where both walks meet, an address that is none included.
    #[test]
    fn a_return_address_of_zero() {
        let words = [0, 0, STACK + 32, 0x40_0100, 0, 0];
        let pointers = [0x40_0000, 0x40_0100, 0, 5];
        assert_eq!(
            walked(&pointers, &words),
            (pointers.to_vec(), StackEnd::Whole)
        );
    }

    proptest! {
        /// Stacks are another program's: whatever they hold, the walk ends, no deeper than it may.
        #[test]
        fn any_stack(
            pointers in prop::collection::vec(prop_oneof![0..3u64, any::<u64>()], 0..8),
            words in prop::collection::vec(prop_oneof![0..3u64, (0..16u64).prop_map(|at| STACK + 8 * at), any::<u64>()], 0..16),
        ) {
            prop_assert!(walked(&pointers, &words).0.len() <= MAX_DEPTH + pointers.len());
        }
    }
}
