//! DWARF of one program: lines and inlined functions at an address, wherever the compiler put them.
//!
//! In: the file with `.debug_info`, and ways to others; out: frames. Skeletons find their rest in a package beside the file
//! (`.dwp`), or in the files that the compiler left (`.dwo`); what several files share is in a third one (dwz). Each is
//! believed if its number is the one that is asked for.

use super::section;
use crate::resolve::files::open_object;
use crate::trace::file::open_regular;
use crate::trace::record::NamedFrame;
use addr2line::gimli::{self, EndianRcSlice, RunTimeEndian, SectionId};
use addr2line::{Context, LookupContinuation, LookupResult, SplitDwarfLoad};
use object::{Object, ReadCache, ReadRef};
use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

type Bytes = EndianRcSlice<RunTimeEndian>;

/// The debug information of a file.
pub struct Dwarf {
    context: Context<Bytes>,
    package: Option<gimli::DwarfPackage<Bytes>>,
    /// Where the program lies: files of its parts are looked for here too.
    beside: Vec<PathBuf>,
}

/// Where other files may lie.
pub struct Beside<'a> {
    /// Names of the program, whose package has the same with `.dwp` behind.
    pub names: &'a [PathBuf],
    /// Trees with debug information.
    pub folders: &'a [PathBuf],
}

fn load<'a, R: ReadRef<'a>>(
    file: &File,
    object: &object::File<'a, R>,
    name: Option<&str>,
) -> Bytes {
    let bytes = name.and_then(|name| section::read(file, object, name));
    let endian = match object.is_little_endian() {
        true => RunTimeEndian::Little,
        false => RunTimeEndian::Big,
    };
    EndianRcSlice::new(bytes.unwrap_or_else(|| Rc::from([])), endian)
}

impl Dwarf {
    /// Of a file that has some.
    pub fn read<'a, R: ReadRef<'a>>(
        file: &File,
        object: &object::File<'a, R>,
        beside: &Beside,
    ) -> Option<Dwarf> {
        object.section_by_name(".debug_info")?;
        let section = |id: SectionId| Ok(load(file, object, wanted(id).then(|| id.name())));
        let mut dwarf = gimli::Dwarf::load::<_, gimli::Error>(section).ok()?;
        if let Some(shared) = shared(object, beside) {
            let cache = ReadCache::new(&shared);
            if let Ok(object) = object::File::parse(&cache) {
                let section = |id: SectionId| Ok(load(&shared, &object, Some(id.name())));
                dwarf.load_sup::<_, gimli::Error>(section).ok()?;
            }
        }
        dwarf.populate_abbreviations_cache(gimli::AbbreviationsCacheStrategy::Duplicates);
        let parents = beside.names.iter().filter_map(|n| n.parent());
        Some(Dwarf {
            context: Context::from_dwarf(dwarf).ok()?,
            package: beside.names.iter().find_map(|name| package(name)),
            beside: parents.map(Path::to_owned).collect(),
        })
    }

    /// The frames at an address, inlined ones first; some may have no name.
    pub fn frames(&self, address: u64) -> Vec<NamedFrame> {
        let mut lookup = self.context.find_frames(address);
        let found = loop {
            match lookup {
                LookupResult::Output(found) => break found,
                LookupResult::Load { load, continuation } => {
                    lookup = continuation.resume(self.part(&load));
                }
            }
        };
        let Ok(mut found) = found else {
            return Vec::new();
        };
        let mut frames = Vec::new();
        // The iterator ends at the outermost function; damaged DWARF ends it early, which loses names but no address.
        while let Ok(Some(frame)) = found.next() {
            let name = frame.function.as_ref();
            let name = name.and_then(|f| f.demangle().ok().map(Cow::into_owned));
            let location = frame.location.as_ref();
            frames.push(NamedFrame {
                name: name.unwrap_or_default(),
                file: location.and_then(|l| l.file).unwrap_or("").to_owned(),
                line: location.and_then(|l| l.line).unwrap_or(0),
            });
        }
        frames
    }

    /// The rest of a unit whose skeleton the file has.
    #[expect(
        clippy::arc_with_non_send_sync,
        reason = "the crate takes this form only"
    )]
    fn part(&self, load: &SplitDwarfLoad<Bytes>) -> Option<Arc<gimli::Dwarf<Bytes>>> {
        let packed = self.package.as_ref();
        let packed = packed.and_then(|p| p.find_cu(load.dwo_id, &load.parent).ok()?);
        if let Some(unit) = packed {
            return Some(Arc::new(unit));
        }
        let path = |bytes: &Bytes| PathBuf::from(OsStr::from_bytes(bytes.bytes()));
        let name = path(load.path.as_ref()?);
        let folder = load.comp_dir.as_ref().map(path);
        let last = name.file_name()?;
        let beside = self
            .beside
            .iter()
            .flat_map(|f| [f.join(&name), f.join(last)]);
        let mut places = folder.map(|f| f.join(&name)).into_iter().chain(beside);
        places.find_map(|path| split(&path, load)).map(Arc::new)
    }
}

/// Variables' places are asked for by nobody here, and their sections are long.
fn wanted(id: SectionId) -> bool {
    !matches!(id, SectionId::DebugLoc | SectionId::DebugLocLists)
}

fn package(program: &Path) -> Option<gimli::DwarfPackage<Bytes>> {
    let mut name = program.as_os_str().to_owned();
    name.push(".dwp");
    let file = open_regular(Path::new(&name)).ok()?;
    let cache = ReadCache::new(&file);
    let object = object::File::parse(&cache).ok()?;
    let section = |id: SectionId| Ok::<_, gimli::Error>(load(&file, &object, id.dwo_name()));
    let empty = load(&file, &object, None);
    gimli::DwarfPackage::load(section, empty).ok()
}

fn split(path: &Path, wanted: &SplitDwarfLoad<Bytes>) -> Option<gimli::Dwarf<Bytes>> {
    let file = open_regular(path).ok()?;
    let cache = ReadCache::new(&file);
    let object = object::File::parse(&cache).ok()?;
    let section = |id: SectionId| Ok::<_, gimli::Error>(load(&file, &object, id.dwo_name()));
    let mut dwarf = gimli::Dwarf::load(section).ok()?;
    let header = dwarf.units().next().ok()??;
    let unit = dwarf.unit(header).ok()?;
    if unit.dwo_id != Some(wanted.dwo_id) {
        return None;
    }
    dwarf.make_dwo(&wanted.parent);
    Some(dwarf)
}

/// The file with what this one shares with others.
fn shared<'a, R: ReadRef<'a>>(object: &object::File<'a, R>, beside: &Beside) -> Option<File> {
    let (name, id) = object.gnu_debugaltlink().ok()??;
    let name = Path::new(OsStr::from_bytes(name));
    let id: String = id.iter().map(|b| format!("{b:02x}")).collect();
    let by_id = crate::resolve::files::build_id_path(&id, ".debug");
    let near = beside
        .names
        .iter()
        .filter_map(|n| Some(n.parent()?.join(name)));
    let trees = beside
        .folders
        .iter()
        .filter_map(|f| Some(f.join(by_id.as_ref()?)));
    near.chain(trees)
        .find_map(|path| open_object(&path, &id).ok())
}
