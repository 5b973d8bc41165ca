//! Text from strangers: whatever is in it, a picture is well-formed XML and shows nothing but its frames; what cannot be
//! drawn is said.

use flamegraphs::{Diff, DrawError, Picture, Tree, draw, draw_diff, draw_parts, html};
use proptest::prelude::*;
use quick_xml::Reader;
use quick_xml::events::Event;

/// Names that would end an element, a script, an attribute or a line if they were let.
const NAMES: &[&str] = &[
    "</script><script>alert(1)</script>",
    "<!-- never closed",
    "]]>",
    "\"onload=alert(1) x='",
    "&lt;&#x3c;&amp",
    "line\u{2028}and\u{2029}paragraph",
    "turned \u{202e}around",
    "\u{0}\u{1}\u{1b}[31m\u{7f}\u{85}\u{fffe}\u{ffff}",
    "${x} {{closure}} #hash",
];

/// Names of elements, after every character and every tag was looked at.
fn elements(svg: &str) -> Vec<String> {
    let is_xml = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    let strange: Vec<char> = svg.chars().filter(|c| !is_xml(*c)).collect();
    assert!(strange.is_empty(), "{strange:?}");
    let mut reader = Reader::from_str(svg);
    let mut names = Vec::new();
    loop {
        match reader.read_event().unwrap() {
            Event::Start(tag) | Event::Empty(tag) => {
                tag.attributes().for_each(|a| drop(a.unwrap()));
                names.push(String::from_utf8_lossy(tag.name().as_ref()).into_owned());
            }
            Event::Eof => return names,
            _ => {}
        }
    }
}

fn svg(of: impl FnOnce(&mut Vec<u8>) -> Result<(), DrawError>) -> String {
    let mut out = Vec::new();
    of(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Every hostile name as function, title, unit, phase; as tree, as both kinds of difference, as a page.
#[test]
fn names() {
    let long = "x".repeat(10_000);
    let names: Vec<&str> = NAMES.iter().copied().chain([long.as_str()]).collect();
    let mut tree = Tree::new();
    for name in &names {
        tree.add(["main", name], 7);
    }
    let phases = names.iter().map(|n| ((*n).to_owned(), "app".to_owned()));
    let text = NAMES.concat();
    let picture = Picture {
        title: text.clone(),
        subtitle: text.clone(),
        unit: text.clone(),
        phases: phases.collect(),
        ..Picture::default()
    };
    let mut other = tree.clone();
    other.add(["main", NAMES[0]], 5);
    let diff = Diff::new(&tree, &other);
    let roots = [NAMES[0], NAMES[1], NAMES[2]];
    let pictures = [
        svg(|out| draw(&tree, &picture, out)),
        svg(|out| draw_diff(&diff, &picture, out)),
        svg(|out| draw_parts(&diff, roots, &picture, out)),
    ];
    for picture in &pictures {
        let scripts = elements(picture).iter().filter(|e| *e == "script").count();
        assert_eq!(scripts, 1);
        assert!(picture.contains("&lt;/script&gt;&lt;script&gt;alert(1)"));
    }
    let page = html(&text, &pictures[0]);
    assert_eq!(page.matches("<script").count(), 1, "{page}");
    assert_eq!(
        page.matches("<title>").count(),
        1 + pictures[0].matches("<title>").count()
    );
}

/// Weights that no one can add up, and those that just fit.
#[test]
fn weights() {
    let most = u64::MAX;
    let tree = Tree::from_folded(&format!("a {most}\nb {most}")).unwrap();
    let error = draw(&tree, &Picture::default(), Vec::new()).unwrap_err();
    assert!(matches!(error, DrawError::TooHeavy), "{error}");
    let tree = Tree::from_folded(&format!("a {}\nb 1", most - 2)).unwrap();
    elements(&svg(|out| draw(&tree, &Picture::default(), out)));
    let diff = Diff::unscaled(&tree, &tree);
    elements(&svg(|out| draw_diff(&diff, &Picture::default(), out)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any text is refused with its line, has nothing to draw, or is a picture; and so is its difference to another.
    #[test]
    fn any_text(
        text in "([ -~;<>&\"'\u{0}-\u{1f}\u{2028}\u{fff0}-\u{ffff}]{0,20}(;[a-c<]{0,3}){0,9} [0-9]{1,3}\n){0,6}.{0,9}",
        other in "(a(;[a-c]){0,4} [0-9]{1,4}\n){0,4}",
    ) {
        let Ok(tree) = Tree::from_folded(&text) else {
            return Ok(());
        };
        let mut out = Vec::new();
        match draw(&tree, &Picture::default(), &mut out) {
            Ok(()) => drop(elements(std::str::from_utf8(&out).unwrap())),
            Err(error) => prop_assert!(matches!(error, DrawError::Empty), "{}", error),
        }
        let other = Tree::from_folded(&other).unwrap();
        let diff = Diff::new(&tree, &other);
        let roots = ["both", "more", "less"];
        let mut out = Vec::new();
        if draw_parts(&diff, roots, &Picture::default(), &mut out).is_ok() {
            elements(std::str::from_utf8(&out).unwrap());
        }
        let mut out = Vec::new();
        if draw_diff(&diff, &Picture::default(), &mut out).is_ok() {
            elements(std::str::from_utf8(&out).unwrap());
        }
    }
}
