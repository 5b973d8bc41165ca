//! Sections of an object file as bytes that can be shared, unpacked if they are compressed.
//!
//! In: an open file; out: a section's bytes. No more is read than the file holds, and no more is unpacked than
//! compression can have made small.

use object::{CompressionFormat, Object, ObjectSection, ReadRef};
use std::borrow::Cow;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

/// What data shrinks to at best: deflate makes no more than this out of a byte.
const BEST_RATIO: u64 = 1032;

/// A section's bytes; `None` if it is not there, damaged, or too large to be true.
pub fn read<'a, R: ReadRef<'a>>(
    file: &File,
    object: &object::File<'a, R>,
    name: &str,
) -> Option<Rc<[u8]>> {
    let section = object.section_by_name(name)?;
    let range = section.compressed_file_range().ok()?;
    let length = file.metadata().ok()?.len();
    let inside = range.offset.checked_add(range.compressed_size)? <= length;
    let possible = range.compressed_size.saturating_mul(BEST_RATIO);
    if !inside || range.uncompressed_size > possible {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(range.compressed_size).ok()?];
    file.read_exact_at(&mut bytes, range.offset).ok()?;
    if range.format == CompressionFormat::None {
        return Some(Rc::from(bytes));
    }
    let packed = object::CompressedData {
        format: range.format,
        data: &bytes,
        uncompressed_size: range.uncompressed_size,
    };
    packed.decompress().ok().map(Cow::into_owned).map(Rc::from)
}
