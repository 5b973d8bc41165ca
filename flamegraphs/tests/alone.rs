//! The program alone: folded text in, a picture or a page out.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn run(folder: &Path, arguments: &[&str], stdin: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flamegraphs"));
    command.current_dir(folder).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    // It may have ended before it read anything.
    let _ = pipe.write_all(stdin.as_bytes());
    drop(pipe);
    child.wait_with_output().unwrap()
}

/// From stdin to stdout, to a page with phases, and the difference of two.
#[test]
fn pictures_and_pages() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let svg = run(folder, &["--title", "mine"], "main;serve 3\nmain;poll 7\n");
    let text = String::from_utf8(svg.stdout).unwrap();
    assert!(text.contains("<svg") && text.contains("mine") && text.contains("serve (3 samples"));

    std::fs::write(folder.join("a"), "main;serve 3\nmain;copy 1\n").unwrap();
    std::fs::write(folder.join("b"), "main;serve 3\nmain;wait 5\n").unwrap();
    std::fs::write(folder.join("p"), "app serve\nsync wait\n").unwrap();
    let page = run(folder, &["b", "--phases", "p", "-o", "b.html"], "");
    assert!(page.status.success());
    let page = std::fs::read_to_string(folder.join("b.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("id=\"legend\""));
    let diff = run(folder, &["b", "--diff", "a", "--unscaled"], "");
    let diff = String::from_utf8(diff.stdout).unwrap();
    assert!(diff.contains("+ wait (5 samples") && diff.contains("- copy (1 samples"));
}

/// What is no folded text is named with its line; what makes no sense is wrong use.
#[test]
fn mistakes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, stdin, status, says) in [
        (&[][..], "main;serve\n", 1, "stdin: line 1"),
        (&["gone"][..], "", 1, "cannot read gone"),
        (&[][..], "", 1, "nothing to draw"),
        (
            &[][..],
            "a 18446744073709551615\nb 1\n",
            1,
            "add up to more",
        ),
        (&["--unscaled"][..], "", 2, "--diff"),
    ] {
        let run = run(folder.path(), arguments, stdin);
        assert_eq!(run.status.code(), Some(status), "{arguments:?}");
        let words = String::from_utf8(run.stderr).unwrap();
        assert!(words.contains(says), "{arguments:?}: {words}");
    }
}
