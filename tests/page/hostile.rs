//! Names from strangers: whatever a program, its functions, threads, files and machine are called, the page and the
//! pictures are whole, run nothing of theirs and show no more than text.

use super::{drive, in_browser};
use crate::compare::run::{LOAD, Load, records, write_records};
use crate::support::Place;
use bypassprof::trace::record::{Meta, Notice};
use serde_json::json;

const NAMES: [&str; 7] = [
    "</script><script>window.pwned=1</script>",
    "<!--<script>",
    "<img src=x onerror=window.pwned=1>",
    "\"'`${window.pwned=1}\\",
    "ended\u{2028}here\u{2029}",
    "turned\u{202e}round\u{2067}",
    "\u{1}\u{7f}\u{85}\u{1b}[2J\u{ffff}]]>",
];
/// A file may be called so too.
const FILE: &str = "a'\"<b>&.mcap";

/// Everything in a recording that has a name has a hostile one.
fn write(place: &Place) {
    let mut records = records(&Load {
        requests: 500,
        ..LOAD
    });
    let long = "very::long::".repeat(1_000);
    let all = NAMES.concat();
    for meta in &mut records.metas {
        match meta {
            Meta::Session(session) => {
                session.command = NAMES.map(str::to_owned).into();
                for text in [
                    &mut session.host,
                    &mut session.kernel,
                    &mut session.cpu_model,
                ] {
                    text.clone_from(&all);
                }
            }
            Meta::Thread(thread) => thread.name = NAMES[0].into(),
            Meta::Ring(ring) => ring.name = all.clone(),
            Meta::Mapping(mapping) => mapping.path.clone_from(&all),
            Meta::Symbols(symbols) => {
                symbols.path.clone_from(&all);
                for (at, address) in symbols.addresses.iter_mut().enumerate() {
                    let frame = &mut address.frames[0];
                    frame.file.clone_from(&all);
                    frame.name = match at {
                        0 => long.clone(),
                        at => NAMES[at % NAMES.len()].to_owned(),
                    };
                }
            }
            _ => {}
        }
    }
    let notice = Notice {
        id: NAMES[1].into(),
        text: all,
    };
    records.metas.push(Meta::Notice(notice));
    write_records(&place.path(FILE), &records);
}

/// The page in bytes, and in a browser.
#[test]
fn page() {
    let place = Place::new();
    write(&place);
    let run = place.run(&["report", FILE, "--html", "page.html"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let page = std::fs::read_to_string(place.path("page.html")).unwrap();
    for (tag, times) in [("<script", 2), ("</script", 2), ("<title", 1), ("<img", 0)] {
        assert_eq!(page.matches(tag).count(), times, "{tag}");
    }
    let is_plain = |c: char| c == '\n' || !c.is_control();
    assert!(page.chars().all(is_plain));
    let Some(seen) = drive(&place.path("page.html"), "very") else {
        return;
    };
    assert_eq!(seen["errors"], json!([]), "{seen:#}");
    assert_eq!(seen["pwned"], json!(null));
    assert_eq!(seen["sections"].as_array().unwrap().len(), 6, "{seen:#}");
    assert!(
        seen["title"].as_str().unwrap().contains("<script>"),
        "{seen:#}"
    );
    assert!(
        !seen["text"]
            .as_str()
            .unwrap()
            .contains(['\u{202e}', '\u{2028}', '\u{1b}'])
    );
}

/// Flame graphs, of time and of latency, and the ledger: well-formed, and inert in a browser.
#[test]
fn pictures() {
    let place = Place::new();
    write(&place);
    for (picture, args) in [
        ("flame.svg", &["flamegraph", FILE, "-o"][..]),
        (
            "request.svg",
            &["flamegraph", FILE, "--busy", "--per", "request", "-o"][..],
        ),
        ("latency.svg", &["flamegraph", FILE, "--latency", "-o"][..]),
        ("ledger.svg", &["ledger", FILE, "--svg"][..]),
    ] {
        let run = place.run(&[args, &[picture]].concat());
        assert_eq!(run.code, Some(0), "{picture}: {}", run.err);
        let svg = std::fs::read_to_string(place.path(picture)).unwrap();
        let scripts = usize::from(picture != "ledger.svg");
        assert_eq!(svg.matches("<script").count(), scripts, "{picture}");
        let Some(seen) = in_browser("picture.py", &[place.path(picture).as_os_str()]) else {
            return;
        };
        assert_eq!(seen["errors"], json!([]), "{picture}: {seen:#}");
        assert_eq!(
            (&seen["root"], &seen["pwned"]),
            (&json!("svg"), &json!(null))
        );
        assert!(seen["frames"].as_u64() > Some(3), "{picture}: {seen:#}");
    }
}
