//! Where a function lies in a program's file: what a uprobe is set on.
//!
//! In: a file and a name, mangled or as it is written in the source; out: a position in the file, or the nearest names; and what
//! such a probe records.
//! It refuses to know perf.

use crate::trace::file::open_regular;
use object::{Object, ObjectSegment, ObjectSymbol, ReadCache, SymbolKind};
use std::io::BufReader;
use std::path::Path;

/// Why there is no place for a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The file cannot be read as a program.
    File(String),
    /// It has no such function; these are there.
    Symbol(Vec<String>),
}

/// Names that are gathered at most, to look for the nearest.
const MOST_NAMES: usize = 200_000;

/// The position in the file of `offset` bytes behind the beginning of a function.
pub fn place(path: &str, symbol: &str, offset: u64) -> Result<u64, Missing> {
    let unreadable = |e: String| Missing::File(format!("{path}: {e}"));
    let file = open_regular(Path::new(path)).map_err(|e| unreadable(e.to_string()))?;
    let cache = ReadCache::new(BufReader::new(file));
    let object = object::File::parse(&cache).map_err(|e| unreadable(e.to_string()))?;
    let (mut names, mut found) = (Vec::new(), None);
    for entry in object.symbols().chain(object.dynamic_symbols()) {
        let function = entry.is_definition() && entry.kind() == SymbolKind::Text;
        let Some(name) = entry.name().ok().filter(|_| function) else {
            continue;
        };
        if name == symbol {
            found = Some(entry.address());
            break;
        }
        let plain = addr2line::demangle_auto(name.into(), None);
        // Rust's names end with a hash that no one writes.
        let without_hash = plain.rsplit_once("::h").map_or(plain.as_ref(), |(n, _)| n);
        let parameters = plain.split('(').next().unwrap_or("");
        if found.is_none() && [plain.as_ref(), without_hash, parameters].contains(&symbol) {
            found = Some(entry.address());
        }
        if names.len() < MOST_NAMES {
            names.push(plain.into_owned());
        }
    }
    let address = found.ok_or(Missing::Symbol(names))?;
    let address = address.saturating_add(offset);
    let holds = |s: &object::Segment<'_, '_, _>| {
        let (at, size) = s.file_range();
        let inside = address.checked_sub(s.address()).filter(|&i| i < size)?;
        Some(at + inside)
    };
    let position = object.segments().find_map(|s| holds(&s));
    position.ok_or_else(|| unreadable(format!("{symbol}+{offset:#x} lies outside of it")))
}

/// What a uprobe records: where it was hit, or the function that returned and to where. Kernels have no file for probes
/// that are not in tracefs, but lay them out the same (`kernel/trace/trace_uprobe.c`).
pub fn format(is_return: bool) -> String {
    let fields: &[&str] = if is_return {
        &["__probe_func", "__probe_ret_ip"]
    } else {
        &["__probe_ip"]
    };
    let mut text = "name: uprobe\nID: 0\nformat:\n".to_owned();
    for (at, name) in fields.iter().enumerate() {
        text += &format!(
            "\tfield:void * {name};\toffset:{};\tsize:8;\tsigned:0;\n",
            8 + 8 * at
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Functions of this very program are found by their plain names; others are not, and are told apart from files.
    #[test]
    fn of_this_program() {
        let path = std::env::current_exe().unwrap();
        let path = path.to_str().unwrap();
        let by_name = place(path, "bypassprof::collect::events::uprobe::place", 0).unwrap();
        let behind = place(path, "bypassprof::collect::events::uprobe::place", 4).unwrap();
        assert_eq!(by_name + 4, behind);
        assert!(
            matches!(place(path, "no_such_function", 0), Err(Missing::Symbol(n)) if !n.is_empty())
        );
        assert!(matches!(
            place("/proc/version", "main", 0),
            Err(Missing::File(_))
        ));
        assert!(matches!(
            place("/no/such", "main", 0),
            Err(Missing::File(_))
        ));
    }
}
