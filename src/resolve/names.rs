//! Names for the addresses of a recording: the recorded names first, then files with the recorded build id.
//!
//! In: a recording's records; out: a [`Place`] for an address of a process at a time. It never opens a live process,
//! and a file that is not the recorded one is as good as none.

use super::kernel::KernelSymbols;
use super::space::{AddressSpaces, Epoch};
use super::symbol::LocalSymbols;
use crate::trace::record::{AddressNames, Mapping, Meta, Pid, Symbols};
use crate::units::{Avma, Nanos};
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::rc::Rc;

/// What an address in a stack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AddressKind {
    /// The instruction that was executing.
    Instruction,
    /// Where a call will return to: the call itself lies before it.
    Return,
}

impl AddressKind {
    /// The kind of a sample's frame `at`, innermost first, of which the first `kernel_frames` are the kernel's.
    pub fn of_frame(at: usize, kernel_frames: usize) -> AddressKind {
        if at == 0 || at == kernel_frames {
            AddressKind::Instruction
        } else {
            AddressKind::Return
        }
    }

    /// The address whose line and function are wanted.
    pub fn looked_up(self, address: u64) -> u64 {
        match self {
            AddressKind::Instruction => address,
            AddressKind::Return => address.saturating_sub(1),
        }
    }
}

/// Where an address lies and what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Last part of the file's path, `[kernel]`, a kernel module in brackets, or `[unknown]`.
    pub module: Rc<str>,
    /// Frames at the address, inlined ones first, or the reason why there are none.
    pub names: Rc<AddressNames>,
}

impl Place {
    /// What to print for the address when it has no name: module and position, which any later tool can resolve.
    pub fn anonymous(&self) -> String {
        let module = match self.module.trim_matches(['[', ']']) {
            "unknown" => "",
            known => known,
        };
        format!("[unknown] {module}+{:#x}", self.names.at)
    }
}

/// Names by position, of every file that has any.
#[derive(Default)]
struct NamedFiles {
    /// By path and build id.
    numbers: HashMap<(String, String), usize>,
    names: Vec<HashMap<u64, Rc<AddressNames>, RandomState>>,
}

impl NamedFiles {
    /// The number of a file.
    fn number(&mut self, key: (String, String)) -> usize {
        let next = self.names.len();
        let number = *self.numbers.entry(key).or_insert(next);
        if number == next {
            self.names.push(HashMap::default());
        }
        number
    }
}

/// Names the addresses of one recording.
pub struct Names {
    spaces: AddressSpaces,
    files: NamedFiles,
    /// By number of a mapping, as far as they were asked for: the short name of its file, and the file's number.
    mapped: Vec<Option<(Rc<str>, usize)>>,
    local: LocalSymbols,
    /// Whether this machine is the one recorded and has not been started again: the kernel lies where it lay.
    same_boot: bool,
    kernel: Option<KernelSymbols>,
    modules: HashMap<String, Rc<str>>,
    nowhere: Rc<str>,
}

impl Names {
    /// From all records of low rate of a recording.
    pub fn new<'a>(metas: impl IntoIterator<Item = &'a Meta>) -> Names {
        let mut names = Names {
            spaces: AddressSpaces::default(),
            files: NamedFiles::default(),
            mapped: Vec::new(),
            local: LocalSymbols::afterwards(),
            same_boot: false,
            kernel: None,
            modules: HashMap::new(),
            nowhere: Rc::from("[unknown]"),
        };
        metas.into_iter().for_each(|meta| names.add(meta));
        names
    }

    /// Takes note of one more record.
    pub fn add(&mut self, meta: &Meta) {
        match meta {
            Meta::Symbols(symbols) => self.add_recorded(symbols),
            Meta::Session(session) => {
                let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
                self.same_boot = boot.is_ok_and(|b| b.trim() == session.boot_id);
            }
            other => self.spaces.add(other),
        }
    }

    fn add_recorded(&mut self, symbols: &Symbols) {
        let key = (symbols.path.clone(), symbols.build_id.clone());
        let file = self.files.number(key);
        let addresses = &mut self.files.names[file];
        for names in &symbols.addresses {
            addresses.insert(names.at, Rc::new(names.clone()));
        }
    }

    /// See [`AddressSpaces::epoch`].
    pub fn epoch(&self, pid: Pid, time: Nanos) -> Epoch {
        self.spaces.epoch(pid, time)
    }

    /// What lies at an address of process `pid` at `time`; `kernel` for addresses of the kernel's part of a stack.
    pub fn look_up(
        &mut self,
        pid: Pid,
        time: Nanos,
        address: u64,
        kind: AddressKind,
        kernel: bool,
    ) -> Place {
        let address = kind.looked_up(address);
        let pid = if kernel { Mapping::KERNEL } else { pid };
        let Some(mapping) = self.spaces.find(pid, time, Avma(address)) else {
            return self.unmapped(address, kernel);
        };
        let at = mapping.position(address);
        let (module, file) = match self.mapped.get(mapping.number) {
            Some(Some((module, file))) => (Rc::clone(module), *file),
            _ => {
                let file = self.files.number(mapping.key());
                let module = self.modules.entry(mapping.path.clone());
                let module = module.or_insert_with(|| short(&mapping.path));
                let known = self.mapped.len().max(mapping.number + 1);
                self.mapped.resize(known, None);
                self.mapped[mapping.number] = Some((Rc::clone(module), file));
                (Rc::clone(module), file)
            }
        };
        let names = match self.files.names[file].get(&at) {
            Some(names) => Rc::clone(names),
            None if kernel => {
                let path = mapping.path.clone();
                Rc::new(self.kernel_name(&path, address))
            }
            None => {
                let mut symbols = self.local.names(mapping, &[at]);
                let names = Rc::new(symbols.addresses.pop().unwrap_or_default());
                self.files.names[file].insert(at, Rc::clone(&names));
                names
            }
        };
        Place { module, names }
    }

    fn unmapped(&mut self, address: u64, kernel: bool) -> Place {
        if kernel {
            let file = self.files.numbers.get(&Mapping::of_kernel().key());
            let recorded = file.and_then(|&file| self.files.names[file].get(&address));
            let names = recorded.cloned();
            return Place {
                module: Rc::from("[kernel]"),
                names: names.unwrap_or_else(|| Rc::new(self.kernel_name("[kernel]", address))),
            };
        }
        Place {
            module: Rc::clone(&self.nowhere),
            names: Rc::new(AddressNames {
                at: address,
                frames: Vec::new(),
                why: Some("no file was mapped at the address".into()),
            }),
        }
    }

    fn kernel_name(&mut self, mapped: &str, address: u64) -> AddressNames {
        if self.same_boot {
            let kernel = self.kernel.get_or_insert_with(KernelSymbols::read_live);
            return kernel.name(mapped, address);
        }
        AddressNames {
            at: address,
            frames: Vec::new(),
            why: Some("the kernel's names were not recorded, and it has been started again".into()),
        }
    }
}

/// The short name of a mapped file.
fn short(path: &str) -> Rc<str> {
    if path.starts_with("[kernel") {
        return Rc::from("[kernel]");
    }
    let name = path.rsplit('/').next().filter(|n| !n.is_empty());
    Rc::from(name.unwrap_or("[unknown]"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::record::NamedFrame;
    use crate::units::FileOffset;

    /// Recorded names win over files; addresses that were not named then say why they have no name now.
    #[test]
    fn recorded_names_first() {
        let mapping = Mapping {
            pid: 5,
            start: Avma(0x40_0000),
            len: 0x1000,
            offset: FileOffset(0x2000),
            path: "/gone/httpd".into(),
            build_id: "ab12".into(),
            ..Mapping::default()
        };
        let symbols = Symbols {
            path: mapping.path.clone(),
            build_id: mapping.build_id.clone(),
            addresses: vec![AddressNames {
                at: 0x2010,
                frames: vec![NamedFrame {
                    name: "serve".into(),
                    ..NamedFrame::default()
                }],
                why: None,
            }],
        };
        let metas = [Meta::Mapping(mapping), Meta::Symbols(symbols)];
        let mut names = Names::new(&metas);
        let mut look = |address, kind| names.look_up(5, Nanos::from_ns(9), address, kind, false);
        let place = look(0x40_0010, AddressKind::Instruction);
        assert_eq!(
            (&*place.module, &*place.names.frames[0].name),
            ("httpd", "serve")
        );
        // A return address stands behind its call.
        assert_eq!(look(0x40_0011, AddressKind::Return), place);
        let place = look(0x40_0020, AddressKind::Instruction);
        assert_eq!(place.anonymous(), "[unknown] httpd+0x2020");
        assert!(place.names.why.as_ref().unwrap().contains("/gone/httpd"));
        let place = look(0x10, AddressKind::Instruction);
        assert_eq!(place.anonymous(), "[unknown] +0x10");
    }
}
