//! `docs/reference/points.md` is generated here from the catalogue and compared with what is committed.
//!
//! `BLESS=1 cargo test -p bypassprof-wire points_page` rewrites it.

use bypassprof_wire::points::{CATALOGUE, CONT, EPOCH, FIRST_OWN, LAST_OWN, LOST};
use std::fmt::Write;
use std::path::Path;

fn page() -> String {
    let mut page = String::from(
        "# Points\n\n\
         Places on a data path that every stack shares, with the meaning of their fields. Generated from the catalogue in\n\
         `probes/wire/src/points.rs` by its tests; `BLESS=1 cargo test -p bypassprof-wire points_page` writes it again.\n\n\
         An event has a stamp (the CPU's counter, 48 bits of it in the slot), a point, a 32-bit *flow* field and 1, 4, 7 or\n\
         10 arguments of 32 bits: one in the first slot, three in each continuation slot. *Flow* is the hash of the\n\
         connection's addresses and ports, the same on both sides, or 0 where there is none; a point that packs something\n\
         else there says what. *Ticks* are those of the counter. `0` is an argument that is always zero.\n\n\
         | number | point | what happened | flow field | arguments |\n\
         |---|---|---|---|---|\n",
    );
    for (number, point) in (1..).zip(CATALOGUE) {
        let args = (1..).zip(point.args).map(|(n, arg)| format!("{n}: {arg}"));
        let args = args.collect::<Vec<_>>().join("<br>");
        // Writing to a string cannot fail.
        let _ = writeln!(
            page,
            "| {number} | `{}` | {} | {} | {args} |",
            point.name, point.what, point.flow
        );
    }
    let _ = write!(
        page,
        "\nNumbers {FIRST_OWN} to {LAST_OWN} are a program's own points, by name in its control file. {} is a continuation slot, {} tells all 64 bits of\n\
         the counter, {} counts slots that could not be written; 0 is never an event. A number is part of the format: new\n\
         points are appended, none is used twice. Which point stands where in which stack: [points-by-stack.md](points-by-stack.md).\n",
        CONT.id(),
        EPOCH.id(),
        LOST.id()
    );
    page
}

/// The committed page says what the catalogue says.
#[test]
fn points_page() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/points.md");
    let wanted = page();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "docs/reference/points.md is not what the catalogue says: run BLESS=1 cargo test -p bypassprof-wire points_page"
    );
}
