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
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Most that is unpacked of symbols in a program.
const MAX_PACKED: u64 = 256 << 20;
/// Memory that unpacking may take, in KiB: `xz -9` asks for 64 MiB and some.
const MAX_UNPACKING: u32 = 80 << 10;
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
    unpacked(&section::read(file, object, ".gnu_debugdata")?).ok()
}

fn unpacked(packed: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let reader = XzReader::new_mem_limit(packed, false, MAX_UNPACKING);
    reader.take(MAX_PACKED).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The beginning of a packed file that asks for memory: its dictionary is 2 or 3 times a power of two.
    fn asks_for(dictionary: u8) -> io::ErrorKind {
        let sum = |bytes: &[u8]| crc32fast::hash(bytes).to_le_bytes();
        let (flags, block) = ([0, 1], [2, 0, 0x21, 1, dictionary, 0, 0, 0]);
        let begin = b"\xfd7zXZ\0".as_slice();
        let file = [begin, &flags, &sum(&flags), &block, &sum(&block)].concat();
        unpacked(&file).unwrap_err().kind()
    }

    /// No file makes room for more than a packer would ask for.
    #[test]
    fn memory_for_unpacking() {
        assert_eq!(asks_for(28), io::ErrorKind::UnexpectedEof);
        assert_eq!(asks_for(40), io::ErrorKind::OutOfMemory);
    }
}
