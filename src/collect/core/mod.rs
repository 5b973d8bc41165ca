//! A core dump: what the kernel or a debugger kept of a process's memory and threads.
//!
//! In: an ELF core of strangers, whole or cut; out: its threads with their registers, what the process mapped, why it
//! ended, and its memory as far as it is there. No length in the file decides how much is allocated beyond
//! [`MAX_TABLE`]; what is missing is noted with the way it is known. It refuses to know what the memory holds: probe
//! rings in it are found by [`rings`].

mod mappings;
mod notes;
pub mod rings;

use crate::trace::Memory;
use crate::trace::file::data_from;
use crate::trace::record::{Pid, Tid};
pub use notes::{MappedFile, Signal};
use object::Endianness;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Most bytes of headers that are read, and of all notes together.
pub const MAX_TABLE: u64 = 64 << 20;
/// Most threads that are told of.
const MAX_THREADS: usize = 1 << 16;
/// Most mapped files that are told of: what Linux allows a process to map, and as much again.
const MAX_FILES: usize = 1 << 17;

/// Signals that stop a process, or do nothing to it.
const STOPPING: &[i32] = &[
    libc::SIGSTOP,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGCONT,
    libc::SIGCHLD,
    libc::SIGURG,
    libc::SIGWINCH,
];

/// Why a core cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// The file cannot be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is something else, or its headers are damaged.
    #[error("{} is not a core dump that can be read: {why}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// How we know.
        why: String,
    },
}

/// The registers that stacks are walked with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoreThread {
    /// The thread as the kernel numbered it.
    pub tid: Tid,
    /// Where it was.
    pub registers: crate::trace::Registers,
}

/// A piece of memory that the file knows of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First address.
    pub address: u64,
    /// Bytes it had.
    pub len: u64,
    /// Where in the file its bytes lie.
    offset: u64,
    /// How many of them are there.
    pub there: u64,
    /// How many there should be by the file's own headers.
    pub said: u64,
    /// Whether code in it could run.
    pub executable: bool,
}

/// An open core dump.
pub struct Core {
    path: PathBuf,
    file: File,
    /// By address.
    pub segments: Vec<Segment>,
    /// The thread that was hit first.
    pub threads: Vec<CoreThread>,
    /// The process.
    pub pid: Pid,
    /// Its name.
    pub name: String,
    /// Its command line, the first 80 bytes of it.
    pub arguments: String,
    /// The signal that ended it; `None` for one that was only copied while it ran.
    pub signal: Option<Signal>,
    /// Files it had mapped.
    pub files: Vec<MappedFile>,
    /// `x86_64` or `aarch64`.
    pub arch: &'static str,
    /// Length of the file, and the one its headers speak of.
    pub lengths: (u64, u64),
    /// Notes that could not be read.
    pub notes_damaged: bool,
    /// Bytes of notes that may still be read.
    notes_left: u64,
}

impl Core {
    /// Whether a file begins like a core dump.
    pub fn is_one(path: &Path) -> bool {
        let Ok(file) = open(path) else {
            return false;
        };
        let mut head = [0; 18];
        file.read_exact_at(&mut head, 0).is_ok()
            && head.starts_with(&elf::ELFMAG)
            && u16::from_le_bytes([head[16], head[17]]) == elf::ET_CORE.0
    }

    /// Opens a core and reads its headers and notes.
    pub fn open(path: &Path) -> Result<Core, CoreError> {
        let io = |source| CoreError::Io {
            path: path.to_path_buf(),
            source,
        };
        let wrong = |why: &str| CoreError::Format {
            path: path.to_path_buf(),
            why: why.to_string(),
        };
        let file = open(path).map_err(io)?;
        let meta = file.metadata().map_err(io)?;
        if !meta.is_file() {
            return Err(wrong("it is not a regular file"));
        }
        let size = meta.len();
        let mut head = vec![0; size_of::<FileHeader64<Endianness>>()];
        if size < head.len() as u64 {
            return Err(wrong("it is too short to be one"));
        }
        file.read_exact_at(&mut head, 0).map_err(io)?;
        let header = FileHeader64::<Endianness>::parse(head.as_slice());
        let header = header.map_err(|_| wrong("it does not begin like an ELF file of 64 bits"))?;
        let endian = header.endian().map_err(|e| wrong(&e.to_string()))?;
        if header.e_type(endian) != elf::ET_CORE {
            return Err(wrong("it is an ELF file, but no core"));
        }
        let arch = match header.e_machine(endian) {
            elf::EM_X86_64 => "x86_64",
            elf::EM_AARCH64 => "aarch64",
            _ => return Err(wrong("it is of a processor that is not known here")),
        };
        if endian != Endianness::Little {
            return Err(wrong("it is of a machine with the other order of bytes"));
        }
        // The table of segments lies behind the header; with more than 65534 of them a section tells how many.
        let table = header.e_phoff(endian);
        let count = segment_count(&file, header, endian, size);
        let entry = size_of::<elf::ProgramHeader64<Endianness>>() as u64;
        let bytes = count.saturating_mul(entry).min(MAX_TABLE);
        let there = bytes.min(size.saturating_sub(table)) / entry * entry;
        let mut headers = vec![0; there as usize];
        file.read_exact_at(&mut headers, table).map_err(io)?;
        let mut core = Core {
            path: path.to_path_buf(),
            file,
            segments: Vec::new(),
            threads: Vec::new(),
            pid: 0,
            name: String::new(),
            arguments: String::new(),
            signal: None,
            files: Vec::new(),
            arch,
            lengths: (size, table.saturating_add(count.saturating_mul(entry))),
            notes_damaged: there < count.saturating_mul(entry),
            notes_left: MAX_TABLE,
        };
        let headers = object::pod::slice_from_bytes::<elf::ProgramHeader64<Endianness>>(
            &headers,
            (there / entry) as usize,
        );
        let (headers, _) = headers.map_err(|()| wrong("its table of segments is damaged"))?;
        for header in headers {
            core.add(header, endian);
        }
        core.segments.sort_by_key(|s| s.address);
        // A debugger stops a process before it copies it, and these end none.
        core.signal = core.signal.filter(|s| !STOPPING.contains(&s.number));
        if core.segments.is_empty() && core.threads.is_empty() {
            return Err(wrong("it was cut off before anything was written"));
        }
        Ok(core)
    }

    fn add(&mut self, header: &elf::ProgramHeader64<Endianness>, endian: Endianness) {
        let (offset, said) = (header.p_offset(endian), header.p_filesz(endian));
        let there = self.lengths.0.saturating_sub(offset).min(said);
        if said > 0 {
            self.lengths.1 = self.lengths.1.max(offset.saturating_add(said));
        }
        match header.p_type(endian) {
            elf::PT_NOTE => {
                let len = there.min(self.notes_left);
                self.notes_left -= len;
                let mut notes = vec![0; len as usize];
                let read = self.file.read_exact_at(&mut notes, offset).is_ok();
                let whole = read && self.take_notes(&notes) && len == said;
                self.notes_damaged |= !whole;
            }
            elf::PT_LOAD => self.segments.push(Segment {
                address: header.p_vaddr(endian),
                len: header.p_memsz(endian),
                offset,
                there,
                said,
                executable: header.p_flags(endian).contains(elf::PF_X),
            }),
            _ => {}
        }
    }

    /// The file's name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The user whose file it is.
    pub fn owner(&self) -> Option<u32> {
        self.file.metadata().ok().map(|m| m.uid())
    }

    /// The segment that holds an address.
    pub fn segment(&self, address: u64) -> Option<&Segment> {
        let after = self.segments.partition_point(|s| s.address <= address);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        (address - segment.address < segment.len).then_some(segment)
    }

    /// The first address of a segment from `address` on whose memory lies in no hole of the file, where all is zero.
    fn data_from(&self, segment: &Segment, address: u64) -> u64 {
        let inside = address - segment.address;
        match data_from(&self.file, segment.offset.saturating_add(inside)) {
            Some(at) => segment.address.saturating_add(at - segment.offset),
            None => u64::MAX,
        }
    }

    /// Reads memory; gives how many bytes are there, from the address on.
    pub fn read_some(&self, address: u64, bytes: &mut [u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            let Some(at) = address.checked_add(done as u64) else {
                break;
            };
            let Some(segment) = self.segment(at) else {
                break;
            };
            let inside = at - segment.address;
            let len = segment.there.saturating_sub(inside);
            let len = len.min((bytes.len() - done) as u64) as usize;
            if len == 0 {
                break;
            }
            let piece = &mut bytes[done..done + len];
            let from = segment.offset.saturating_add(inside);
            if self.file.read_exact_at(piece, from).is_err() {
                break;
            }
            done += len;
        }
        done
    }
}

impl Memory for Core {
    fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
        self.read_some(address, bytes) == bytes.len()
    }
}

/// Opening a FIFO would wait for its writer; files of other kinds do not mind.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// How many segments there are.
fn segment_count(
    file: &File,
    header: &FileHeader64<Endianness>,
    endian: Endianness,
    size: u64,
) -> u64 {
    let count = header.e_phnum(endian);
    if count != elf::PN_XNUM {
        return u64::from(count);
    }
    // `sh_info` of the first section.
    let at = header.e_shoff(endian).saturating_add(44);
    let mut bytes = [0; 4];
    let there = at > 44 && at.saturating_add(4) <= size;
    if there && file.read_exact_at(&mut bytes, at).is_ok() {
        return u64::from(u32::from_le_bytes(bytes));
    }
    u64::from(count)
}
