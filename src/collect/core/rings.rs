//! Probe rings in a core's memory, as files of a session directory.
//!
//! In: a core; out: each ring that its memory holds, found by its first word at the beginning of a page, as a file in an
//! empty directory, and what could not be had. A file takes no more than the core has, a hole at its end aside: what is
//! read from them is checked again like any ring's.

use super::{Core, Segment};
use bypassprof_wire::event::SLOT_BYTES;
use bypassprof_wire::layout::{
    Owner, RING_MAGIC, RingHeader, WriterWords, is_capacity, is_readable, ring_file_bytes,
};
use bypassprof_wire::names::{FileKind, ProcessKey};
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io;
use std::mem::offset_of;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Rings and everything else that may be mapped begin at a multiple of this.
const PAGE: usize = 4096;
/// Memory looked at in one piece.
const PIECE: usize = 1 << 20;
/// Bytes of rings that the core lacks, all together, besides its own length.
const MAX_HOLES: u64 = 64 << 20;
/// Numbers of rings whose files are not known, or whose file's number another ring has, begin here.
const MADE_UP: u32 = 1_000_000;

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
    /// Bytes of memory that were not looked at: the core says to have more of it than is in the file.
    pub unread: u64,
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
    let size = core.lengths.0;
    let mut search = Search {
        core,
        dir,
        found: Extracted::default(),
        seen: BTreeSet::new(),
        numbers: BTreeSet::new(),
        left: size.saturating_mul(2),
        holes: size.saturating_add(MAX_HOLES),
    };
    let mut piece = vec![0; PIECE];
    for segment in &core.segments {
        search.segment(segment, &mut piece)?;
    }
    let mut found = search.found;
    let kept = |address| core.segment(address).is_some_and(|s| s.there > 0);
    let ring = |path: &Path| matches!(kind(path), Some(FileKind::Ring(..)));
    let left = core.files.iter().filter(|f| !kept(f.start));
    let left = left.map(|f| PathBuf::from(f.path.trim_end_matches(" (deleted)")));
    let left: BTreeSet<PathBuf> = left.filter(|path| ring(path)).collect();
    found.left_out = left.into_iter().collect();
    Ok(found)
}

/// A look through a core's memory.
struct Search<'a> {
    core: &'a Core,
    dir: &'a Path,
    found: Extracted,
    /// Rings that were written, and the numbers they got from their files.
    seen: BTreeSet<(ProcessKey, [u64; 4])>,
    numbers: BTreeSet<(ProcessKey, u32)>,
    /// Bytes that may still be looked at or copied. No byte of a core is memory twice: once for each is enough.
    left: u64,
    /// Bytes that rings may still lack.
    holes: u64,
}

impl Search<'_> {
    /// Whether so many bytes may still be read, which they are then; if not, `of` bytes are left unread.
    fn spend(&mut self, bytes: u64, of: u64) -> bool {
        let left = self.left.checked_sub(bytes);
        match left {
            Some(left) => self.left = left,
            None => self.found.unread = self.found.unread.saturating_add(of),
        }
        left.is_some()
    }

    fn segment(&mut self, segment: &Segment, piece: &mut [u8]) -> io::Result<()> {
        let end = segment.address.saturating_add(segment.there);
        let mut at = segment.address;
        loop {
            // A ring begins with a byte that is not zero.
            at = page_from(self.core.data_from(segment, at));
            if at >= end {
                return Ok(());
            }
            let len = (end - at).min(piece.len() as u64);
            if !self.spend(len, end - at) {
                return Ok(());
            }
            let there = self.core.read_some(at, &mut piece[..len as usize]);
            let mut behind = at;
            for (page, bytes) in piece[..there].chunks_exact(PAGE).enumerate() {
                let begin = at + (page * PAGE) as u64;
                if begin >= behind
                    && bytes.starts_with(&RING_MAGIC.to_le_bytes())
                    && let Some(head) = head(bytes)
                {
                    behind = self.ring(head, segment, begin)?;
                }
            }
            at = at.saturating_add(len).max(behind);
        }
    }

    /// Writes a ring that begins at an address of a segment; gives where what was written ends.
    fn ring(&mut self, head: Head, segment: &Segment, begin: u64) -> io::Result<u64> {
        let end = segment.address.saturating_add(segment.there);
        let whole = ring_file_bytes(head.capacity);
        let there = (end - begin).min(whole);
        let is_new = self.seen.insert((head.key, head.same));
        if !is_new || whole - there > self.holes || !self.spend(there, there) {
            return Ok(begin);
        }
        self.holes -= whole - there;
        let found = &mut self.found;
        let index = index(self.core, begin, &head);
        let index = index.filter(|&i| i < MADE_UP && self.numbers.insert((head.key, i)));
        let index = index.unwrap_or(MADE_UP + found.rings as u32);
        let name = FileKind::Ring(head.key, index).name();
        let path = self.dir.join(name.as_str());
        write(self.core, segment, begin, (there, whole), &path)?;
        found.rings += 1;
        found.keys.insert(head.key);
        if there < whole {
            let missing = (whole - there).div_ceil(SLOT_BYTES as u64);
            found.cut.push((head.name, missing, head.capacity));
        }
        Ok(begin.saturating_add(there))
    }
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

/// Copies `there` bytes of a segment's memory to a new file and makes it `whole` bytes long.
fn write(
    core: &Core,
    segment: &Segment,
    address: u64,
    (there, whole): (u64, u64),
    path: &Path,
) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let mut piece = vec![0; PIECE];
    let mut done = 0;
    loop {
        // A hole stays one.
        done = core.data_from(segment, address + done) - address;
        if done >= there {
            break;
        }
        let len = (there - done).min(piece.len() as u64) as usize;
        let read = core.read_some(address + done, &mut piece[..len]);
        if read == 0 {
            break;
        }
        file.write_all_at(&piece[..read], done)?;
        done += read as u64;
    }
    file.set_len(whole)
}
