//! The house rules that the compiler cannot hold: imports run against the flow, every file says what it is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust source file below `dir`, build outputs left out.
fn rust_files(dir: &Path) -> Vec<PathBuf> {
    files(dir, "rs")
}

fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name != "target" && !name.starts_with('.') {
                    dirs.push(path);
                }
            } else if path.extension().is_some_and(|e| e == ending) {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// What a stage of `src/` may import besides itself: the table of arrows in docs/architecture.md.
const ARROWS: &[(&str, &[&str])] = &[
    ("units", &[]),
    ("trace", &["units"]),
    ("collect", &["trace", "units"]),
    ("resolve", &["trace", "units"]),
    ("analyse", &["resolve", "trace", "units"]),
    ("present", &["analyse", "units"]),
    (
        "cmd",
        &["collect", "trace", "resolve", "analyse", "present", "units"],
    ),
    ("lib", &[]),
    ("main", &["cmd"]),
];

/// The stages named in the `use` lines and paths of a source text, comments left out.
fn imported_stages(text: &str) -> Vec<String> {
    let code: Vec<_> = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or(""))
        .collect();
    let code = code.join("\n");
    let mut stages = Vec::new();
    for prefix in ["crate::", "bypassprof::"] {
        for (at, _) in code.match_indices(prefix) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ':' | '$')) {
                continue;
            }
            let rest = &code[at + prefix.len()..];
            match rest.strip_prefix('{') {
                Some(list) => stages.extend(top_level_names(list)),
                None => stages.push(first_name(rest)),
            }
        }
    }
    stages.retain(|s| !s.is_empty());
    stages
}

fn first_name(path: &str) -> String {
    let path = path.trim_start();
    path.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// The first names of `a::b, c::{d, e}, f}`.
fn top_level_names(list: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 1;
    let mut start = 0;
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && c == ',') {
            names.push(first_name(&list[start..at]));
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    names
}

/// A module that imports against the flow fails here, with the file and the arrow.
#[test]
fn imports_run_against_the_flow() {
    let arrows: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let src = root().join("src");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in rust_files(&src) {
        let inside = file.strip_prefix(&src).unwrap();
        let stage = inside
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_string_lossy();
        let stage = stage.trim_end_matches(".rs");
        let allowed = arrows
            .get(stage)
            .unwrap_or_else(|| panic!("src/{stage} is no stage that ARROWS knows"));
        for imported in imported_stages(&fs::read_to_string(&file).unwrap()) {
            seen += 1;
            let known = arrows.contains_key(imported.as_str());
            if known && imported != stage && !allowed.contains(&imported.as_str()) {
                wrong.push(format!("{}: {stage} -> {imported}", inside.display()));
            }
        }
    }
    assert!(seen > 0, "no imports found: the scanner is broken");
    assert!(
        wrong.is_empty(),
        "imports against the flow:\n{}",
        wrong.join("\n")
    );
}

/// Only `cmd` speaks clap, the flame graphs know nothing of recordings, and no probe imports the tool.
#[test]
fn outer_crates_stay_outside() {
    let forbidden = [
        ("src/collect", "clap"),
        ("src/trace", "clap"),
        ("src/resolve", "clap"),
        ("src/analyse", "clap"),
        ("src/present", "clap"),
        ("flamegraphs/src", "bypassprof"),
        ("probes", "bypassprof::"),
    ];
    for (dir, word) in forbidden {
        for file in rust_files(&root().join(dir)) {
            let text = fs::read_to_string(&file).unwrap();
            let uses = |l: &&str| l.trim_start().starts_with("use ") && l.contains(word);
            let found = text.lines().find(uses);
            assert!(found.is_none(), "{}: {found:?}", file.display());
        }
    }
}

/// The scanner finds single, nested and grouped paths, and skips comments and look-alikes.
#[test]
fn scanner_sees_every_form() {
    let text = "use crate::trace::record;\nuse crate::{resolve::{a, b}, units};\n// use crate::cmd;\n\
        let x = crate::present::y; mycrate::collect::z; use bypassprof::analyse;";
    assert_eq!(
        imported_stages(text),
        ["trace", "resolve", "units", "present", "analyse"]
    );
}

/// Every source file opens by saying what it is.
#[test]
fn every_file_says_what_it_is() {
    let says = |f: &PathBuf| {
        let text = fs::read_to_string(f).unwrap();
        let first = text
            .lines()
            .find(|l| !l.trim().is_empty() && !l.starts_with("#!"));
        first.is_some_and(|l| l.starts_with("//!"))
    };
    let silent: Vec<_> = rust_files(root())
        .into_iter()
        .filter(|f| !says(f))
        .collect();
    assert!(silent.is_empty(), "no module doc: {silent:?}");
}

/// The compiler denies unsafe code by the workspace's lints; only these places may allow it again.
#[test]
fn unsafe_stays_behind_its_fences() {
    const FENCES: &[&str] = &["src/collect/", "probes/", "examples/", "benches/", "tests/"];
    for file in rust_files(root()) {
        let inside = file
            .strip_prefix(root())
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let opens = fs::read_to_string(&file)
            .unwrap()
            .contains("#![allow(unsafe_code)]");
        assert!(
            !opens || FENCES.iter().any(|f| inside.starts_with(f)),
            "{inside} opens a new fence for unsafe code"
        );
    }
}

/// Every link of a page to another file leads somewhere.
#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for page in files(root(), "md") {
        let text = fs::read_to_string(&page).unwrap();
        for (at, _) in text.match_indices("](") {
            let link = text[at + 2..].split([')', '#', ' ']).next().unwrap_or("");
            let target = page.parent().unwrap().join(link);
            if !link.contains("://") && !target.exists() {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
