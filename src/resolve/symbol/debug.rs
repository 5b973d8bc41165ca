//! Where a stripped program's debug information lies.
//!
//! In: an object file without; out: the file with it, if there is one of the same build: by build id and by
//! `.gnu_debuglink` next to the program, in `.debug`, and in the trees that distributions and users keep; and the symbols
//! that a distribution packed into the program itself (`.gnu_debugdata`).

use super::section;
use crate::resolve::files::{build_id_path, open_object};
use lzma_rust2::XzReader;
use object::{Object, ReadRef};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Most that is unpacked of symbols in a program.
const MAX_PACKED: u64 = 256 << 20;
/// What is read at a time for a checksum.
const PIECE: usize = 1 << 16;

/// The file with the debug information of `object`, and its name. `names`: those of the program.
pub fn file<'a, R: ReadRef<'a>>(
    names: &[PathBuf],
    object: &object::File<'a, R>,
    build_id: &str,
    folders: &[PathBuf],
) -> Option<(File, PathBuf)> {
    let opened = |path: PathBuf| Some((open_object(&path, build_id).ok()?, path));
    if let Some(below) = build_id_path(build_id, ".debug") {
        let mut trees = folders.iter().map(|f| f.join(&below));
        if let Some(found) = trees.find_map(opened) {
            return Some(found);
        }
    }
    let (link, sum) = object.gnu_debuglink().ok()??;
    let link = Path::new(OsStr::from_bytes(link));
    // A name, not a way to somewhere else.
    if link.file_name() != Some(link.as_os_str()) {
        return None;
    }
    let near = names.iter().filter_map(|n| n.parent()).flat_map(|dir| {
        let below = dir.strip_prefix("/").unwrap_or(dir);
        let trees = folders.iter().flat_map(move |f| [f.join(below), f.clone()]);
        [dir.to_owned(), dir.join(".debug")]
            .into_iter()
            .chain(trees)
    });
    near.map(|dir| dir.join(link)).find_map(|path| {
        if !build_id.is_empty() {
            return opened(path);
        }
        // Without a build id the checksum tells.
        let (file, path) = (open_object(&path, "").ok()?, path);
        (checksum(&file)? == sum).then_some((file, path))
    })
}

fn checksum(file: &File) -> Option<u32> {
    let mut hasher = crc32fast::Hasher::new();
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    loop {
        let read = file.read_at(&mut piece, at).ok()?;
        if read == 0 {
            return Some(hasher.finalize());
        }
        hasher.update(&piece[..read]);
        at += read as u64;
    }
}

/// An object file with symbols that is packed into a program.
pub fn packed<'a, R: ReadRef<'a>>(file: &File, object: &object::File<'a, R>) -> Option<Vec<u8>> {
    let packed = section::read(file, object, ".gnu_debugdata")?;
    let mut bytes = Vec::new();
    let unpacked = XzReader::new(&*packed, false).take(MAX_PACKED);
    unpacked.take(MAX_PACKED).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
