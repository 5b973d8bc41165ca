//! Walks the stack of a thread that runs no more, from its registers and what is left of its memory.
//!
//! In: registers, memory, and what was mapped where; out: the addresses of a stack, innermost first, and how its walk
//! ended. Unwind tables come from the files of this machine, if they are the ones that ran; where there are none, frame
//! pointers are followed. It refuses to know where memory comes from.

mod copies;
mod tables;

use super::files::MappedFiles;
use crate::trace::record::{Mapping, StackEnd};
use crate::trace::{Memory, Registers};
pub use copies::StackCopies;
use framehop::aarch64::{CacheAarch64, UnwindRegsAarch64, UnwinderAarch64};
use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{Error, FrameAddress, Unwinder as _};
use std::collections::BTreeMap;
use std::ops::Range;
use tables::Bytes;
pub use tables::{FileTables, keeps_frame_pointers};

/// Deepest stack that is walked.
const MAX_DEPTH: usize = 512;

enum Arch {
    X86(UnwinderX86_64<Bytes>, Box<CacheX86_64>),
    Arm(UnwinderAarch64<Bytes>, Box<CacheAarch64>),
}

/// Walks stacks of one process.
pub struct StackWalker {
    arch: Arch,
    code: Vec<Range<u64>>,
    /// Files without tables, and why.
    pub without: Vec<(String, String)>,
}

impl StackWalker {
    /// For a process with these mappings of code; `arch` is that of the recording's session.
    pub fn new(arch: &str, mappings: &[Mapping]) -> StackWalker {
        let range = |m: &Mapping| m.start.0..m.start.0.saturating_add(m.len);
        let mut walker = StackWalker {
            arch: match arch {
                "aarch64" => Arch::Arm(UnwinderAarch64::new(), Box::default()),
                _ => Arch::X86(UnwinderX86_64::new(), Box::default()),
            },
            code: mappings.iter().map(range).collect(),
            without: Vec::new(),
        };
        let mut by_file: BTreeMap<(&str, &str), Vec<&Mapping>> = BTreeMap::new();
        for mapping in mappings {
            let key = (mapping.path.as_str(), mapping.build_id.as_str());
            by_file.entry(key).or_default().push(mapping);
        }
        for ((path, _), mappings) in by_file {
            let added = mappings.iter().map(|m| walker.add(m, range(m)));
            let added: Vec<Result<(), String>> = added.collect();
            // Of a file that is mapped in pieces, one is its code.
            if let (false, Some(Err(why))) = (added.iter().any(Result::is_ok), added.first()) {
                walker.without.push((path.to_owned(), why.clone()));
            }
        }
        walker
    }

    fn add(&mut self, mapping: &Mapping, range: Range<u64>) -> Result<(), String> {
        let files = MappedFiles::while_recording();
        // What cannot be opened is told as the reason.
        files.open(mapping).map_err(|e| e.to_string())?;
        let tables = files.tables(mapping);
        let module = tables.and_then(|t| t.module(mapping, range));
        let module = module.ok_or("it has no unwind tables")?;
        match &mut self.arch {
            Arch::X86(unwinder, _) => unwinder.add_module(module),
            Arch::Arm(unwinder, _) => unwinder.add_module(module),
        }
        Ok(())
    }

    /// The stack of a thread.
    pub fn walk(&mut self, registers: Registers, memory: &dyn Memory) -> (Vec<u64>, StackEnd) {
        let mut read = |address: u64| {
            let mut word = [0; 8];
            match memory.read(address, &mut word) {
                true => Ok(u64::from_le_bytes(word)),
                false => Err(()),
            }
        };
        let Registers {
            mut ip,
            mut sp,
            fp,
            lr,
        } = registers;
        let mut frames = Vec::new();
        if !self.code.iter().any(|range| range.contains(&ip)) {
            // A call to where no code is: whoever called is next, and its address lies on top or in a register.
            frames.push(ip);
            ip = match &self.arch {
                Arch::X86(..) => {
                    let back = read(sp).unwrap_or(0);
                    sp = sp.saturating_add(8);
                    back
                }
                Arch::Arm(..) => lr,
            };
            if !self.code.iter().any(|range| range.contains(&ip)) {
                return (frames, StackEnd::Broken);
            }
        }
        let called = !frames.is_empty();
        // The place of a call lies before the address it returns to.
        let from = ip.saturating_sub(u64::from(called));
        let mut next = |frame: Result<Option<FrameAddress>, Error>| match frame {
            Ok(Some(frame)) => {
                let first = called && frames.len() == 1;
                frames.push(if first { ip } else { frame.address() });
                (frames.len() >= MAX_DEPTH).then_some(StackEnd::Truncated)
            }
            Ok(None) => Some(StackEnd::Whole),
            Err(_) => Some(StackEnd::Broken),
        };
        let end = match &mut self.arch {
            Arch::X86(unwinder, cache) => {
                let registers = UnwindRegsX86_64::new(from, sp, fp);
                let mut stack = unwinder.iter_frames(from, registers, cache, &mut read);
                loop {
                    if let Some(end) = next(stack.next()) {
                        break end;
                    }
                }
            }
            Arch::Arm(unwinder, cache) => {
                let registers = UnwindRegsAarch64::new(lr, sp, fp);
                let mut stack = unwinder.iter_frames(from, registers, cache, &mut read);
                loop {
                    if let Some(end) = next(stack.next()) {
                        break end;
                    }
                }
            }
        };
        (frames, end)
    }
}
