//! Probe rings in a core's memory, as files of a session directory.
//!
//! In: a core; out: each ring that its memory holds, found by its first word at the beginning of a page, as a file in an
//! empty directory, and what could not be had. A file takes no more than the core has, a hole at its end aside: what is
//! read from them is checked again like any ring's.

use super::Core;
use bypassprof_wire::event::SLOT_BYTES;
use bypassprof_wire::layout::{
    Owner, RING_HEADER_BYTES, RING_MAGIC, RingHeader, WriterWords, is_capacity, is_readable,
    ring_file_bytes,
};
use bypassprof_wire::names::{FileKind, ProcessKey};
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::mem::offset_of;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Rings and everything else that may be mapped begin at a multiple of this.
const PAGE: usize = 4096;
/// Memory looked at in one piece.
const PIECE: usize = 1 << 20;
/// Bytes of rings that the core lacks, all together, besides its own length.
const MAX_HOLES: u64 = 64 << 20;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Processes whose rings there are.
    pub keys: BTreeSet<ProcessKey>,
    /// Rings written.
    pub rings: u64,
    /// Rings of which a part is not in the core: whose name, slots of it that are missing, slots it has.
    pub cut: Vec<(String, u64, u64)>,
    /// Ring files that were mapped and are not in the core at all.
    pub left_out: Vec<PathBuf>,
}

/// A ring's header, as far as it is needed here.
struct Head {
    key: ProcessKey,
    capacity: u64,
    /// Owner and position: two mappings of one ring agree in these.
    same: [u64; 4],
    name: String,
}

/// Writes the rings into `dir`.
pub fn extract(core: &Core, dir: &Path) -> io::Result<Extracted> {
    let mut found = Extracted::default();
    let mut seen = BTreeSet::new();
    let mut holes = core.lengths.0.saturating_add(MAX_HOLES);
    let mut piece = vec![0; PIECE];
    for segment in &core.segments {
        let end = segment.address.saturating_add(segment.there);
        let mut at = page_from(segment.address);
        while at < end {
            let len = (end - at).min(PIECE as u64) as usize;
            let there = core.read_some(at, &mut piece[..len]);
            let pages = piece[..there].chunks_exact(PAGE);
            let magic = RING_MAGIC.to_le_bytes();
            let begins = |page: &[u8]| page.starts_with(&magic);
            let Some(page) = pages.clone().position(begins) else {
                at = at.saturating_add(len as u64);
                continue;
            };
            let begin = at + (page * PAGE) as u64;
            let bytes = &piece[page * PAGE..][..PAGE];
            at = begin.saturating_add(PAGE as u64);
            let Some(head) = head(bytes) else {
                continue;
            };
            let whole = ring_file_bytes(head.capacity);
            let there = (end - begin).min(whole);
            if !seen.insert((head.key, head.same)) || whole - there > holes {
                continue;
            }
            holes -= whole - there;
            let index = index(core, begin, &head).unwrap_or(found.rings as u32 + 1_000_000);
            write(
                core,
                begin,
                there,
                whole,
                &dir.join(FileKind::Ring(head.key, index).name().as_str()),
            )?;
            found.rings += 1;
            found.keys.insert(head.key);
            if there < whole {
                let missing = (whole - there).div_ceil(SLOT_BYTES as u64);
                found.cut.push((head.name, missing, head.capacity));
            }
            at = page_from(begin.saturating_add(there));
        }
    }
    let kept = |address| core.segment(address).is_some_and(|s| s.there > 0);
    let ring = |path: &Path| matches!(kind(path), Some(FileKind::Ring(..)));
    let left = core.files.iter().filter(|f| !kept(f.start));
    let left = left.map(|f| PathBuf::from(f.path.trim_end_matches(" (deleted)")));
    let left: BTreeSet<PathBuf> = left.filter(|path| ring(path)).collect();
    found.left_out = left.into_iter().collect();
    Ok(found)
}

/// The first page that begins at an address or behind it; behind the last one, the end of memory.
fn page_from(address: u64) -> u64 {
    let page = address.checked_next_multiple_of(PAGE as u64);
    page.unwrap_or(u64::MAX)
}

fn kind(path: &Path) -> Option<FileKind> {
    FileKind::parse(path.file_name()?.to_str()?)
}

/// The number that the ring's file had, if it had one.
fn index(core: &Core, address: u64, head: &Head) -> Option<u32> {
    let file = core.files.iter().find(|f| f.start == address)?;
    let path = file.path.trim_end_matches(" (deleted)");
    match kind(Path::new(path))? {
        FileKind::Ring(key, index) if key == head.key => Some(index),
        _ => None,
    }
}

fn head(bytes: &[u8]) -> Option<Head> {
    let word = |at: usize| {
        let bytes = bytes.get(at..at + 8)?.try_into().ok()?;
        Some(u64::from_le_bytes(bytes))
    };
    const OWNER: usize = offset_of!(RingHeader<u64>, owner);
    const WRITER: usize = offset_of!(RingHeader<u64>, writer);
    let capacity = word(offset_of!(RingHeader<u64>, capacity))?;
    if !is_readable(word(8)?) || !is_capacity(capacity) {
        return None;
    }
    let name = OWNER + offset_of!(Owner<u64>, name);
    let name = bytes.get(name..name + 32)?.split(|&b| b == 0).next()?;
    Some(Head {
        key: ProcessKey {
            pid: u32::try_from(word(32)?).ok()?,
            start_time: word(48)?,
        },
        capacity,
        same: [
            word(OWNER + offset_of!(Owner<u64>, tid))?,
            word(OWNER + offset_of!(Owner<u64>, generation))?,
            word(OWNER + offset_of!(Owner<u64>, first_slot))?,
            word(WRITER + offset_of!(WriterWords<u64>, head))?,
        ],
        name: String::from_utf8_lossy(name).into_owned(),
    })
}

/// Copies `there` bytes of memory to a new file and makes it `whole` bytes long.
fn write(core: &Core, address: u64, there: u64, whole: u64, path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let mut piece = vec![0; PIECE.max(RING_HEADER_BYTES)];
    let mut done = 0;
    while done < there {
        let len = (there - done).min(piece.len() as u64) as usize;
        let read = core.read_some(address + done, &mut piece[..len]);
        if read == 0 {
            break;
        }
        file.write_all(&piece[..read])?;
        done += read as u64;
    }
    file.set_len(whole)
}
