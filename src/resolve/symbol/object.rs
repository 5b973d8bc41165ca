//! One object file ready to answer: names, lines and inlined functions at positions in it.
//!
//! In: an open file; out: the frames at a position, from its debug information wherever that lies, else from symbol
//! tables, or why there are none. Rust and C++ names are made readable.

use super::debug;
use super::dwarf::{Beside, Dwarf};
use super::functions::Functions;
use super::table::SymbolTable;
use super::{build_id, named, unknown};
use crate::resolve::files::{FileError, Folders};
use crate::trace::record::{AddressNames, NamedFrame};
use addr2line::demangle_auto;
use object::{Object, ObjectSegment, ReadCache, ReadRef};
use std::borrow::Cow;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The part of a file that was mapped: where it lies in the file and in its own address space.
struct Segment {
    offset: u64,
    size: u64,
    address: u64,
}

/// One object file ready to answer.
pub struct ObjectNames {
    segments: Vec<Segment>,
    dwarf: Option<Dwarf>,
    table: SymbolTable,
    /// Of a file without symbols of its own.
    functions: Functions,
}

/// The tree that distributions put debug information in.
const DEBUG_TREE: &str = "/usr/lib/debug";

impl ObjectNames {
    /// Of the file that was mapped from `path`.
    pub fn read(file: &File, path: &Path, folders: &Folders) -> Result<ObjectNames, FileError> {
        let cache = ReadCache::new(file);
        let object = object::File::parse(&cache).map_err(|e| FileError::Format {
            path: path.to_owned(),
            reason: e.to_string(),
        })?;
        let mut trees = folders.debug.clone();
        trees.push(PathBuf::from(DEBUG_TREE));
        // A program that was replaced or lies in a container is not where its name leads; a copy of it may be.
        let copies = folders
            .symbols
            .iter()
            .filter_map(|f| Some(f.join(path.file_name()?)));
        let names: Vec<PathBuf> = [path.to_owned()].into_iter().chain(copies).collect();
        let mut table = SymbolTable::default();
        table.add(file, &object, false);
        let id = build_id(&object);
        let beside = |names: &[PathBuf]| {
            let folders = trees.as_slice();
            Dwarf::read(file, &object, &Beside { names, folders })
        };
        let mut dwarf = beside(&names);
        if dwarf.is_none()
            && let Some((debug, at)) = debug::file(&names, &object, &id, &trees)
        {
            let cache = ReadCache::new(&debug);
            if let Ok(object) = object::File::parse(&cache) {
                // Packages lie beside the one or the other.
                let names: Vec<PathBuf> = [at].into_iter().chain(names).collect();
                let folders = trees.as_slice();
                let names = names.as_slice();
                dwarf = Dwarf::read(&debug, &object, &Beside { names, folders });
                if table.is_empty() {
                    table.add(&debug, &object, false);
                }
            }
        }
        if table.is_empty()
            && let Some(packed) = debug::packed(file, &object)
        {
            table.add_bytes(&packed);
        }
        let functions = match table.is_empty() {
            true => Functions::read(file, &object),
            false => Functions::default(),
        };
        table.add(file, &object, true);
        table.sort();
        table.add_stubs(&object);
        Ok(ObjectNames {
            segments: segments(&object),
            dwarf,
            table,
            functions,
        })
    }

    /// Of a small one in memory, by its symbols.
    pub fn of_bytes(bytes: &[u8]) -> Option<ObjectNames> {
        let object = object::File::parse(bytes).ok()?;
        let mut table = SymbolTable::default();
        table.add_bytes(bytes);
        table.sort();
        Some(ObjectNames {
            segments: segments(&object),
            dwarf: None,
            table,
            functions: Functions::default(),
        })
    }

    /// What is at a position of the file.
    pub fn names(&self, at: u64) -> AddressNames {
        let inside = |s: &&Segment| at >= s.offset && at - s.offset < s.size;
        let Some(segment) = self.segments.iter().find(inside) else {
            return unknown(at, "the position lies outside the file's loaded parts");
        };
        // The last address of all is none that code can lie at: those who look it up ask for what ends behind it.
        let address = segment.address.checked_add(at - segment.offset);
        let Some(address) = address.filter(|&a| a < u64::MAX) else {
            return unknown(at, "the file's loaded parts reach beyond the end of memory");
        };
        let frames = self.frames(address);
        if frames.is_empty() {
            return match self.functions.begin(address) {
                Some(begin) => made(at, begin),
                None => unknown(at, "no symbol covers it: the file is stripped"),
            };
        }
        AddressNames {
            at,
            frames,
            why: None,
        }
    }

    /// The frames at an address, inlined ones first; the symbol table names what DWARF does not.
    fn frames(&self, address: u64) -> Vec<NamedFrame> {
        let dwarf = self.dwarf.as_ref();
        let mut found = dwarf.map(|d| d.frames(address)).unwrap_or_default();
        let symbol = || {
            let name = self.table.name(address)?;
            Some(demangle_auto(Cow::Owned(name), None).into_owned())
        };
        match found.last_mut() {
            Some(last) if last.name.is_empty() => last.name = symbol().unwrap_or_default(),
            Some(last) if is_bare(&last.name) => {
                // A library's own name for what it hands out: `__GI___libc_read` for `read`.
                let inner = last.name.starts_with('_');
                let better = |s: &String| {
                    s.contains("::") || (inner && !s.is_empty() && !s.starts_with('_'))
                };
                if let Some(full) = symbol().filter(better) {
                    last.name = full;
                }
            }
            Some(_) => {}
            None => found.extend(symbol().map(|name| NamedFrame {
                name,
                ..NamedFrame::default()
            })),
        }
        found.retain(|f| !f.name.is_empty());
        found
    }
}

/// A name for a function of which no more is known than where it begins.
fn made(at: u64, begin: u64) -> AddressNames {
    let name = format!("fun_{begin:x}");
    AddressNames {
        why: Some("the file is stripped: its unwind table tells where the function begins".into()),
        ..named(at, &name)
    }
}

/// Whether a name lacks the path in front of it, as where there are line tables and no more.
fn is_bare(name: &str) -> bool {
    let function = name.split('<').next().unwrap_or_default();
    !function.is_empty() && !function.contains("::")
}

fn segments<'a, R: ReadRef<'a>>(object: &object::File<'a, R>) -> Vec<Segment> {
    let segment = |s: object::Segment<'a, '_, R>| {
        let (offset, size) = s.file_range();
        Segment {
            offset,
            size,
            address: s.address(),
        }
    };
    object.segments().map(segment).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    /// A library with symbols, lines and inlined functions.
    const LIBRARY: &[u8] = include_bytes!("../../../fuzz/seeds/symbols/library-with-lines");

    /// How many of a file's positions have a name from a symbol, each of the others a reason; `None` if it is refused.
    fn named(bytes: &[u8]) -> Option<usize> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let path = Path::new("/no/such/library");
        let names = ObjectNames::read(&file, path, &Folders::default()).ok()?;
        let at = (0..bytes.len() as u64).step_by(16).chain([u64::MAX]);
        let names: Vec<_> = at.map(|at| names.names(at)).collect();
        assert!(
            names
                .iter()
                .all(|n| n.why.is_some() || !n.frames.is_empty())
        );
        Some(names.iter().filter(|n| n.why.is_none()).count())
    }

    /// The library itself is read.
    #[test]
    fn library() {
        assert!(named(LIBRARY).is_some_and(|n| n > 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Bytes of a library that are changed and cut anywhere, in its headers, tables and debug information, are read or
        /// refused.
        #[test]
        fn damaged(
            changes in prop::collection::vec((0..LIBRARY.len(), any::<u8>()), 0..20),
            cut in 0..=LIBRARY.len(),
        ) {
            let mut bytes = LIBRARY.to_vec();
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            named(&bytes);
            bytes.truncate(cut);
            named(&bytes);
        }
    }
}
