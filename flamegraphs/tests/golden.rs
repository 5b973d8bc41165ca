//! Pictures are compared byte for byte with the files in `tests/data`; `BLESS=1 cargo test -p flamegraphs` rewrites them.

use flamegraphs::{Diff, Picture, Tree, draw, draw_diff, draw_parts};
use std::path::Path;

fn compare(name: &str, text: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read(&path).unwrap_or_else(|e| {
        panic!(
            "{}: {e}; write it with BLESS=1 cargo test -p flamegraphs",
            path.display()
        )
    });
    assert!(
        golden == text,
        "{name} differs; look at it after BLESS=1 cargo test -p flamegraphs"
    );
}

const STACKS: &str = "useful;main;serve;tcp_input 120\nuseful;main;serve;memcpy 40\n\
                      empty polling;main;rx_burst 800\nempty polling;main;timers 40";

/// Two roots, phase colours, the line of trust and the legend.
#[test]
fn flame_graph() {
    let phases = [
        ("serve", "app"),
        ("tcp_input", "tcp_rx"),
        ("memcpy", "copy"),
        ("rx_burst", "poll"),
        ("timers", "poll"),
    ];
    let picture = Picture {
        title: "httpd: 16 % useful".into(),
        subtitle: "1000 samples, 0 lost; stacks <whole> & good".into(),
        unit: "ms".into(),
        factor: 0.5,
        phases: phases.map(|(a, b)| (a.to_owned(), b.to_owned())).into(),
        ..Picture::default()
    };
    let mut svg = Vec::new();
    draw(&Tree::from_folded(STACKS).unwrap(), &picture, &mut svg).unwrap();
    let mut again = Vec::new();
    draw(&Tree::from_folded(STACKS).unwrap(), &picture, &mut again).unwrap();
    assert!(svg == again, "the same tree was drawn differently");
    compare("two_roots.svg", &svg);
}

/// Growth and shrinkage.
#[test]
fn difference() {
    let before = Tree::from_folded(STACKS).unwrap();
    let after = Tree::from_folded("useful;main;serve;tcp_input 500\nuseful;main;serve;memcpy 500");
    let mut svg = Vec::new();
    let diff = Diff::new(&before, &after.unwrap());
    draw_diff(&diff, &Picture::default(), &mut svg).unwrap();
    compare("difference.svg", &svg);
}

/// Both trees of a difference in one picture: what grew and what shrank have roots of their own.
#[test]
fn both_halves() {
    let before = Tree::from_folded(STACKS).unwrap();
    let after = Tree::from_folded(
        "useful;main;serve;tcp_input 90\nuseful;main;serve;copy 60\nempty polling;main;rx_burst 800",
    );
    let mut svg = Vec::new();
    let diff = Diff::unscaled(&before, &after.unwrap());
    let names = ["in both", "more", "less"];
    draw_parts(&diff, names, &Picture::default(), &mut svg).unwrap();
    compare("both_halves.svg", &svg);
}
