//! Events read, refused and printed.

use super::*;
use proptest::prelude::*;

fn one(text: &str) -> Spec {
    let groups = parse(text).unwrap();
    assert_eq!((groups.len(), groups[0].events.len()), (1, 1), "{text}");
    groups[0].events[0].clone()
}

/// Each way of writing an event.
#[test]
fn every_kind() {
    let name = |n: &str| What::Name(n.to_owned());
    assert_eq!(one("cycles").what, name("cycles"));
    assert_eq!(one("cycles:u").modifiers.to_string(), "u");
    assert_eq!(
        one("L1-dcache-load-misses").what,
        name("L1-dcache-load-misses")
    );
    assert_eq!(one("r1a8:pp").what, What::Raw(0x1a8));
    assert_eq!(one("4:0x3c").what, What::Number(4, 0x3c));
    assert_eq!(one("net:*").to_string(), "net:*");
    let probe = |path: &str, symbol: &str, offset, ret| {
        What::Uprobe(Uprobe {
            path: path.to_owned(),
            symbol: symbol.to_owned(),
            offset,
            ret,
        })
    };
    assert_eq!(one("./httpd:main").what, probe("./httpd", "main", 0, false));
    let spec = one("/bin/a b:a::b+0x10%return:u");
    assert_eq!(spec.what, probe("/bin/a b", "a::b", 16, true));
    assert_eq!(spec.modifiers.to_string(), "u");
    assert_eq!(
        one("httpd:serve%return").what,
        probe("httpd", "serve", 0, true)
    );
    let spec = one("cpu/event=0x3c,edge,name=mine/u");
    assert_eq!(spec.to_string(), "cpu/event=0x3c,edge,name=mine/u");
    assert_eq!(one("mem:0x1000/8:w:u").to_string(), "mem:0x1000/8:w:u");
    assert_eq!(one("mem:0x1000:k").to_string(), "mem:0x1000:rw:k");
    let groups = parse("cs,mine{cycles,r3c:u}:k,{faults}").unwrap();
    assert_eq!(groups.len(), 3);
    assert_eq!(groups[1].name, "mine");
    assert_eq!(groups[1].modifiers.to_string(), "k");
    assert!(groups[2].braced);
}

/// What is refused says where.
#[test]
fn refusals() {
    for (text, at) in [
        ("", 1),
        ("cycles,", 8),
        ("{cycles,cs", 11),
        ("{}", 2),
        ("cycles:", 8),
        ("cycles:z", 8),
        ("net:D:", 7),
        ("{cs}:", 6),
        ("cpu/edge/:", 11),
        ("cpu/event=/", 11),
        ("cpu/event=1", 12),
        ("cpu/event=0x1ffffffffffffffff/", 30),
        ("./httpd", 8),
        ("./httpd:", 9),
        ("./httpd:a%back", 15),
        ("mem:here", 9),
        ("cycles:pppp:u", 8),
        ("cycles u", 7),
        ("4:x", 4),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.at, at, "{error}");
    }
}

proptest! {
    /// Any text is read or refused, and what was read prints as text with the same meaning.
    #[test]
    fn prints_what_it_read(text in "[a-z{}:/,=+%.0-9x*_ é-]{0,40}") {
        if let Ok(groups) = parse(&text) {
            let shown: Vec<_> = groups.iter().map(Group::to_string).collect();
            let shown = shown.join(",");
            prop_assert_eq!(parse(&shown), Ok(groups), "{}", shown);
        }
    }

    /// The same for text made of parts of events.
    #[test]
    fn likely_text(parts in proptest::collection::vec(prop_oneof![
        Just("cycles"), Just(":"), Just("u"), Just("kpp"), Just("{"), Just("}"), Just(","), Just("/"), Just("event=0x3c"),
        Just("./a"), Just("::"), Just("b"), Just("+4"), Just("+0"), Just("%return"), Just("mem:0x10"), Just("r1f"), Just("4"), Just("net"),
    ], 0..12)) {
        let text = parts.concat();
        if let Ok(groups) = parse(&text) {
            let shown: Vec<_> = groups.iter().map(Group::to_string).collect();
            let shown = shown.join(",");
            prop_assert_eq!(parse(&shown), Ok(groups), "{} as {}", text, shown);
        }
    }
}
