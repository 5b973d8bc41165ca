//! Stubs that jump to functions of other files, and to functions that are chosen when the file is loaded.
//!
//! In: an ELF file; out: where each stub begins, how long it is, and whose it is: its instructions say which slot it jumps
//! through, and a relocation says what is put there. In which order stubs lie proves nothing.

use object::read::elf::{ElfFile64, FileHeader, Rela as _, SectionHeader as _};
use object::{Endianness, Object, ObjectSection, ReadRef, elf};
use std::collections::HashMap;

/// What a stub jumps to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Callee {
    /// A function by its name.
    Named(String),
    /// What the function at this address of the file chooses.
    Chosen(u64),
}

/// A stub, or what its instructions say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stub {
    at: u64,
    len: u64,
    slot: u64,
}

/// Where each stub begins, how long it is, and what it jumps to.
pub fn of<'a, R: ReadRef<'a>>(elf: &ElfFile64<'a, Endianness, R>) -> Vec<(u64, u64, Callee)> {
    let arm = elf.elf_header().e_machine(elf.endian()) == elf::EM_AARCH64;
    let sections = [".plt", ".plt.sec", ".plt.got", ".iplt"].into_iter();
    let sections = sections.filter_map(|name| elf.section_by_name(name));
    let stubs: Vec<Stub> = sections
        .filter_map(|section| {
            let (at, code) = (section.address(), section.data().ok()?);
            let each = section.elf_section_header().sh_entsize(elf.endian());
            Some(match arm {
                true => arm_stubs(at, code),
                false => x86_stubs(at, code, if each == 8 { 8 } else { 16 }),
            })
        })
        .flatten()
        .collect();
    if stubs.is_empty() {
        return Vec::new();
    }
    let slots = slots(elf, arm);
    let with_callee = |s: Stub| Some((s.at, s.len, slots.get(&s.slot)?.clone()));
    stubs.into_iter().filter_map(with_callee).collect()
}

/// What the loader puts into which slot.
fn slots<'a, R: ReadRef<'a>>(
    elf: &ElfFile64<'a, Endianness, R>,
    arm: bool,
) -> HashMap<u64, Callee> {
    let endian = elf.endian();
    let (named, chosen) = match arm {
        true => (
            [elf::R_AARCH64_JUMP_SLOT, elf::R_AARCH64_GLOB_DAT],
            elf::R_AARCH64_IRELATIVE,
        ),
        false => (
            [elf::R_X86_64_JUMP_SLOT, elf::R_X86_64_GLOB_DAT],
            elf::R_X86_64_IRELATIVE,
        ),
    };
    let symbols = elf.elf_dynamic_symbol_table();
    let name = |relocation: &elf::Rela64<Endianness>| {
        let symbol = symbols.symbol(relocation.symbol(endian, false)?).ok()?;
        let name = symbols.symbol_name(endian, symbol).ok()?;
        Some(String::from_utf8_lossy(name).into_owned())
    };
    let mut slots = HashMap::new();
    for section in [".rela.plt", ".rela.dyn", ".rela.iplt"] {
        let section = elf.section_by_name(section);
        let relocations = section.map(|s| s.elf_section_header().rela(endian, elf.data()));
        let Some(Ok(Some((relocations, _)))) = relocations else {
            continue;
        };
        for relocation in relocations {
            let kind = relocation.r_type(endian, false);
            let callee = match kind {
                kind if kind == chosen => u64::try_from(relocation.r_addend(endian))
                    .ok()
                    .map(Callee::Chosen),
                kind if named.contains(&kind) => name(relocation).map(Callee::Named),
                _ => None,
            };
            slots.extend(callee.map(|callee| (relocation.r_offset(endian), callee)));
        }
    }
    slots
}

/// `jmp *SLOT(%rip)`, behind `endbr64` and `bnd` where they are.
fn x86_stubs(at: u64, code: &[u8], each: usize) -> Vec<Stub> {
    /// Before the jump there is no more than this.
    const BEFORE: usize = 5;
    const JUMP: usize = 6;
    let stub = |(place, bytes): (u64, &[u8])| {
        let mut pairs = bytes.windows(2).take(BEFORE + 1);
        let jump = pairs.position(|pair| pair == [0xff, 0x25])?;
        let offset = bytes.get(jump + 2..jump + JUMP)?;
        let offset = i32::from_le_bytes(offset.try_into().ok()?);
        let at = at.wrapping_add(place * each as u64);
        let next = at.wrapping_add((jump + JUMP) as u64);
        Some(Stub {
            at,
            len: each as u64,
            slot: next.wrapping_add_signed(offset.into()),
        })
    };
    (0..)
        .zip(code.chunks_exact(each))
        .filter_map(stub)
        .collect()
}

/// `adrp x16, SLOT; ldr x17, [x16, SLOT]`, behind `bti c` where it is, and two more instructions.
fn arm_stubs(at: u64, code: &[u8]) -> Vec<Stub> {
    const LANDING: u32 = 0xd503_245f;
    const LEN: u64 = 16;
    let words: Vec<u32> = code
        .chunks_exact(4)
        .map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]))
        .collect();
    let stub = |(place, pair): (usize, &[u32])| {
        let (page, load) = (pair[0], pair[1]);
        if page & 0x9f00_001f != 0x9000_0010 || load & 0xffc0_03ff != 0xf940_0211 {
            return None;
        }
        let pages = (page >> 5 & 0x7_ffff) << 2 | page >> 29 & 3;
        // 21 bits with a sign.
        let pages = i64::from((pages << 11).cast_signed() >> 11);
        let own = at.wrapping_add(4 * place as u64);
        let slot = (own & !0xfff)
            .wrapping_add_signed(pages << 12)
            .wrapping_add(u64::from(load >> 10 & 0xfff) * 8);
        let landing = place > 0 && words[place - 1] == LANDING;
        let before = if landing { 4 } else { 0 };
        Some(Stub {
            at: own.wrapping_sub(before),
            len: LEN + before,
            slot,
        })
    };
    words.windows(2).enumerate().filter_map(stub).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The head of a table and three kinds of stubs, as linkers write them.
    #[test]
    fn jumps_of_x86() {
        let code = [
            // push 0x1acfea(%rip); jmp *0x1acfec(%rip); nopl
            [
                0xff, 0x35, 0xea, 0xcf, 0x1a, 0, 0xff, 0x25, 0xec, 0xcf, 0x1a, 0, 0x0f, 0x1f, 0x40,
                0,
            ],
            // jmp *0x1acfea(%rip); push; jmp
            [
                0xff, 0x25, 0xea, 0xcf, 0x1a, 0, 0x68, 0x34, 0, 0, 0, 0xe9, 0xe0, 0xff, 0xff, 0xff,
            ],
            // endbr64; bnd jmp *-0x10(%rip); nop
            [
                0xf3, 0x0f, 0x1e, 0xfa, 0xf2, 0xff, 0x25, 0xf0, 0xff, 0xff, 0xff, 0x0f, 0x1f, 0x44,
                0, 0,
            ],
        ];
        let stub = |at, len, slot| Stub { at, len, slot };
        let found = x86_stubs(0x26000, code.as_flattened(), 16);
        let expected = [stub(0x26010, 16, 0x1d_3000), stub(0x26020, 16, 0x2601b)];
        assert_eq!(found, expected);
        // jmp *0x1aca8a(%rip); xchg %ax,%ax
        let short = [0xff, 0x25, 0x8a, 0xca, 0x1a, 0, 0x66, 0x90];
        assert_eq!(x86_stubs(0x26360, &short, 8), [stub(0x26360, 8, 0x1d_2df0)]);
    }

    /// With and without a landing pad, forwards and backwards.
    #[test]
    fn jumps_of_arm() {
        let words: [u32; 10] = [
            0xd503_245f, // bti c
            0xf000_00f0, // adrp x16, 0x1f000 pages on
            0xf947_ca11, // ldr x17, [x16, #0xf90]
            0x913e_4210, // add x16, x16, #0xf90
            0xd61f_0220, // br x17
            0x90ff_fff0, // adrp x16, back by 0x4000
            0xf940_0611, // ldr x17, [x16, #8]
            0x9100_2210, // add x16, x16, #8
            0xd61f_0220, // br x17
            0xd503_201f, // nop
        ];
        let code: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let found = arm_stubs(0x1000, &code);
        let stub = |at, len, slot| Stub { at, len, slot };
        let expected = [
            stub(0x1000, 20, 0x1000 + 0x1f000 + 0xf90),
            stub(0x1014, 16, 0x1000_u64.wrapping_sub(0x4000) + 8),
        ];
        assert_eq!(found, expected);
    }
}
