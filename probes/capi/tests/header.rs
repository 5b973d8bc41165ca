//! `include/bypassprof_abi.h` is generated here from the wire format and compared with what is committed.
//!
//! `BLESS=1 cargo test -p bypassprof-capi header` rewrites it.

use std::fmt::Write;

use bypassprof_capi::LOOP_BYTES;
use bypassprof_probe::{Stage, foreign};
use bypassprof_wire::layout::{
    self, Census, ControlFile, EntryState, Identity, Mode, Owner, ReaderWords, RingHeader, Switch,
    WriterWords,
};
use bypassprof_wire::{event, points};

const HEADER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/include/bypassprof_abi.h");

/// One structure as the compiler lays it out: fields with their offsets, in order.
struct Structure {
    c_name: &'static str,
    fields: Vec<(&'static str, usize)>,
    bytes: usize,
}

/// Lists every field of a layout type; one that is missing here does not compile.
macro_rules! structure {
    ($c_name:literal, $type:ident { $($field:ident),* }) => {{
        let _complete = |whole: &$type<u64>| { let $type { $($field: _),* } = whole; };
        Structure {
            c_name: $c_name,
            fields: vec![$((stringify!($field), std::mem::offset_of!($type<u64>, $field))),*],
            bytes: size_of::<$type<u64>>(),
        }
    }};
}

/// Fields that are structures, or names, themselves; every other field is words.
const INNER: &[(&str, &str, &str)] = &[
    ("bypassprof_ring_header", "identity", "bypassprof_identity"),
    ("bypassprof_ring_header", "owner", "bypassprof_owner"),
    (
        "bypassprof_ring_header",
        "writer",
        "bypassprof_writer_words",
    ),
    (
        "bypassprof_ring_header",
        "reader",
        "bypassprof_reader_words",
    ),
    ("bypassprof_control_file", "identity", "bypassprof_identity"),
    (
        "bypassprof_control_file",
        "switch",
        "bypassprof_switch_words",
    ),
    ("bypassprof_control_file", "census", "bypassprof_census"),
];

fn structures() -> Vec<Structure> {
    vec![
        structure!(
            "bypassprof_identity",
            Identity {
                magic,
                version,
                header_bytes,
                file_bytes,
                pid,
                pid_namespace,
                start_time,
                uid,
                boot_id,
                base_tsc,
                base_time,
                reserved
            }
        ),
        structure!(
            "bypassprof_owner",
            Owner {
                generation,
                tid,
                first_slot,
                mode,
                name,
                ended,
                ended_at,
                reserved
            }
        ),
        structure!(
            "bypassprof_writer_words",
            WriterWords {
                head,
                limit,
                lost,
                epoch,
                dropped_slots,
                extra_slots,
                quiet_slots,
                requests,
                empty_rounds,
                worked_rounds,
                rx_bursts,
                rx_packets,
                rx_bytes,
                tx_bursts,
                tx_packets,
                tx_bytes
            }
        ),
        structure!(
            "bypassprof_reader_words",
            ReaderWords {
                tail,
                released,
                mode,
                lease,
                reserved
            }
        ),
        structure!(
            "bypassprof_ring_header",
            RingHeader {
                identity,
                owner,
                capacity,
                reserved_a,
                writer,
                reader,
                reserved_b,
                own_points
            }
        ),
        structure!(
            "bypassprof_switch_words",
            Switch {
                state,
                mode,
                session,
                ring_slots,
                ring_bytes,
                examined,
                frames,
                reserved
            }
        ),
        structure!(
            "bypassprof_census",
            Census {
                rings,
                ring_bytes,
                unreached,
                points_lock,
                name,
                flight,
                left,
                triggers,
                reserved
            }
        ),
        structure!(
            "bypassprof_control_file",
            ControlFile {
                identity,
                switch,
                census,
                reserved,
                own_points,
                rings,
                ring_fds,
                reserved_end
            }
        ),
    ]
}

/// A field's C name: `switch` is a keyword there.
fn c_field(name: &str) -> &str {
    if name == "switch" {
        "switch_words"
    } else {
        name
    }
}

fn write_structure(out: &mut String, structure: &Structure) -> std::fmt::Result {
    let Structure {
        c_name,
        fields,
        bytes,
    } = structure;
    writeln!(out, "struct {c_name} {{")?;
    for (i, &(field, at)) in fields.iter().enumerate() {
        let end = fields.get(i + 1).map_or(*bytes, |&(_, next)| next);
        let name = c_field(field);
        let inner = INNER.iter().find(|(of, f, _)| of == c_name && *f == field);
        match (inner, (end - at) / 8) {
            (Some((_, _, inner)), _) => writeln!(out, "    struct {inner} {name};")?,
            (None, _) if field == "own_points" => writeln!(
                out,
                "    uint64_t {name}[BYPASSPROF_MAX_OWN_POINTS][BYPASSPROF_NAME_BYTES / 8];"
            )?,
            (None, 1) => writeln!(out, "    uint64_t {name};")?,
            (None, words) => writeln!(out, "    uint64_t {name}[{words}];")?,
        }
    }
    writeln!(out, "}};")?;
    for &(field, at) in fields {
        let name = c_field(field);
        writeln!(out, "BYPASSPROF_AT({c_name}, {name}, {at});")?;
    }
    writeln!(out, "BYPASSPROF_SIZE({c_name}, {bytes});\n")
}

/// The loop: its fields, then room to grow that programs fill with zeros.
fn write_loop(out: &mut String) -> std::fmt::Result {
    const C_NAME: &str = "bypassprof_poll_loop";
    let mut asserts = String::new();
    let mut end = 0;
    writeln!(out, "struct {C_NAME} {{")?;
    for &(name, c_type, count, at) in foreign::FIELDS {
        let name = &name[1..];
        let bytes = if c_type == "uint8_t" {
            1
        } else if c_type == "uint32_t" {
            4
        } else {
            8
        };
        if count == 1 {
            writeln!(out, "    {c_type} {name};")?;
        } else {
            writeln!(out, "    {c_type} {name}[{count}];")?;
        }
        writeln!(asserts, "BYPASSPROF_AT({C_NAME}, {name}, {at});")?;
        end = at + bytes * count;
    }
    writeln!(out, "    uint64_t reserved[{}];", (LOOP_BYTES - end) / 8)?;
    writeln!(
        out,
        "}};\n{asserts}BYPASSPROF_SIZE({C_NAME}, {LOOP_BYTES});\n"
    )
}

fn constants() -> Vec<(&'static str, String)> {
    let hex = |n: u64| format!("UINT64_C(0x{n:016x})");
    let word = |n: u64| format!("UINT64_C({n})");
    vec![
        ("LAYOUT_VERSION", layout::VERSION.to_string()),
        (
            "LAYOUT_OLDEST_COMPATIBLE",
            layout::OLDEST_COMPATIBLE.to_string(),
        ),
        ("RING_MAGIC", hex(layout::RING_MAGIC)),
        ("CONTROL_MAGIC", hex(layout::CONTROL_MAGIC)),
        ("RING_HEADER_BYTES", layout::RING_HEADER_BYTES.to_string()),
        ("CONTROL_BYTES", layout::CONTROL_BYTES.to_string()),
        ("MAX_RINGS", layout::MAX_RINGS.to_string()),
        ("MAX_OWN_POINTS", layout::MAX_OWN_POINTS.to_string()),
        ("NAME_BYTES", layout::NAME_BYTES.to_string()),
        ("SLOT_BYTES", event::SLOT_BYTES.to_string()),
        ("MAX_SLOTS", event::MAX_SLOTS.to_string()),
        ("ARGS_PER_CONT", event::ARGS_PER_CONT.to_string()),
        ("STAMP_BITS", event::STAMP_BITS.to_string()),
        ("SWITCH_UNSET", word(layout::SWITCH_UNSET)),
        ("SWITCH_OFF", word(layout::SWITCH_OFF)),
        ("SWITCH_ON", word(layout::SWITCH_ON)),
        ("MODE_DRAIN", word(Mode::Drain as u64)),
        ("MODE_FLIGHT", word(Mode::Flight as u64)),
        ("ENTRY_FREE", (EntryState::Free as u16).to_string()),
        ("ENTRY_OPENING", (EntryState::Opening as u16).to_string()),
        ("ENTRY_LIVE", (EntryState::Live as u16).to_string()),
        ("ENTRY_ENDED", (EntryState::Ended as u16).to_string()),
        ("STAGE_NIC", (Stage::Nic as u8).to_string()),
        ("STAGE_RINGS", (Stage::Rings as u8).to_string()),
        ("STAGE_TIMERS", (Stage::Timers as u8).to_string()),
        ("STAGE_SIDE", (Stage::Side as u8).to_string()),
        ("STAGE_APP", (Stage::App as u8).to_string()),
        ("LOOP_WORKING", foreign::STATES[1].to_string()),
        ("LOOP_IDLE", foreign::STATES[2].to_string()),
        ("FIRST_OWN_POINT", points::FIRST_OWN.to_string()),
        ("LAST_OWN_POINT", points::LAST_OWN.to_string()),
        ("POINT_LOST", points::LOST.id().to_string()),
        ("POINT_EPOCH", points::EPOCH.id().to_string()),
        ("POINT_CONT", points::CONT.id().to_string()),
    ]
}

fn generate() -> Result<String, std::fmt::Error> {
    let mut out = String::from(
        "/* The layout of shared memory and the numbers of points, for bypassprof.h.
 *
 * Generated from the crate bypassprof-wire: BLESS=1 cargo test -p bypassprof-capi header
 * What the words mean: docs/reference/shared-memory.md. */
#ifndef BYPASSPROF_ABI_H
#define BYPASSPROF_ABI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define BYPASSPROF_ASSERT static_assert
#else
#define BYPASSPROF_ASSERT _Static_assert
#endif
#define BYPASSPROF_AT(type, field, at) BYPASSPROF_ASSERT(offsetof(struct type, field) == (at), #type \".\" #field)
#define BYPASSPROF_SIZE(type, bytes) BYPASSPROF_ASSERT(sizeof(struct type) == (bytes), #type)

",
    );
    for (name, value) in constants() {
        writeln!(out, "#define BYPASSPROF_{name} {value}")?;
    }
    writeln!(
        out,
        "\n/* Points: what happened; what the flow field and the arguments hold. */"
    )?;
    for (i, point) in points::CATALOGUE.iter().enumerate() {
        writeln!(out, "\n/* {}\n * flow: {}", point.what, point.flow)?;
        for (number, arg) in point.args.iter().enumerate() {
            writeln!(out, " * arg {number}: {arg}")?;
        }
        writeln!(out, " */")?;
        writeln!(
            out,
            "#define BYPASSPROF_{} {}",
            point.name.to_uppercase(),
            i + 1
        )?;
    }
    writeln!(
        out,
        "\n/* Every word is read and written whole, in the machine's byte order. */"
    )?;
    for structure in structures() {
        write_structure(&mut out, &structure)?;
    }
    writeln!(
        out,
        "/* The rounds of one polling loop; only bypassprof.h and the library look inside. */"
    )?;
    write_loop(&mut out)?;
    writeln!(
        out,
        "#undef BYPASSPROF_AT\n#undef BYPASSPROF_SIZE\n\n#endif"
    )?;
    Ok(out)
}

/// The committed header says what the wire format says.
#[test]
fn header_is_what_the_wire_format_says() {
    let generated = generate().unwrap();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(HEADER, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(HEADER).unwrap();
    assert!(
        committed == generated,
        "bypassprof_abi.h is not what bypassprof-wire says: run BLESS=1 cargo test -p bypassprof-capi header"
    );
}
