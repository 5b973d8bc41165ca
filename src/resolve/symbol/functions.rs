//! Functions of a file without symbols: where each begins and ends, as its unwind table says.
//!
//! In: an object file; out: where the function begins that an address belongs to. That is no name, but it tells one function
//! from another. Code that no table describes belongs to none, however near the next function is.

use super::section;
use gimli::{BaseAddresses, CieOrFde, EhFrame, EndianSlice, LittleEndian, UnwindSection};
use object::{Object, ObjectSection, ReadRef};
use std::fs::File;

/// The functions of one file.
#[derive(Debug, Default)]
pub struct Functions {
    /// Where each begins, and how long it is; in order.
    ranges: Vec<(u64, u64)>,
}

impl Functions {
    /// Of a file: those of `.eh_frame`, and the two that linkers put together in sections of their own.
    pub fn read<'a, R: ReadRef<'a>>(file: &File, object: &object::File<'a, R>) -> Functions {
        let own = [".init", ".fini"].into_iter();
        let own = own.filter_map(|name| object.section_by_name(name));
        let mut ranges: Vec<_> = own.map(|s| (s.address(), s.size())).collect();
        if let (Some(table), Some(bytes)) = (
            object.section_by_name(".eh_frame"),
            section::read(file, object, ".eh_frame"),
        ) {
            ranges.extend(described(&bytes, table.address()));
        }
        ranges.sort_unstable();
        Functions { ranges }
    }

    /// Where the function begins that holds an address.
    pub fn begin(&self, address: u64) -> Option<u64> {
        let after = self.ranges.partition_point(|r| r.0 <= address);
        let (begin, len) = *self.ranges.get(after.checked_sub(1)?)?;
        (address - begin < len).then_some(begin)
    }
}

/// What the entries of an unwind table describe.
fn described(eh_frame: &[u8], address: u64) -> Vec<(u64, u64)> {
    let section = EhFrame::new(eh_frame, LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(address);
    let mut entries = section.entries(&bases);
    let mut found = Vec::new();
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(entry) = entry else {
            continue;
        };
        let entry = entry.parse(EhFrame::<EndianSlice<LittleEndian>>::cie_from_offset);
        found.extend(entry.ok().map(|e| (e.initial_address(), e.len())));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address belongs to the function around it, and between two of them to none.
    #[test]
    fn around() {
        let ranges = vec![(0x1000, 0x20), (0x1040, 0), (0x1050, 8), (0x1050, 0x10)];
        let functions = Functions { ranges };
        let begins =
            [0xfff, 0x1000, 0x101f, 0x1020, 0x1040, 0x105f, 0x1060].map(|a| functions.begin(a));
        let first = Some(0x1000);
        assert_eq!(begins, [None, first, first, None, None, Some(0x1050), None]);
        assert_eq!(Functions::default().begin(0), None);
    }
}
