//! Names of addresses in files: symbol tables, DWARF lines and inlined functions, Rust and C++ names made readable.
//!
//! In: a mapping and positions in its file; out: the frames at each, or why there are none. A file whose build id is
//! not the recorded one is never believed. Debug information in a file of its own is looked for in the places that
//! distributions use: next to the file, in `.debug`, and under `/usr/lib/debug` by path and by build id.

use super::kernel::KernelSymbols;
use crate::trace::file::open_regular;
use crate::trace::record::{AddressNames, Mapping, NamedFrame, Symbols};
use addr2line::Loader;
use object::{Object, ObjectSegment, ObjectSymbol, ReadCache, ReadRef};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Why a file names nothing.
#[derive(Debug, thiserror::Error)]
pub enum SymbolError {
    /// It cannot be opened or read.
    #[error("{} could not be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not an object file.
    #[error("{} is not an object file: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It is another build than the one that ran.
    #[error("{} has build id {found}, the one that ran had {wanted}", path.display())]
    OtherBuild {
        /// The file.
        path: PathBuf,
        /// Its build id, or `none`.
        found: String,
        /// The recorded one, or `none`.
        wanted: String,
    },
}

/// Names addresses from the files of this machine.
pub struct LocalSymbols {
    need_build_ids: bool,
    objects: HashMap<(String, String), Result<ObjectNames, String>>,
    kernel: Option<KernelSymbols>,
}

impl LocalSymbols {
    /// For use while the recorded processes' files are in place: a file without a build id is believed.
    pub fn while_recording() -> LocalSymbols {
        LocalSymbols {
            need_build_ids: false,
            objects: HashMap::new(),
            kernel: None,
        }
    }

    /// For use at any later time: only files with the recorded build id are believed.
    pub fn afterwards() -> LocalSymbols {
        LocalSymbols {
            need_build_ids: true,
            ..LocalSymbols::while_recording()
        }
    }

    /// The same; the kernel's names are believed only if the one that runs is of this release and its text begins here:
    /// where addresses are random, they differ after a restart.
    #[must_use]
    pub fn kernel_at(mut self, release: &str, text: Option<u64>) -> LocalSymbols {
        let kernel = KernelSymbols::read_live();
        let runs = std::fs::read_to_string("/proc/sys/kernel/osrelease");
        let same =
            runs.is_ok_and(|r| r.trim() == release) && text.is_some_and(|t| kernel.begins_at(t));
        self.kernel = Some(match same {
            true => kernel,
            false => KernelSymbols::of_another(),
        });
        self
    }

    /// The names at positions `at` of a mapping's file (of kernel mappings: at addresses).
    pub fn names(&mut self, mapping: &Mapping, at: &[u64]) -> Symbols {
        let addresses = if mapping.pid == Mapping::KERNEL {
            let kernel = self.kernel.get_or_insert_with(KernelSymbols::read_live);
            at.iter().map(|&at| kernel.name(at)).collect()
        } else {
            match self.object(mapping) {
                Ok(object) => at.iter().map(|&at| object.names(at)).collect(),
                Err(why) => at.iter().map(|&at| unknown(at, why)).collect(),
            }
        };
        Symbols {
            path: mapping.path.clone(),
            build_id: mapping.build_id.clone(),
            addresses,
        }
    }

    fn object(&mut self, mapping: &Mapping) -> Result<&ObjectNames, &str> {
        let key = (mapping.path.clone(), mapping.build_id.clone());
        let need = self.need_build_ids;
        let entry = self
            .objects
            .entry(key)
            .or_insert_with(|| open(mapping, need));
        entry.as_ref().map_err(String::as_str)
    }
}

fn unknown(at: u64, why: &str) -> AddressNames {
    AddressNames {
        at,
        frames: Vec::new(),
        why: Some(why.to_owned()),
    }
}

fn open(mapping: &Mapping, need_build_id: bool) -> Result<ObjectNames, String> {
    let path = mapping.path.as_str();
    if path == "[vdso]" {
        return if need_build_id {
            Err("the vdso's names were not recorded".into())
        } else {
            vdso().ok_or_else(|| "the vdso could not be read".into())
        };
    }
    if !path.starts_with('/') || path.starts_with("//") || path.starts_with("/memfd:") {
        return Err("the memory belongs to no file".into());
    }
    let wanted = mapping.build_id.as_str();
    if need_build_id && wanted.is_empty() {
        return Err(format!(
            "{path} has no build id, so a file of that name may be another one: link with -Wl,--build-id"
        ));
    }
    // A process in a container sees other files than we do.
    let inside = PathBuf::from(format!("/proc/{}/root{path}", mapping.pid));
    let mut error = match ObjectNames::open(Path::new(path), wanted) {
        Ok(names) => return Ok(names),
        Err(error) => error,
    };
    if !need_build_id && inside.exists() {
        match ObjectNames::open(&inside, wanted) {
            Ok(names) => return Ok(names),
            Err(inner) => error = inner,
        }
    }
    Err(error.to_string())
}

/// Does something with the file of a mapping, if it is the one that ran.
pub(super) fn with_object<T>(
    mapping: &Mapping,
    act: impl FnOnce(&object::File<'_, &ReadCache<File>>) -> T,
) -> Result<T, String> {
    let path = mapping.path.as_str();
    if !path.starts_with('/') || path.starts_with("//") || path.starts_with("/memfd:") {
        return Err("the memory belongs to no file".into());
    }
    let path = Path::new(path);
    let (file, found) = open_object(path, &mapping.build_id).map_err(|e| e.to_string())?;
    let cache = ReadCache::new(file);
    let object = object::File::parse(&cache);
    let object = object.map_err(|e| format!("{} ({found}): {e}", path.display()))?;
    Ok(act(&object))
}

/// Opens an object file and checks its build id, which it gives too; an empty one is not asked for.
fn open_object(path: &Path, wanted: &str) -> Result<(File, String), SymbolError> {
    let read = |source| SymbolError::Read {
        path: path.to_owned(),
        source,
    };
    let format = |reason: String| SymbolError::Format {
        path: path.to_owned(),
        reason,
    };
    let file = open_regular(path).map_err(read)?;
    let cache = ReadCache::new(&file);
    let object = object::File::parse(&cache).map_err(|e| format(e.to_string()))?;
    let found = build_id(&object);
    if !wanted.is_empty() && found != wanted {
        let or_none = |id: &str| if id.is_empty() { "none" } else { id }.to_owned();
        return Err(SymbolError::OtherBuild {
            path: path.to_owned(),
            found: or_none(&found),
            wanted: or_none(wanted),
        });
    }
    Ok((file, found))
}

/// The part of a file that was mapped: where it lies in the file and in its own address space.
struct Segment {
    offset: u64,
    size: u64,
    address: u64,
}

enum Source {
    /// The file itself, and the file with its debug information if that is another one.
    Files {
        own: Box<Loader>,
        debug: Option<Box<Loader>>,
    },
    /// A symbol table alone: start, size, name.
    Table(Vec<(u64, u64, String)>),
}

/// One object file ready to answer.
struct ObjectNames {
    segments: Vec<Segment>,
    source: Source,
}

impl ObjectNames {
    fn open(path: &Path, wanted: &str) -> Result<ObjectNames, SymbolError> {
        let format = |reason: String| SymbolError::Format {
            path: path.to_owned(),
            reason,
        };
        let (file, found) = open_object(path, wanted)?;
        let cache = ReadCache::new(&file);
        let object = object::File::parse(&cache).map_err(|e| format(e.to_string()))?;
        let own = load(&file).map_err(format)?;
        let debug = debug_file(path, &object, &found).and_then(|file| load(&file).ok());
        Ok(ObjectNames {
            segments: segments(&object),
            source: Source::Files {
                own: Box::new(own),
                debug: debug.map(Box::new),
            },
        })
    }

    fn names(&self, at: u64) -> AddressNames {
        let inside = |s: &&Segment| at >= s.offset && at - s.offset < s.size;
        let Some(segment) = self.segments.iter().find(inside) else {
            return unknown(at, "the position lies outside the file's loaded parts");
        };
        // The last address of all is none that code can lie at: those who look it up ask for what ends behind it.
        let address = segment.address.checked_add(at - segment.offset);
        let Some(address) = address.filter(|&a| a < u64::MAX) else {
            return unknown(at, "the file's loaded parts reach beyond the end of memory");
        };
        let frames = match &self.source {
            Source::Files { own, debug } => {
                let from_debug = debug.as_ref().map(|d| frames(d, address));
                let found = from_debug.filter(|f| !f.is_empty());
                found.unwrap_or_else(|| frames(own, address))
            }
            Source::Table(table) => {
                let after = table.partition_point(|s| s.0 <= address);
                let found = after.checked_sub(1).map(|i| &table[i]);
                let found = found.filter(|s| address - s.0 < s.1);
                found
                    .map(|s| NamedFrame {
                        name: s.2.clone(),
                        ..NamedFrame::default()
                    })
                    .into_iter()
                    .collect()
            }
        };
        if frames.is_empty() {
            return unknown(at, "no symbol covers it: the file is stripped");
        }
        AddressNames {
            at,
            frames,
            why: None,
        }
    }
}

/// The frames at an address, inlined ones first; the symbol table names what DWARF does not.
fn frames(loader: &Loader, address: u64) -> Vec<NamedFrame> {
    let mut found = Vec::new();
    if let Ok(mut frames) = loader.find_frames(address) {
        // The iterator ends at the outermost function; damaged DWARF ends it early, which loses names but no address.
        while let Ok(Some(frame)) = frames.next() {
            let name = frame.function.as_ref();
            let name = name.and_then(|f| f.demangle().ok().map(Cow::into_owned));
            let location = frame.location.as_ref();
            found.push(NamedFrame {
                name: name.unwrap_or_default(),
                file: location.and_then(|l| l.file).unwrap_or("").to_owned(),
                line: location.and_then(|l| l.line).unwrap_or(0),
            });
        }
    }
    let symbol = || {
        let name = loader.find_symbol(address)?;
        Some(addr2line::demangle_auto(Cow::Borrowed(name), None).into_owned())
    };
    match found.last_mut() {
        Some(last) if last.name.is_empty() => last.name = symbol().unwrap_or_default(),
        Some(last) if is_bare(&last.name) => {
            if let Some(full) = symbol().filter(|s| s.contains("::")) {
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

/// Whether a name lacks the path in front of it, as where there are line tables and no more.
fn is_bare(name: &str) -> bool {
    let function = name.split('<').next().unwrap_or_default();
    !function.is_empty() && !function.contains("::")
}

fn build_id<'a, R: ReadRef<'a>>(object: &object::File<'a, R>) -> String {
    let id = object.build_id().ok().flatten().unwrap_or_default();
    id.iter().map(|b| format!("{b:02x}")).collect()
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

/// The file with the debug information of `object`, if it has none itself and there is one with the same build id.
fn debug_file<'a, R: ReadRef<'a>>(
    path: &Path,
    object: &object::File<'a, R>,
    build_id: &str,
) -> Option<File> {
    if object.section_by_name(".debug_info").is_some() || build_id.len() < 3 {
        return None;
    }
    let mut candidates = vec![PathBuf::from(format!(
        "/usr/lib/debug/.build-id/{}/{}.debug",
        &build_id[..2],
        &build_id[2..]
    ))];
    if let (Ok(Some((name, _))), Some(dir)) = (object.gnu_debuglink(), path.parent()) {
        let name = String::from_utf8_lossy(name).into_owned();
        if !name.contains('/') {
            let below = dir.strip_prefix("/").unwrap_or(dir);
            candidates.push(dir.join(&name));
            candidates.push(dir.join(".debug").join(&name));
            candidates.push(Path::new("/usr/lib/debug").join(below).join(&name));
        }
    }
    candidates.into_iter().find_map(|candidate| {
        let file = open_regular(&candidate).ok()?;
        let cache = ReadCache::new(&file);
        let same = object::File::parse(&cache).is_ok_and(|o| self::build_id(&o) == build_id);
        drop(cache);
        same.then_some(file)
    })
}

/// Reads the symbols of a file that is open: its path may lead to another one by now.
fn load(file: &File) -> Result<Loader, String> {
    Loader::new(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(|e| e.to_string())
}

/// The vdso as this process sees it: the kernel maps the same one into all processes of an architecture.
fn vdso() -> Option<ObjectNames> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|l| l.ends_with("[vdso]"))?;
    let (start, end) = line.split_ascii_whitespace().next()?.split_once('-')?;
    let start = u64::from_str_radix(start, 16).ok()?;
    let end = u64::from_str_radix(end, 16).ok()?;
    let mut memory = File::open("/proc/self/mem").ok()?;
    memory.seek(SeekFrom::Start(start)).ok()?;
    let mut bytes = Vec::new();
    let len = end.checked_sub(start)?.min(1 << 20);
    memory.take(len).read_to_end(&mut bytes).ok()?;
    let object = object::File::parse(bytes.as_slice()).ok()?;
    let functions = object.dynamic_symbols().filter(|s| s.is_definition());
    let mut table: Vec<_> = functions
        .filter_map(|s| Some((s.address(), s.size(), s.name().ok()?.to_owned())))
        .collect();
    table.sort();
    Some(ObjectNames {
        segments: segments(&object),
        source: Source::Table(table),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Avma, FileOffset};

    #[inline(never)]
    fn marker_function(x: u64) -> u64 {
        std::hint::black_box(x) + 1
    }

    /// The mapping of this test's own code, as a recorder would describe it.
    fn own_mapping(address: u64) -> Mapping {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let parsed = maps.lines().map(|line| {
            let words: Vec<_> = line.split_ascii_whitespace().collect();
            let (start, end) = words[0].split_once('-').unwrap();
            let number = |s| u64::from_str_radix(s, 16).unwrap();
            Mapping {
                pid: std::process::id(),
                start: Avma(number(start)),
                len: number(end) - number(start),
                offset: FileOffset(number(words[2])),
                path: words.get(5).map_or("", |p| p).to_string(),
                ..Mapping::default()
            }
        });
        let mut parsed = parsed;
        let holds = |m: &Mapping| address >= m.start.0 && address - m.start.0 < m.len;
        parsed.find(holds).unwrap()
    }

    fn own_build_id() -> String {
        let cache = ReadCache::new(File::open("/proc/self/exe").unwrap());
        build_id(&object::File::parse(&cache).unwrap())
    }

    /// A function of this program is found with its name, file and line.
    #[test]
    fn own_function() {
        let address = marker_function as fn(u64) -> u64 as usize as u64;
        assert_eq!(marker_function(1), 2);
        let mapping = own_mapping(address);
        let symbols = LocalSymbols::while_recording().names(&mapping, &[mapping.position(address)]);
        let names = &symbols.addresses[0];
        let frame = names.frames.last().unwrap_or_else(|| panic!("{names:?}"));
        assert!(frame.name.ends_with("::marker_function"), "{frame:?}");
        assert!(frame.file.ends_with("symbol.rs"), "{frame:?}");
        assert!(frame.line > 300, "{frame:?}");
    }

    /// A file that is not the one that ran is not believed, and neither is one that cannot prove it is.
    #[test]
    fn other_build() {
        let address = marker_function as fn(u64) -> u64 as usize as u64;
        let mut mapping = own_mapping(address);
        let why = |mapping: &Mapping| {
            let symbols = LocalSymbols::afterwards().names(mapping, &[mapping.offset.0 + 16]);
            symbols.addresses[0].why.clone().unwrap_or_default()
        };
        assert!(why(&mapping).contains("build id"), "{}", why(&mapping));
        mapping.build_id = "00ff".into();
        assert!(
            why(&mapping).contains("the one that ran had 00ff"),
            "{}",
            why(&mapping)
        );
        mapping.build_id = own_build_id();
        if !mapping.build_id.is_empty() {
            assert!(!why(&mapping).contains("build id"), "{}", why(&mapping));
        }
        for (path, word) in [
            ("/nonexistent/file", "could not be read"),
            ("//anon", "belongs to no file"),
            ("/proc/self/maps", "/proc/self/maps"),
            ("/", "regular file"),
        ] {
            mapping.path = path.into();
            assert!(why(&mapping).contains(word), "{path}: {}", why(&mapping));
        }
    }

    /// Without symbols there is no name but a reason, not the nearest function that happens to be exported.
    #[test]
    fn uncovered_is_unknown() {
        let address = marker_function as fn(u64) -> u64 as usize as u64;
        let mapping = own_mapping(address);
        let symbols = LocalSymbols::while_recording().names(&mapping, &[u64::MAX, 1]);
        assert!(
            symbols
                .addresses
                .iter()
                .all(|a| a.frames.is_empty() == a.why.is_some())
        );
        assert!(symbols.addresses[0].why.is_some());
    }

    /// The vdso has names while recording.
    #[test]
    fn vdso_names() {
        let Some(vdso) = vdso() else {
            println!("skipped: this kernel gives this process no vdso");
            return;
        };
        let Source::Table(table) = &vdso.source else {
            panic!("the vdso is no file");
        };
        assert!(
            table.iter().any(|s| s.2.contains("clock_gettime")),
            "{table:?}"
        );
    }
}
