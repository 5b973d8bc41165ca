//! Object files from strangers, and stacks that are walked by their tables.
//!
//! In: an object file; or a letter and a file that a program of ours (`programs/`) is to find beside itself, with its debug
//! information or a part of it; out: nothing, and no panic.

use crate::memfile::{self, MemFile};
use bypassprof::resolve::{AddressSpaces, Folders, LocalSymbols, StackCopies, StackWalker};
use bypassprof::trace::record::{Mapping, Meta, Sample};
use bypassprof::trace::{Registers, StackCopy};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A program, and the name of the file that it looks for.
struct Program {
    letter: u8,
    name: &'static str,
    bytes: &'static [u8],
    beside: &'static str,
}

/// By the input's first letter: `d`ebug information, a `p`ackage of parts, one part's `o`bject, what is `s`hared by several.
const PROGRAMS: [Program; 4] = [
    Program {
        letter: b'd',
        name: "linked",
        bytes: include_bytes!("../programs/linked"),
        beside: "linked.debug",
    },
    Program {
        letter: b'p',
        name: "packed",
        bytes: include_bytes!("../programs/packed"),
        beside: "packed.dwp",
    },
    Program {
        letter: b'o',
        name: "split",
        bytes: include_bytes!("../programs/split"),
        beside: "split.dwo",
    },
    Program {
        letter: b's',
        name: "shared",
        bytes: include_bytes!("../programs/shared"),
        beside: "common.debug",
    },
];

thread_local! {
    /// Where the programs lie.
    static FOLDER: TempDir = with_programs();
}

fn with_programs() -> TempDir {
    let folder = memfile::folder();
    for program in &PROGRAMS {
        let written = fs::write(folder.path().join(program.name), program.bytes);
        written.expect("it can be written to");
    }
    folder
}

/// An object file: addresses get names, or the reason why there are none, and its tables lead through a stack, or do not.
pub fn symbols(data: &[u8]) {
    let program = data.first();
    let program = program.and_then(|kind| PROGRAMS.iter().find(|p| p.letter == *kind));
    let Some(program) = program else {
        let file = MemFile::new(data);
        let symbols = names(file.path(), Folders::default());
        return stacks(file.path(), data, &symbols);
    };
    FOLDER.with(|folder| {
        let folder = folder.path();
        let beside = folder.join(program.beside);
        fs::write(&beside, &data[1..]).expect("it can be written to");
        let folders = Folders {
            debug: vec![folder.to_owned()],
            ..Folders::default()
        };
        names(&folder.join(program.name), folders);
        fs::remove_file(&beside).expect("it was just written");
    });
}

fn mapping(path: &Path) -> Mapping {
    Mapping {
        path: path.display().to_string(),
        len: 1 << 20,
        ..Mapping::default()
    }
}

/// Names of positions all over a file, and of those where the seeds have their code.
fn names(path: &Path, folders: Folders) -> LocalSymbols {
    let over_all = (0..16).map(|i| i * 0x133);
    let in_code = (0x1000..0x1080).step_by(8);
    let at: Vec<u64> = over_all.chain(in_code).chain([0x1001, u64::MAX]).collect();
    let mut symbols = LocalSymbols::while_recording().with_folders(folders);
    let named = symbols.names(&mapping(path), &at);
    assert_eq!(named.addresses.len(), at.len());
    for names in &named.addresses {
        assert!(names.why.is_some() || !names.frames.is_empty());
    }
    symbols
}

/// The same bytes as the stack of a program that mapped the file, while it runs and when it is dead.
fn stacks(path: &Path, data: &[u8], symbols: &LocalSymbols) {
    let mapping = mapping(path);
    let mut spaces = AddressSpaces::default();
    spaces.add(&Meta::Mapping(mapping.clone()));
    let mut copies = StackCopies::default();
    let mut dead =
        ["x86_64", "aarch64"].map(|arch| StackWalker::new(arch, std::slice::from_ref(&mapping)));
    let mut copy = StackCopy {
        registers: Registers {
            ip: 0,
            sp: 0x7000,
            fp: 0x7010,
            lr: 0x1004,
        },
        bytes: data.to_vec(),
    };
    for ip in [0x1000, 0x1010, 0x1041, 0x233, 1 << 40] {
        copy.registers.ip = ip;
        let mut sample = Sample {
            frames: vec![ip, 0x1004, 0x1008],
            ..Sample::default()
        };
        copies.walk(&spaces, symbols.files(), &mut sample, &copy);
        assert!(sample.frames.len() <= 1024);
        for walker in &mut dead {
            let (frames, _) = walker.walk(copy.registers, &copy);
            assert!(frames.len() <= 512);
        }
    }
}
