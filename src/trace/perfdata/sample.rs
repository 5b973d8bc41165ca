//! The fields of one perf sample, taken from its bytes.
//!
//! In: a record's body and the formats of its event; out: what is in it up to the call chain. Every number is held
//! against what the body has. It refuses to know which function an address is in.

use linux_perf_data::linux_perf_event_reader::constants::{
    PERF_CONTEXT_KERNEL, PERF_CONTEXT_MAX, PERF_CONTEXT_USER,
};
use linux_perf_data::linux_perf_event_reader::{ReadFormat, SampleFormat};

/// What is taken of a sample.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields<'b> {
    /// The instruction that was sampled.
    pub address: Option<u64>,
    /// Its process and thread.
    pub thread: Option<(u32, u32)>,
    /// Its CPU.
    pub cpu: Option<u32>,
    /// What it stands for.
    pub period: Option<u64>,
    /// The call chain: 8 bytes each.
    pub chain: &'b [u8],
    /// Whether a copy of the stack's memory follows.
    pub raw_stack: bool,
}

/// Each counter in a sample says how many samples of it were lost, as perf asks from 6.1 on: newer than the crate.
const LOST: u64 = 1 << 4;

impl<'b> Fields<'b> {
    /// Takes a body apart; `None` if it is shorter than it says. `read`: the event's `read_format`.
    pub fn of(mut body: &'b [u8], sample: SampleFormat, read: u64) -> Option<Fields<'b>> {
        let mut fields = Fields {
            raw_stack: sample.contains(SampleFormat::STACK_USER),
            ..Fields::default()
        };
        let body = &mut body;
        let has = |format| sample.contains(format);
        skip(body, has(SampleFormat::IDENTIFIER))?;
        if has(SampleFormat::IP) {
            fields.address = Some(word(body)?);
        }
        if has(SampleFormat::TID) {
            fields.thread = Some(halves(word(body)?));
        }
        for field in [
            SampleFormat::TIME,
            SampleFormat::ADDR,
            SampleFormat::ID,
            SampleFormat::STREAM_ID,
        ] {
            skip(body, has(field))?;
        }
        if has(SampleFormat::CPU) {
            fields.cpu = Some(halves(word(body)?).0);
        }
        if has(SampleFormat::PERIOD) {
            fields.period = Some(word(body)?);
        }
        if has(SampleFormat::READ) {
            let there = |bit: u64| u64::from(read & bit != 0);
            let group = there(ReadFormat::GROUP.bits()) > 0;
            let members = if group { word(body)? } else { 1 };
            let each = 1 + there(ReadFormat::ID.bits()) + there(LOST);
            let times = there(ReadFormat::TOTAL_TIME_ENABLED.bits())
                + there(ReadFormat::TOTAL_TIME_RUNNING.bits());
            let words = members.checked_mul(each)?.checked_add(times)?;
            let bytes = usize::try_from(words.checked_mul(8)?).ok()?;
            *body = body.get(bytes..)?;
        }
        if has(SampleFormat::CALLCHAIN) {
            let bytes = usize::try_from(word(body)?.checked_mul(8)?).ok()?;
            fields.chain = body.get(..bytes)?;
        }
        Some(fields)
    }

    /// Its addresses, innermost first, and how many are the kernel's.
    pub fn frames(&self, in_kernel: bool) -> (Vec<u64>, u16) {
        let mut kernel = in_kernel;
        let (mut of_kernel, mut of_user) = (Vec::new(), Vec::new());
        let (chain, _) = self.chain.as_chunks();
        for &address in chain {
            match u64::from_le_bytes(address) {
                PERF_CONTEXT_KERNEL => kernel = true,
                PERF_CONTEXT_USER => kernel = false,
                // A guest's frames lie in address spaces that no record describes.
                marker if marker >= PERF_CONTEXT_MAX => break,
                address if kernel => of_kernel.push(address),
                address => of_user.push(address),
            }
        }
        if of_kernel.is_empty() && of_user.is_empty() {
            let part = if in_kernel {
                &mut of_kernel
            } else {
                &mut of_user
            };
            part.extend(self.address);
        }
        let kernel_frames = of_kernel.len() as u16;
        of_kernel.append(&mut of_user);
        (of_kernel, kernel_frames)
    }
}

fn word(body: &mut &[u8]) -> Option<u64> {
    let (first, rest) = body.split_first_chunk()?;
    *body = rest;
    Some(u64::from_le_bytes(*first))
}

fn skip(body: &mut &[u8], there: bool) -> Option<()> {
    if there {
        word(body)?;
    }
    Some(())
}

fn halves(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields lie in the kernel's order, a group's values are passed over, and a chain longer than the body is none.
    #[test]
    fn in_order() {
        let words = [
            9,
            0x40,
            7 << 32 | 5,
            2,
            100,
            2,
            11,
            1,
            22,
            2,
            3,
            0x40,
            0x50,
            0x60,
        ];
        let bytes: Vec<u8> = words.iter().flat_map(|w: &u64| w.to_le_bytes()).collect();
        let sample = SampleFormat::IDENTIFIER
            | SampleFormat::IP
            | SampleFormat::TID
            | SampleFormat::CPU
            | SampleFormat::PERIOD
            | SampleFormat::READ
            | SampleFormat::CALLCHAIN;
        let read = (ReadFormat::GROUP | ReadFormat::ID).bits();
        let fields = Fields::of(&bytes, sample, read).unwrap();
        assert_eq!(fields.address, Some(0x40));
        assert_eq!(fields.thread, Some((5, 7)));
        assert_eq!((fields.cpu, fields.period), (Some(2), Some(100)));
        assert_eq!(fields.chain.len(), 24);
        assert_eq!(Fields::of(&bytes[..bytes.len() - 1], sample, read), None);
        // With a third number for each of the two counters the chain would begin later, and be longer than what is left.
        assert_eq!(Fields::of(&bytes, sample, read | LOST), None);
    }
}
