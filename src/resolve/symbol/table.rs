//! Symbol tables: which function's name covers an address.
//!
//! In: object files of 64 bits; out: a name as the linker knows it. Of several names for one place the one that people
//! would use is taken. An address that no symbol covers has none, however near the next one is.

use super::section;
use super::stubs::{self, Callee};
use object::read::elf::Sym as _;
use object::{Endianness, Object, ObjectSection, ReadRef, elf};
use std::cmp::Reverse;
use std::fs::File;
use std::rc::Rc;

/// One name.
#[derive(Clone, Copy, Debug)]
struct Symbol {
    address: u64,
    /// 0: up to the next symbol.
    size: u64,
    /// Names with more of it are better.
    merit: u8,
    strings: u8,
    name: u32,
}

/// The names of one file, of all its tables.
#[derive(Debug, Default)]
pub struct SymbolTable {
    symbols: Vec<Symbol>,
    strings: Vec<Rc<[u8]>>,
    /// Stubs that jump to functions of other files: where one begins, how long it is, and whose it is.
    stubs: Vec<(u64, u64, String)>,
}

/// Enclosing symbols are looked for so far back.
const NESTED: usize = 16;

impl SymbolTable {
    /// Adds the symbols of a file; `dynamic`: of those that other files may use, `.dynsym`.
    pub fn add<'a, R: ReadRef<'a>>(
        &mut self,
        file: &File,
        object: &object::File<'a, R>,
        dynamic: bool,
    ) {
        let object::File::Elf64(elf) = object else {
            return;
        };
        let (table, names) = match dynamic {
            false => (elf.elf_symbol_table(), ".strtab"),
            true => (elf.elf_dynamic_symbol_table(), ".dynstr"),
        };
        let strings = section::read(file, object, names).unwrap_or_else(|| Rc::from([]));
        self.add_table(elf.endian(), table.symbols(), strings);
    }

    /// Adds those of a small file in memory.
    pub fn add_bytes(&mut self, bytes: &[u8]) {
        let Ok(object::File::Elf64(elf)) = object::File::parse(bytes) else {
            return;
        };
        for (table, names) in [
            (elf.elf_symbol_table(), ".strtab"),
            (elf.elf_dynamic_symbol_table(), ".dynstr"),
        ] {
            let strings = elf.section_by_name(names);
            let strings = strings.and_then(|s| s.data().ok()).unwrap_or_default();
            self.add_table(elf.endian(), table.symbols(), Rc::from(strings));
        }
    }

    fn add_table(
        &mut self,
        endian: Endianness,
        symbols: &[elf::Sym64<Endianness>],
        strings: Rc<[u8]>,
    ) {
        let Ok(number) = u8::try_from(self.strings.len()) else {
            return;
        };
        for symbol in symbols {
            let kind = symbol.st_type();
            let code = matches!(kind, elf::STT_FUNC | elf::STT_GNU_IFUNC | elf::STT_NOTYPE);
            let name = symbol.st_name(endian);
            let first = |at: u32| strings.get(usize::try_from(at).ok()?).copied();
            // Names that begin with a dollar mark what instructions follow, on some processors.
            let named = !matches!(first(name), None | Some(0 | b'$'));
            if !code || !named || symbol.is_undefined(endian) || symbol.st_value(endian) == 0 {
                continue;
            }
            let bound = match symbol.st_bind() {
                elf::STB_GLOBAL => 2,
                elf::STB_WEAK => 1,
                _ => 0,
            };
            let plain = u8::from(first(name) != Some(b'_') || first(name + 1) == Some(b'Z'));
            self.symbols.push(Symbol {
                address: symbol.st_value(endian),
                size: symbol.st_size(endian),
                merit: u8::from(kind != elf::STT_NOTYPE) << 3 | plain << 2 | bound,
                strings: number,
                name,
            });
        }
        self.strings.push(strings);
    }

    /// Adds the stubs of a file whose own symbols are here already and in order: what a stub jumps to may be one of them.
    pub fn add_stubs<'a, R: ReadRef<'a>>(&mut self, object: &object::File<'a, R>) {
        let object::File::Elf64(elf) = object else {
            return;
        };
        let stub = |(at, len, callee): (u64, u64, Callee)| {
            let name = match callee {
                Callee::Named(name) => Some(name),
                Callee::Chosen(by) => self.name(by),
            };
            Some((at, len, format!("{}@plt", name?)))
        };
        let mut stubs: Vec<_> = stubs::of(elf).into_iter().filter_map(stub).collect();
        stubs.sort();
        self.stubs = stubs;
    }

    /// Makes it ready to answer.
    pub fn sort(&mut self) {
        let key = |s: &Symbol| (s.address, Reverse(s.merit), Reverse(s.size));
        self.symbols.sort_by_key(key);
        self.symbols.dedup_by_key(|s| s.address);
    }

    /// Whether it has no name at all.
    pub fn is_empty(&self) -> bool {
        self.symbols.is_empty()
    }

    /// The name that covers an address.
    pub fn name(&self, address: u64) -> Option<String> {
        // A label before the stubs would hold them all.
        let after = self.stubs.partition_point(|s| s.0 <= address);
        let stub = after.checked_sub(1).map(|place| &self.stubs[place]);
        if let Some(stub) = stub.filter(|s| address - s.0 < s.1) {
            return Some(stub.2.clone());
        }
        let after = self.symbols.partition_point(|s| s.address <= address);
        let before = self.symbols[..after].iter().rev().take(NESTED);
        let covers = |place: usize, s: &Symbol| match s.size {
            // A label without a size holds what follows, up to the next.
            0 => place == 0,
            size => address - s.address < size,
        };
        let found = before.enumerate().find(|(place, s)| covers(*place, s));
        if let Some((_, symbol)) = found {
            let strings = &self.strings[usize::from(symbol.strings)];
            let name = strings.get(usize::try_from(symbol.name).ok()?..)?;
            let end = name.iter().position(|&b| b == 0)?;
            return Some(String::from_utf8_lossy(&name[..end]).into_owned());
        }
        None
    }
}
