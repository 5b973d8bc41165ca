//! Object files from strangers, and stacks that are walked by their tables.
//!
//! In: an object file; or a letter and a file that a program of ours (`programs/`) is to find beside itself, with its debug
//! information or a part of it; out: nothing, and no panic.

use crate::memfile::MemFile;
use bypassprof::resolve::{AddressSpaces, Folders, LocalSymbols, StackCopies, StackWalker};
use bypassprof::trace::record::{Mapping, Meta, Sample};
use bypassprof::trace::{Registers, StackCopy};
use std::path::Path;

/// A program, and the name of the file that it looks for.
struct Program {
    name: &'static str,
    bytes: &'static [u8],
    beside: &'static str,
}

/// By the input's first letter: `d`ebug information, a `p`ackage of parts, one part's `o`bject, what is `s`hared by several.
fn program(letter: u8) -> Option<Program> {
    let program = |name, bytes, beside| Program {
        name,
        bytes,
        beside,
    };
    Some(match letter {
        b'd' => program(
            "linked",
            include_bytes!("../programs/linked").as_slice(),
            "linked.debug",
        ),
        b'p' => program(
            "packed",
            include_bytes!("../programs/packed").as_slice(),
            "packed.dwp",
        ),
        b'o' => program(
            "split",
            include_bytes!("../programs/split").as_slice(),
            "split.dwo",
        ),
        b's' => program(
            "shared",
            include_bytes!("../programs/shared").as_slice(),
            "common.debug",
        ),
        _ => return None,
    })
}

/// An object file: addresses get names, or the reason why there are none, and its tables lead through a stack, or do not.
pub fn symbols(data: &[u8]) {
    match data
        .split_first()
        .map(|(&kind, rest)| (program(kind), rest))
    {
        Some((Some(program), file)) => {
            let folder = tempfile::tempdir().expect("a folder can be made");
            let put = |name: &str, bytes: &[u8]| {
                let written = std::fs::write(folder.path().join(name), bytes);
                written.expect("it can be written to");
            };
            put(program.name, program.bytes);
            put(program.beside, file);
            let folders = Folders {
                debug: vec![folder.path().to_owned()],
                ..Folders::default()
            };
            let _ = names(&folder.path().join(program.name), folders);
        }
        _ => {
            let file = MemFile::new(data);
            let symbols = names(file.path(), Folders::default());
            stacks(file.path(), data, &symbols);
        }
    }
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
    for ip in [0x1000, 0x1010, 0x1041, 0x233, 1 << 40] {
        let copy = StackCopy {
            registers: Registers {
                ip,
                sp: 0x7000,
                fp: 0x7010,
                lr: 0x1004,
            },
            bytes: data.to_vec(),
        };
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
