//! Names of addresses in files: symbol tables, DWARF lines and inlined functions, Rust and C++ names made readable.
//!
//! In: a mapping and positions in its file; out: the frames at each, or why there are none. A file whose build id is
//! not the recorded one is never believed.

mod debug;
mod dwarf;
mod functions;
mod object;
mod perfmap;
mod section;
mod stubs;
mod table;
pub mod vdso;

use self::object::ObjectNames;
use super::files::{Folders, MappedFiles, is_file};
use super::kernel::KernelSymbols;
use crate::trace::record::{AddressNames, Mapping, NamedFrame, Pid, Symbols};
use ::object::{Object, ReadRef};
pub use perfmap::PerfMap;
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Names addresses from the files of this machine.
#[derive(Default)]
pub struct LocalSymbols {
    files: MappedFiles,
    objects: HashMap<(String, String), Result<ObjectNames, String>>,
    kernel: Option<KernelSymbols>,
    makers: HashMap<Pid, Maker>,
}

/// A process that makes code: where its map of names is when it has ended.
struct Maker {
    owner: u32,
    /// Its number in its own namespace.
    number: Pid,
    /// Its `/tmp`.
    folder: Option<File>,
    names: Option<PerfMap>,
}

impl LocalSymbols {
    /// For use while the recorded processes' files are in place: a file without a build id is believed.
    pub fn while_recording() -> LocalSymbols {
        LocalSymbols {
            files: MappedFiles::while_recording(),
            ..LocalSymbols::default()
        }
    }

    /// For use at any later time: only files with the recorded build id are believed.
    pub fn afterwards() -> LocalSymbols {
        LocalSymbols::default()
    }

    /// The same; files are looked for in these places too.
    #[must_use]
    pub fn with_folders(mut self, folders: Folders) -> LocalSymbols {
        self.files.folders = folders;
        self
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

    /// Whether there is nothing left to open for a mapping.
    pub fn holds(&self, mapping: &Mapping) -> bool {
        let made = mapping.is_made();
        self.files.holds(mapping) && (!made || self.makers.contains_key(&mapping.pid))
    }

    /// Opens what a mapping's names will come from, as long as its process is there.
    pub fn hold(&mut self, mapping: &Mapping) {
        if mapping.pid == Mapping::KERNEL {
            return;
        }
        self.files.hold(mapping);
        if mapping.is_made() {
            let pid = mapping.pid;
            self.makers.entry(pid).or_insert_with(|| Maker::of(pid));
        }
    }

    /// The files that are held.
    pub fn files(&self) -> &MappedFiles {
        &self.files
    }

    /// The names at positions `at` of a mapping's file (of kernel mappings: at addresses).
    pub fn names(&mut self, mapping: &Mapping, at: &[u64]) -> Symbols {
        let (path, build_id) = mapping.key();
        let addresses = if let Some(name) = mapping.made_by_kernel() {
            at.iter().map(|&at| named(at, name)).collect()
        } else if mapping.pid == Mapping::KERNEL {
            let kernel = self.kernel.get_or_insert_with(KernelSymbols::read_live);
            let name = |&at: &u64| kernel.name(&mapping.path, at);
            at.iter().map(name).collect()
        } else if mapping.is_made() {
            self.made(mapping, at)
        } else {
            match self.object(mapping) {
                Ok(object) => at.iter().map(|&at| object.names(at)).collect(),
                Err(why) => at.iter().map(|&at| unknown(at, why)).collect(),
            }
        };
        Symbols {
            path,
            build_id,
            addresses,
        }
    }

    fn object(&mut self, mapping: &Mapping) -> Result<&ObjectNames, &str> {
        let files = &self.files;
        let entry = self.objects.entry(mapping.key());
        let entry = entry.or_insert_with(|| open(mapping, files));
        entry.as_ref().map_err(String::as_str)
    }

    /// Names of code that no file holds.
    fn made(&mut self, mapping: &Mapping, at: &[u64]) -> Vec<AddressNames> {
        if !self.files.believes_names {
            let why = "the names of code that the program made were not recorded";
            return at.iter().map(|&at| unknown(at, why)).collect();
        }
        let pid = mapping.pid;
        let maker = self.makers.entry(pid).or_insert_with(|| Maker::of(pid));
        let names = maker.names();
        at.iter().map(|&at| names.names(at)).collect()
    }
}

impl Maker {
    fn of(pid: Pid) -> Maker {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = |name| status.lines().find_map(|l| l.strip_prefix(name));
        let last = |text: &str| text.split_whitespace().next_back()?.parse().ok();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(CWD, format!("/proc/{pid}/root/tmp"), flags, Mode::empty());
        let owner = std::fs::metadata(format!("/proc/{pid}"));
        Maker {
            owner: owner.map_or_else(|_| rustix::process::geteuid().as_raw(), |m| m.uid()),
            number: line("NSpid:").and_then(last).unwrap_or(pid),
            folder: folder.ok().map(File::from),
            names: None,
        }
    }

    fn names(&mut self) -> &PerfMap {
        let Maker {
            owner,
            number,
            folder,
            names,
        } = self;
        names.get_or_insert_with(|| {
            let path = PerfMap::path(*number);
            let inside = folder.as_ref().and_then(|folder| {
                let folder = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
                Some(folder.join(path.file_name()?))
            });
            let file = PerfMap::open(inside.as_ref().unwrap_or(&path), *owner);
            file.map(|f| PerfMap::read(&f)).unwrap_or_default()
        })
    }
}

fn named(at: u64, name: &str) -> AddressNames {
    AddressNames {
        at,
        frames: vec![NamedFrame {
            name: name.to_owned(),
            ..NamedFrame::default()
        }],
        why: None,
    }
}

fn unknown(at: u64, why: &str) -> AddressNames {
    AddressNames {
        at,
        frames: Vec::new(),
        why: Some(why.to_owned()),
    }
}

fn open(mapping: &Mapping, files: &MappedFiles) -> Result<ObjectNames, String> {
    let path = mapping.path.as_str();
    if path == "[vdso]" {
        if !files.believes_names {
            return Err("the vdso's names were not recorded".into());
        }
        let bytes = vdso::bytes().and_then(|b| ObjectNames::of_bytes(&b));
        return bytes.ok_or_else(|| "the vdso could not be read".into());
    }
    if !is_file(path) {
        return Err("the memory belongs to no file".into());
    }
    let file = files.open(mapping).map_err(|e| e.to_string())?;
    ObjectNames::read(&file, Path::new(path), &files.folders).map_err(|e| e.to_string())
}

/// An object's build id in the usual digits; empty if it has none.
pub fn build_id<'a, R: ReadRef<'a>>(object: &::object::File<'a, R>) -> String {
    let id = object.build_id().ok().flatten().unwrap_or_default();
    id.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Avma, FileOffset};
    use ::object::ObjectSymbol;
    use ::object::ReadCache;

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
        build_id(&::object::File::parse(&cache).unwrap())
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
        assert!(frame.file.ends_with("symbol/mod.rs"), "{frame:?}");
        assert!(frame.line > 200, "{frame:?}");
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
            ("//anon", "code that the program made"),
            ("/proc/self/maps", "/proc/self/maps"),
            ("/", "regular file"),
        ] {
            mapping.path = path.into();
            assert!(why(&mapping).contains(word), "{path}: {}", why(&mapping));
        }
    }

    /// Code that the kernel made has the name that came with it; a module's file is none.
    #[test]
    fn made_by_the_kernel() {
        let mut mapping = Mapping {
            pid: Mapping::KERNEL,
            path: "bpf_prog_7be49e3934a125ba_filter".to_owned(),
            ..Mapping::default()
        };
        let symbols = LocalSymbols::while_recording().names(&mapping, &[0xffff_ffff_c000_0010]);
        assert_eq!(symbols.addresses[0].frames[0].name, mapping.path);
        for path in ["[nf_tables]", "/lib/modules/x/nf_tables.ko", ""] {
            path.clone_into(&mut mapping.path);
            assert_eq!(mapping.made_by_kernel(), None, "{path}");
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
        let Some(bytes) = vdso::bytes() else {
            println!("left out: this kernel gives this process no vdso");
            return;
        };
        let object = ::object::File::parse(bytes.as_slice()).unwrap();
        let mut functions = object.dynamic_symbols();
        let is_clock = |s: &::object::Symbol| s.name().is_ok_and(|n| n.contains("clock_gettime"));
        let clock = functions.find(is_clock).unwrap();
        let names = ObjectNames::of_bytes(&bytes).unwrap();
        let found = names.names(clock.address());
        assert!(found.frames[0].name.contains("clock_gettime"), "{found:?}");
    }
}
