//! The notes of a core dump: threads and their registers, the process, its signal, the files it had mapped.
//!
//! In: the bytes of a note segment; out: what they say, taken into a [`Core`]. Layouts are those of Linux on 64-bit
//! machines; a note that is shorter than its kind is damage.

use super::{Core, CoreThread, MAX_FILES, MAX_THREADS};
use crate::trace::Registers;
use object::Endianness;
use object::elf::{self, FileHeader64};
use object::read::elf::NoteIterator;
use std::borrow::Cow;

/// A file that the process had mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedFile {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// Position of `start` in the file.
    pub offset: u64,
    /// Its path as the process saw it.
    pub path: String,
}

/// A signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signal {
    /// Its number.
    pub number: i32,
    /// Why it was sent, as the kernel codes it; `None` if the core does not say.
    pub code: Option<i32>,
    /// Address that could not be used, where the signal has one.
    pub address: Option<u64>,
    /// Process and user that sent it, where someone did.
    pub sender: Option<(u32, u32)>,
}

/// Where a number lies in a note.
fn word(desc: &[u8], at: usize) -> Option<u64> {
    let bytes = desc.get(at..at + 8)?.try_into().ok()?;
    Some(u64::from_le_bytes(bytes))
}

fn half(desc: &[u8], at: usize) -> Option<u32> {
    let bytes = desc.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_le_bytes(bytes))
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    let len = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..len])
}

impl Core {
    /// Takes a note segment; false if it is damaged.
    pub(super) fn take_notes(&mut self, notes: &[u8]) -> bool {
        let notes = NoteIterator::<FileHeader64<Endianness>>::new(Endianness::Little, 4, notes);
        let Ok(mut notes) = notes else {
            return false;
        };
        loop {
            let note = match notes.next() {
                Ok(Some(note)) => note,
                Ok(None) => return true,
                Err(_) => return false,
            };
            let desc = note.desc();
            let taken = match (note.name(), note.n_type(Endianness::Little)) {
                (b"CORE", elf::NT_PRSTATUS) => self.thread(desc),
                (b"CORE", elf::NT_PRPSINFO) => self.process(desc),
                (b"CORE", elf::NT_SIGINFO) => self.signalled(desc),
                (b"CORE", elf::NT_FILE) => self.mapped(desc),
                _ => Some(()),
            };
            if taken.is_none() {
                return false;
            }
        }
    }

    /// `struct elf_prstatus`: signal, number and registers of a thread.
    fn thread(&mut self, desc: &[u8]) -> Option<()> {
        const REGISTERS: usize = 112;
        let register = |n: usize| word(desc, REGISTERS + 8 * n);
        let registers = match self.arch {
            "x86_64" => Registers {
                ip: register(16)?,
                sp: register(19)?,
                fp: register(4)?,
                lr: 0,
            },
            _ => Registers {
                ip: register(32)?,
                sp: register(31)?,
                fp: register(29)?,
                lr: register(30)?,
            },
        };
        let signal = half(desc, 12)? & 0xffff;
        if self.signal.is_none() && signal != 0 {
            self.signal = Some(Signal {
                number: signal as i32,
                ..Signal::default()
            });
        }
        if self.threads.len() < MAX_THREADS {
            self.threads.push(CoreThread {
                tid: half(desc, 32)?,
                registers,
            });
        }
        Some(())
    }

    /// `struct elf_prpsinfo`.
    fn process(&mut self, desc: &[u8]) -> Option<()> {
        self.pid = half(desc, 24)?;
        self.name = text(desc.get(40..56)?).into_owned();
        self.arguments = text(desc.get(56..136)?).trim_end().to_string();
        Some(())
    }

    /// `siginfo_t` of the signal that ended the process.
    fn signalled(&mut self, desc: &[u8]) -> Option<()> {
        let (number, code) = (half(desc, 0)? as i32, half(desc, 8)? as i32);
        if number == 0 {
            return Some(());
        }
        // Codes above 0 are the kernel's own: these signals carry an address then, the others who sent them.
        let of_address = matches!(
            number,
            libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE | libc::SIGTRAP
        );
        self.signal = Some(Signal {
            number,
            code: Some(code),
            address: (of_address && code > 0).then(|| word(desc, 16)).flatten(),
            sender: (code <= 0)
                .then(|| Some((half(desc, 16)?, half(desc, 20)?)))
                .flatten(),
        });
        Some(())
    }

    /// Files: how many, the size of a page, three words for each, then their names.
    fn mapped(&mut self, desc: &[u8]) -> Option<()> {
        let count = usize::try_from(word(desc, 0)?).ok()?;
        let page = word(desc, 8)?;
        let names = 16usize.checked_add(count.checked_mul(24)?)?;
        let mut names = desc.get(names..)?.split(|&b| b == 0);
        let room = MAX_FILES - self.files.len();
        for n in 0..count.min(room) {
            let at = 16 + 24 * n;
            self.files.push(MappedFile {
                start: word(desc, at)?,
                end: word(desc, at + 8)?,
                offset: word(desc, at + 16)?.wrapping_mul(page),
                path: String::from_utf8_lossy(names.next()?).into_owned(),
            });
        }
        (count <= room).then_some(())
    }
}
