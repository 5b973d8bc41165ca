//! What a core's process had mapped that code can run in, with the build ids of the files.
//!
//! In: a core; out: [`Mapping`]s. A build id is read from a file's first page as it lay in memory, if that is there: the
//! file of the same name may be another one by now.

use super::{Core, MappedFile};
use crate::trace::record::Mapping;
use crate::units::{Avma, FileOffset};
use object::Endianness;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, NoteIterator, ProgramHeader};
use std::collections::BTreeMap;

/// What is looked at of a file's beginning.
const HEAD: usize = 1 << 16;

impl Core {
    /// Memory with code, by file.
    pub fn mappings(&self) -> Vec<Mapping> {
        let mut ids: BTreeMap<&str, String> = BTreeMap::new();
        for file in self.files.iter().filter(|f| f.offset == 0) {
            let id = || self.build_id(file.start).unwrap_or_default();
            let found = ids.entry(&file.path).or_insert_with(id);
            if found.is_empty() {
                *found = id();
            }
        }
        // Debuggers leave out what can be read again from files, and with it what could run: of object files, which are
        // known by their build ids, all is taken then.
        let is_code = |file: &&MappedFile| match self.segment(file.start) {
            Some(segment) => segment.executable,
            None => ids.get(file.path.as_str()).is_some_and(|id| !id.is_empty()),
        };
        let code = self.files.iter().filter(is_code);
        code.map(|file| Mapping {
            pid: self.pid,
            start: Avma(file.start),
            len: file.end.saturating_sub(file.start),
            offset: FileOffset(file.offset),
            path: file.path.clone(),
            build_id: ids.get(file.path.as_str()).cloned().unwrap_or_default(),
            ..Mapping::default()
        })
        .collect()
    }

    fn build_id(&self, start: u64) -> Option<String> {
        let mut head = vec![0; HEAD];
        let there = self.read_some(start, &mut head);
        let head = &head[..there];
        let header = FileHeader64::<Endianness>::parse(head).ok()?;
        let endian = header.endian().ok()?;
        for segment in header.program_headers(endian, head).ok()? {
            if segment.p_type(endian) != elf::PT_NOTE {
                continue;
            }
            let from = usize::try_from(segment.p_offset(endian)).ok()?;
            let len = usize::try_from(segment.p_filesz(endian)).ok()?;
            let Some(notes) = head.get(from..from.saturating_add(len)) else {
                continue;
            };
            let align = segment.p_align(endian);
            let notes = NoteIterator::<FileHeader64<Endianness>>::new(endian, align, notes);
            let Ok(mut notes) = notes else {
                continue;
            };
            while let Ok(Some(note)) = notes.next() {
                if note.name() == elf::ELF_NOTE_GNU && note.n_type(endian) == elf::NT_GNU_BUILD_ID {
                    return Some(note.desc().iter().map(|b| format!("{b:02x}")).collect());
                }
            }
        }
        None
    }
}
