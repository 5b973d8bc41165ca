//! Where a function begins in a file, by its name.
//!
//! In: a file and a name, as the compiler or as people write it; out: a position in the file. Of several functions of one
//! name the first by address is taken.

use crate::trace::file::open_regular;
use crate::units::FileOffset;
use object::{Object, ObjectSegment, ObjectSymbol, ReadCache, SymbolKind};
use std::borrow::Cow;
use std::path::Path;

/// The position of a function's first byte; `None` if the file cannot be read or has no such function.
pub fn function(path: &Path, name: &str) -> Option<FileOffset> {
    let file = open_regular(path).ok()?;
    let cache = ReadCache::new(&file);
    let object = object::File::parse(&cache).ok()?;
    let symbols = object.symbols().chain(object.dynamic_symbols());
    let address = symbols
        .filter(|s| s.is_definition() && s.kind() == SymbolKind::Text)
        .filter(|s| s.name().is_ok_and(|found| is_called(found, name)))
        .map(|s| s.address())
        .min()?;
    object.segments().find_map(|segment| {
        let (offset, size) = segment.file_range();
        let inside = address.checked_sub(segment.address())?;
        (inside < size).then(|| FileOffset(offset + inside))
    })
}

/// Whether a symbol is the function that someone names: by the symbol itself, by the readable name, or by its end.
fn is_called(symbol: &str, name: &str) -> bool {
    if symbol == name {
        return true;
    }
    let readable = addr2line::demangle_auto(Cow::Borrowed(symbol), None);
    // Rust's older names end in a number that no one writes.
    let readable = match readable.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 => path,
        _ => &readable,
    };
    let bare = readable.split('(').next().unwrap_or(readable);
    bare == name
        || bare
            .strip_suffix(name)
            .is_some_and(|path| path.ends_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A function of this program is found by the end of its path, and by nothing less.
    #[test]
    fn own_function() {
        let exe = Path::new("/proc/self/exe");
        assert!(function(exe, "find::function").is_some());
        assert_eq!(function(exe, "unction"), None);
        assert_eq!(function(Path::new("/nonexistent"), "main"), None);
        assert!(is_called("main", "main"));
        assert!(is_called("_ZN3foo3barEi", "foo::bar"));
        assert!(is_called("_ZN3foo3barEi", "bar"));
        assert!(!is_called("_ZN3foo3barEi", "ar"));
    }
}
