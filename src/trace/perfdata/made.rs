//! Code that the kernel made, as perf.data tells of it.
//!
//! In: the body of a record; out: where the code lay and its name. It refuses to know what kind of code it is.

use crate::trace::record::Mapping;
use crate::units::{Avma, Nanos};

/// Code that the kernel made, as of a BPF program, by the record that tells it: address, length, kind, flags, name. `None`
/// if it says that such code is gone.
pub fn code(record: &[u8], time: Nanos) -> Option<Mapping> {
    const GONE: u16 = 1;
    let (start, rest) = record.split_first_chunk()?;
    let (len, rest) = rest.split_first_chunk()?;
    let (_kind, rest) = rest.split_first_chunk::<2>()?;
    let (flags, name) = rest.split_first_chunk()?;
    let end = name.iter().position(|&b| b == 0)?;
    (u16::from_le_bytes(*flags) & GONE == 0).then(|| Mapping {
        time,
        pid: Mapping::KERNEL,
        start: Avma(u64::from_le_bytes(*start)),
        len: u64::from(u32::from_le_bytes(*len)),
        path: String::from_utf8_lossy(&name[..end]).into_owned(),
        ..Mapping::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record is believed as far as it goes: no name without an end, none of code that is gone.
    #[test]
    fn records() {
        let mut record = 0xffff_ffff_c000_1000u64.to_le_bytes().to_vec();
        record.extend(96u32.to_le_bytes());
        record.extend([1, 0, 0, 0]);
        record.extend(b"bpf_prog_1_f\0rest");
        let mapping = code(&record, Nanos::from_ns(7)).unwrap();
        assert_eq!(
            (mapping.start, mapping.len),
            (Avma(0xffff_ffff_c000_1000), 96)
        );
        assert_eq!(mapping.path, "bpf_prog_1_f");
        for len in 0..record.len() - "\0rest".len() + 1 {
            assert_eq!(code(&record[..len], Nanos::default()), None, "{len} bytes");
        }
        record[14] = 1;
        assert_eq!(code(&record, Nanos::default()), None);
    }
}
