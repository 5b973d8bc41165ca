//! A file's unwind tables, read once for all that map it.
//!
//! In: an object file; out: tables for an unwinder, laid to where a process mapped them, and whether the file's functions
//! keep frame pointers. It refuses to know stacks.

use crate::trace::file::open_regular;
use crate::trace::record::Mapping;
use framehop::{ExplicitModuleSectionInfo, Module};
use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, EndianSlice, LittleEndian, UnwindContext,
    UnwindSection,
};
use object::{Object, ObjectSection, ObjectSegment, ReadCache, ReadRef, SegmentFlags, elf};
use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Largest table that is read.
const MAX_TABLE: u64 = 256 << 20;
/// Functions that are looked at to know a file's way with frame pointers.
const LOOKED_AT: usize = 4000;
/// What is shorter may have no need of a frame.
const SHORT_FUNCTION: u64 = 64;

/// What tables are kept as.
pub type Bytes = Arc<[u8]>;

/// A part of a file that can run: where it lies in the file, how long it is, and its address there.
struct Segment {
    offset: u64,
    size: u64,
    address: u64,
}

/// Unwind tables of a file.
pub struct FileTables {
    code: Vec<Segment>,
    sections: ExplicitModuleSectionInfo<Bytes>,
    /// Where handlers of signals return to, as addresses of the file.
    signals: Vec<Range<u64>>,
    /// Whether nearly all functions of the file keep a frame pointer.
    pub keeps_pointers: bool,
}

impl FileTables {
    /// Reads them; `None` if the file has none.
    pub fn read<'a, R: ReadRef<'a>>(object: &object::File<'a, R>) -> Option<FileTables> {
        let runs = |s: &object::Segment<'a, '_, R>| match s.flags() {
            SegmentFlags::Elf { p_flags, .. } => p_flags.contains(elf::PF_X),
            _ => false,
        };
        let code = object.segments().filter(runs).map(|s| {
            let (offset, size) = s.file_range();
            let address = s.address();
            Segment {
                offset,
                size,
                address,
            }
        });
        let code = code.collect();
        let section = |name: &str| {
            let section = object.section_by_name(name)?;
            let range = section.address()..section.address().checked_add(section.size())?;
            let small = section.size() <= MAX_TABLE;
            let data = small.then(|| section.data().ok()).flatten()?;
            Some((range, Bytes::from(data)))
        };
        let (eh_frame_svma, eh_frame) = section(".eh_frame")?;
        let index = section(".eh_frame_hdr");
        let text = object.section_by_name(".text");
        let text_svma = text.and_then(|t| Some(t.address()..t.address().checked_add(t.size())?));
        let register = match object.architecture() {
            object::Architecture::Aarch64 => gimli::AArch64::X29,
            _ => gimli::X86_64::RBP,
        };
        Some(FileTables {
            code,
            signals: signals(&eh_frame, eh_frame_svma.start),
            keeps_pointers: keeps_pointers(&eh_frame, eh_frame_svma.start, register),
            sections: ExplicitModuleSectionInfo {
                text_svma,
                eh_frame_svma: Some(eh_frame_svma),
                eh_frame: Some(eh_frame),
                eh_frame_hdr_svma: index.as_ref().map(|(range, _)| range.clone()),
                eh_frame_hdr: index.map(|(_, data)| data),
                ..ExplicitModuleSectionInfo::default()
            },
        })
    }

    /// What lies between a file's own addresses and those of a mapping; `None` if what it mapped is no code.
    fn bias(&self, mapping: &Mapping) -> Option<u64> {
        let at = mapping.offset.0;
        let holds =
            |s: &&Segment| (s.offset & !0xfff..s.offset.saturating_add(s.size)).contains(&at);
        let segment = self.code.iter().find(holds)?;
        let stated = segment
            .address
            .wrapping_sub(segment.offset)
            .wrapping_add(at);
        Some(mapping.start.0.wrapping_sub(stated))
    }

    /// The tables where a process mapped the file.
    pub fn module(&self, mapping: &Mapping, range: Range<u64>) -> Option<Module<Bytes>> {
        let bias = self.bias(mapping)?;
        let sections = self.sections.clone();
        Some(Module::new(mapping.path.clone(), range, bias, sections))
    }

    /// Where handlers of signals return to in a mapping of the file.
    pub fn signals(&self, mapping: &Mapping) -> Vec<Range<u64>> {
        let Some(bias) = self.bias(mapping) else {
            return Vec::new();
        };
        let moved = |r: &Range<u64>| r.start.wrapping_add(bias)..r.end.wrapping_add(bias);
        self.signals.iter().map(moved).collect()
    }
}

/// The code that handlers of signals return to: its entries are marked.
fn signals(eh_frame: &[u8], address: u64) -> Vec<Range<u64>> {
    let section = EhFrame::new(eh_frame, LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(address);
    let mut entries = section.entries(&bases);
    let (mut marked, mut found) = (HashSet::new(), Vec::new());
    while let Ok(Some(entry)) = entries.next() {
        match entry {
            CieOrFde::Cie(cie) if cie.is_signal_trampoline() => {
                marked.insert(cie.offset());
            }
            CieOrFde::Fde(fde) if marked.contains(&fde.cie_offset().0) => {
                let fde = fde.parse(EhFrame::<EndianSlice<LittleEndian>>::cie_from_offset);
                let range = fde.map(|f| f.initial_address()..f.end_address());
                found.extend(range.ok());
            }
            _ => {}
        }
    }
    found
}

/// Whether a program keeps frame pointers; `None` if its file does not say.
pub fn keeps_frame_pointers(path: &Path) -> Option<bool> {
    let cache = ReadCache::new(open_regular(path).ok()?);
    let tables = FileTables::read(&object::File::parse(&cache).ok()?)?;
    Some(tables.keeps_pointers)
}

/// Whether functions find their callers through a register. Where the table says so from the middle of a function on, the
/// register is a frame pointer.
fn keeps_pointers(eh_frame: &[u8], address: u64, register: gimli::Register) -> bool {
    let section = EhFrame::new(eh_frame, LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(address);
    let mut entries = section.entries(&bases);
    let mut context = UnwindContext::new();
    let (mut functions, mut keeping) = (0, 0);
    while let (true, Ok(Some(entry))) = (functions < LOOKED_AT, entries.next()) {
        let CieOrFde::Fde(partial) = entry else {
            continue;
        };
        let Ok(fde) = partial.parse(EhFrame::<EndianSlice<LittleEndian>>::cie_from_offset) else {
            continue;
        };
        if fde.len() < SHORT_FUNCTION {
            continue;
        }
        let middle = fde.initial_address().wrapping_add(fde.len() / 2);
        let row = fde.unwind_info_for_address(&section, &bases, &mut context, middle);
        let Ok(row) = row else {
            continue;
        };
        functions += 1;
        let by =
            matches!(row.cfa(), CfaRule::RegisterAndOffset { register: r, .. } if *r == register);
        keeping += usize::from(by);
    }
    functions > 0 && keeping * 10 >= functions * 9
}
