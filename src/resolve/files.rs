//! The files that were mapped, opened while what was mapped can still be reached.
//!
//! In: mappings; out: open files that are the ones that ran. A process's own list of mappings leads to files that were
//! deleted, replaced, or lie in a container; its root and our own do if the file there is of the recorded build.
//! Whoever calls has the rights of the process's user, if need be.

use super::symbol::vdso;
use super::unwind::FileTables;
use crate::trace::file::open_regular;
use crate::trace::record::Mapping;
use object::ReadCache;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Why a file names nothing.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
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
    /// Nothing tells whether it is the one that ran.
    #[error(
        "{} has no build id, so a file of that name may be another one: link with -Wl,--build-id",
        path.display()
    )]
    NoBuildId {
        /// The file.
        path: PathBuf,
    },
    /// There is none.
    #[error("the memory belongs to no file")]
    NoFile,
}

/// Where files are looked for besides where they were mapped from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folders {
    /// Copies of programs and libraries.
    pub symbols: Vec<PathBuf>,
    /// Files with debug information.
    pub debug: Vec<PathBuf>,
}

/// Most files that are held open.
const MAX_HELD: usize = 8192;

/// Files of mappings.
#[derive(Debug, Default)]
pub struct MappedFiles {
    held: HashMap<(String, String), File>,
    /// Whether a file without a build id is believed: while what is recorded runs.
    pub believes_names: bool,
    /// Where else to look.
    pub folders: Folders,
}

/// Whether a mapping's path is that of a file.
pub fn is_file(path: &str) -> bool {
    path.starts_with('/') && !path.starts_with("//") && !path.starts_with("/memfd:")
}

impl MappedFiles {
    /// For use while what is recorded runs: a file without a build id is believed.
    pub fn while_recording() -> MappedFiles {
        MappedFiles {
            believes_names: true,
            ..MappedFiles::default()
        }
    }

    /// Whether a mapping's file is open already, or none is to be opened for it.
    pub fn holds(&self, mapping: &Mapping) -> bool {
        !is_file(&mapping.path) || self.held.contains_key(&mapping.key())
    }

    /// Opens a mapping's file, as long as the process is there.
    pub fn hold(&mut self, mapping: &Mapping) {
        let key = (mapping.path.clone(), mapping.build_id.clone());
        if !is_file(&mapping.path) || self.held.contains_key(&key) || self.held.len() >= MAX_HELD {
            return;
        }
        let (pid, path) = (mapping.pid, &mapping.path);
        let range = mapping.range();
        let mapped = format!("/proc/{pid}/map_files/{:x}-{:x}", range.start, range.end);
        let inside = format!("/proc/{pid}/root{path}");
        let names = [mapped.as_str(), &inside, path];
        let open = |name: &&str| open_object(Path::new(name), &mapping.build_id).ok();
        if let Some(file) = names.iter().find_map(open) {
            self.held.insert(key, file);
        }
    }

    /// The file of a mapping, if it is the one that ran.
    pub fn open(&self, mapping: &Mapping) -> Result<File, FileError> {
        let (path, wanted) = (Path::new(&mapping.path), mapping.build_id.as_str());
        if !is_file(&mapping.path) {
            return Err(FileError::NoFile);
        }
        let key = (mapping.path.clone(), mapping.build_id.clone());
        if let Some(file) = self.held.get(&key) {
            return file.try_clone().map_err(|source| FileError::Read {
                path: path.to_owned(),
                source,
            });
        }
        let nameless = wanted.is_empty() && !self.believes_names;
        let opened = match nameless {
            false => open_object(path, wanted),
            true => Err(FileError::NoBuildId {
                path: path.to_owned(),
            }),
        };
        let error = match opened {
            Ok(file) => return Ok(file),
            Err(error) => error,
        };
        let below = path.strip_prefix("/").unwrap_or(path);
        let name = path.file_name().unwrap_or_default();
        let folders = self.folders.symbols.iter();
        let mut elsewhere = folders.flat_map(|f| {
            let by_id = build_id_path(wanted, "").map(|p| f.join(p));
            [Some(f.join(below)), Some(f.join(name)), by_id]
        });
        elsewhere
            .find_map(|path| open_object(&path?, wanted).ok())
            .ok_or(error)
    }

    /// Unwind tables of a mapping's file.
    pub fn tables(&self, mapping: &Mapping) -> Option<FileTables> {
        if mapping.path == "[vdso]" {
            let bytes = vdso::bytes()?;
            return FileTables::read(&object::File::parse(bytes.as_slice()).ok()?);
        }
        let cache = ReadCache::new(self.open(mapping).ok()?);
        FileTables::read(&object::File::parse(&cache).ok()?)
    }
}

/// Where a file lies in a tree that is sorted by build ids.
pub fn build_id_path(build_id: &str, ending: &str) -> Option<PathBuf> {
    let (first, rest) = build_id.split_at_checked(2)?;
    let valid = !rest.is_empty() && build_id.bytes().all(|b| b.is_ascii_hexdigit());
    valid.then(|| PathBuf::from(format!(".build-id/{first}/{rest}{ending}")))
}

/// Opens an object file and checks its build id; an empty one is not asked for.
pub fn open_object(path: &Path, wanted: &str) -> Result<File, FileError> {
    let file = open_regular(path).map_err(|source| FileError::Read {
        path: path.to_owned(),
        source,
    })?;
    let cache = ReadCache::new(&file);
    let object = object::File::parse(&cache).map_err(|e| FileError::Format {
        path: path.to_owned(),
        reason: e.to_string(),
    })?;
    let found = super::symbol::build_id(&object);
    if !wanted.is_empty() && found != wanted {
        let or_none = |id: &str| if id.is_empty() { "none" } else { id }.to_owned();
        return Err(FileError::OtherBuild {
            path: path.to_owned(),
            found: or_none(&found),
            wanted: or_none(wanted),
        });
    }
    Ok(file)
}
