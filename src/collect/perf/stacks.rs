//! Where the user's part of stacks comes from: what the kernel is asked to put into samples for it.
//!
//! In: a [`StackSource`]; out: options of an event, and what is in a sample of it. It refuses to know unwind tables: what
//! the kernel only copied is walked by a [`crate::trace::Symbolizer`].

use crate::trace::record::{Sample, StackEnd};
use crate::trace::{Registers, StackCopy};
use perf_event_open::config::{
    BranchType, CallChain as Walked, Lbr, RegsMask, SampleFormat, Size, TargetPriv,
};
use perf_event_open::sample::record::sample::{Abi, CallChain, Lbr as Calls, Sample as Raw};

/// Where user stacks come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackSource {
    /// From nowhere: the instruction alone.
    None,
    /// The kernel follows frame pointers.
    FramePointers,
    /// The kernel copies registers and so many bytes of the stack; `pointers`: and follows frame pointers too.
    Copy {
        /// Bytes from the stack pointer on.
        bytes: u32,
        /// Whether both.
        pointers: bool,
    },
    /// The processor's own record of its last calls.
    Branches,
}

/// Frame pointer, stack pointer, instruction as `asm/perf_regs.h` numbers them, and on Arm the link register.
#[cfg(target_arch = "x86_64")]
const REGISTERS: u64 = 1 << 6 | 1 << 7 | 1 << 8;
#[cfg(not(target_arch = "x86_64"))]
const REGISTERS: u64 = 1 << 29 | 1 << 30 | 1 << 31 | 1 << 32;

impl StackSource {
    /// Asks for it.
    pub fn ask(self, format: &mut SampleFormat, max_frames: u16, user_only: bool) {
        let pointers = match self {
            StackSource::None => return,
            StackSource::FramePointers => true,
            StackSource::Copy { bytes, pointers } => {
                format.user_regs = Some(RegsMask(REGISTERS));
                format.user_stack = Some(Size(bytes));
                pointers
            }
            StackSource::Branches => {
                format.lbr = Some(Lbr {
                    target_priv: Some(TargetPriv {
                        user: true,
                        kernel: false,
                        hv: false,
                    }),
                    branch_type: BranchType {
                        call_stack: true,
                        ..BranchType::default()
                    },
                    ..Lbr::default()
                });
                false
            }
        };
        if pointers || !user_only {
            format.call_chain = Some(Walked {
                exclude_user: !pointers,
                exclude_kernel: user_only,
                defer_user: false,
                max_stack_frames: max_frames,
            });
        }
    }

    /// Bytes that a sample has for it, besides its frames.
    pub fn bytes(self) -> u64 {
        match self {
            StackSource::Copy { bytes, .. } => u64::from(bytes),
            _ => 0,
        }
    }

    /// Takes the stack of a sample, and what is to be walked yet.
    pub fn take(self, raw: &mut Raw, max_frames: u16, sample: &mut Sample) -> Option<StackCopy> {
        let mut user = 0;
        for part in raw.call_chain.take().unwrap_or_default() {
            match part {
                CallChain::Kernel(frames) => {
                    sample.frames.extend(frames);
                    sample.kernel_frames = sample.frames.len() as u16;
                }
                CallChain::User(frames) => {
                    user += frames.len();
                    sample.frames.extend(frames);
                }
                _ => {}
            }
        }
        let (ip, _) = raw.code_addr.unwrap_or_default();
        // Both architectures give the kernel the upper half.
        let in_kernel = ip >> 63 == 1;
        if sample.frames.is_empty() && raw.code_addr.is_some() {
            sample.frames.push(ip);
            sample.kernel_frames = u16::from(in_kernel);
            user = usize::from(!in_kernel);
        }
        sample.stack = match (self, user) {
            _ if sample.frames.len() >= usize::from(max_frames) => StackEnd::Truncated,
            (StackSource::None, _) | (_, 0) => StackEnd::KernelOnly,
            // An instruction pointer and no caller: the walk found no frame pointer.
            (_, 1) => StackEnd::Broken,
            _ => StackEnd::Whole,
        };
        match self {
            StackSource::None | StackSource::FramePointers => None,
            StackSource::Copy { .. } => copy(raw),
            StackSource::Branches => {
                if let Some(calls) = raw.lbr.take().filter(|_| !in_kernel) {
                    add_calls(calls, ip, sample);
                }
                None
            }
        }
    }
}

fn copy(raw: &mut Raw) -> Option<StackCopy> {
    let (registers, Abi::_64) = raw.user_regs.take()? else {
        return None;
    };
    let registers = match *registers.as_slice() {
        [fp, sp, ip] => Registers { ip, sp, fp, lr: 0 },
        [fp, lr, sp, ip] => Registers { ip, sp, fp, lr },
        _ => return None,
    };
    let bytes = raw.user_stack.take().unwrap_or_default();
    Some(StackCopy { registers, bytes })
}

/// Calls as the processor recorded them, the last one first: where they were made, so that what they return to lies behind.
fn add_calls(calls: Calls, ip: u64, sample: &mut Sample) {
    sample.frames.truncate(usize::from(sample.kernel_frames));
    sample.frames.push(ip);
    let made = calls.entries.iter().map(|call| call.from.saturating_add(1));
    sample.frames.extend(made);
    // The record is as deep as the hardware is, and does not say whether there was more.
    sample.stack = match calls.entries.len() {
        0 => StackEnd::Broken,
        _ => StackEnd::Truncated,
    };
}
