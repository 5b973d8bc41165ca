//! Names of what was sampled: real programs, recorded, reported here and after they are gone.

use crate::support::{Place, row};
use std::fs;
use std::process::Command;

/// A hot function, what is inlined into it, their lines; and the same text when the program is gone.
#[test]
fn lines_and_inlined_functions_outlive_the_program() {
    let place = Place::new();
    let hot = place.hot();
    place.record(&["./hot"]);
    let report = place.report();
    let functions = &report["functions"];
    let mix = row(functions, "mix");
    assert!(mix["self_share"].as_f64().unwrap() > 0.5, "{functions:#}");
    assert!(
        mix["source"].as_str().unwrap().contains("hot.c:"),
        "{mix:#}"
    );
    assert_eq!(mix["module"], "hot");
    let caller = row(functions, "hot");
    assert!(caller["total_share"].as_f64() >= mix["total_share"].as_f64());
    let before = place.run(&["report"]).out;
    assert!(before.contains("trust: "), "{before}");
    fs::remove_file(hot).unwrap();
    assert_eq!(place.run(&["report"]).out, before);
}

/// Another program in the place of the recorded one is not believed, and changes nothing.
#[test]
fn another_build_is_not_believed() {
    let place = Place::new();
    place.hot();
    place.record(&["./hot"]);
    let before = place.run(&["report"]).out;
    place.compile("cc", "hot", "int main(void) { return 0; }", &[]);
    assert_eq!(place.run(&["report"]).out, before);
}

const CXX: &str = r#"
#include <chrono>
namespace net { template <class T> struct Stack { volatile T sum = 0; __attribute__((noinline)) void poll(T n) { T s = sum; for (T i = 0; i < n; i++) s = s * 3 + i; sum = s; } }; }
int main() {
    net::Stack<unsigned> stack;
    auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(400);
    while (std::chrono::steady_clock::now() < end) stack.poll(20000);
}
"#;

const RUST: &str = r#"
mod stack { pub struct Engine<T>(pub T); impl Engine<u32> {
    #[inline(never)] pub fn turn(&mut self, n: u32) { for i in 0..n { self.0 = std::hint::black_box(self.0.wrapping_mul(3) ^ i); } }
} }
fn main() {
    let mut engine = stack::Engine(1u32);
    let start = std::time::Instant::now();
    while start.elapsed().as_millis() < 400 { engine.turn(20_000); }
}
"#;

/// Names of C++ and Rust are those of their sources.
#[test]
fn readable_names() {
    let place = Place::new();
    place.compile("c++", "cxx", CXX, &["-g", "-O1", "-fno-omit-frame-pointer"]);
    place.record(&["./cxx"]);
    let name = "net::Stack<unsigned int>::poll(unsigned int)";
    assert_eq!(row(&place.report()["functions"], "poll")["name"], name);
    for flags in [&["-g"][..], &["-g", "-Csymbol-mangling-version=v0"]] {
        place.compile(
            "rustc",
            "rusty",
            RUST,
            &[&["-Copt-level=1"], flags].concat(),
        );
        place.record(&["./rusty"]);
        let report = place.report();
        let name = row(&report["functions"], "turn")["name"].as_str().unwrap();
        let words: Vec<_> = name
            .split(['<', '>', ':'])
            .filter(|w| !w.is_empty())
            .collect();
        assert_eq!(words, ["rusty", "stack", "Engine", "u32", "turn"]);
    }
}

/// Without symbols and unwind tables, module and position stand instead, with the reason.
#[test]
fn stripped_program() {
    let place = Place::new();
    let flags = ["-O1", "-s", "-fno-asynchronous-unwind-tables"];
    place.compile("cc", "bare", crate::support::HOT, &flags);
    place.record(&["./bare"]);
    let report = place.report();
    let unknown = row(&report["functions"], "[unknown] bare+0x");
    assert!(!unknown["why"].as_str().unwrap().is_empty());
    assert!(report["trust"]["stacks_unknown_share"].as_f64().unwrap() > 0.5);
}

/// Without symbols, but with unwind tables, all samples of a function are one row, by where it begins; they are not unknown, and
/// not taken for named.
#[test]
fn stripped_program_with_unwind_tables() {
    let place = Place::new();
    let flags = ["-O1", "-fasynchronous-unwind-tables"];
    place.compile("cc", "bare", crate::support::HOT, &flags);
    let symbols = Command::new("nm").arg(place.path("bare")).output().unwrap();
    let symbols = String::from_utf8(symbols.stdout).unwrap();
    let begin = symbols
        .lines()
        .find_map(|l| l.strip_suffix(" T hot"))
        .unwrap();
    let name = format!("[no symbol] bare fun_{}", begin.trim_start_matches('0'));
    let stripped = Command::new("strip").arg(place.path("bare")).status();
    assert!(stripped.unwrap().success());
    place.record(&["./bare"]);
    let report = place.report();
    let functions = report["functions"].as_array().unwrap();
    let hot = functions.iter().find(|f| f["name"] == *name);
    let hot = hot.unwrap_or_else(|| panic!("no {name}: {functions:#?}"));
    assert!(hot["self_share"].as_f64().unwrap() > 0.5, "{hot:#}");
    assert!(hot["why"].as_str().unwrap().contains("stripped"), "{hot:#}");
    let share = |of: &str| report["trust"][of].as_f64().unwrap();
    assert!(share("stacks_without_symbol_share") >= hot["self_share"].as_f64().unwrap());
    assert!(share("stacks_unknown_share") < 0.5);
    // It stays so through the text of `perf script`.
    place.run(&["export", "--format", "perf-script", "-o", "text"]);
    place.run(&["import", "-o", "back.mcap", "text"]);
    let back = place.run(&["report", "--json", "back.mcap"]).out;
    let back: serde_json::Value = serde_json::from_str(&back).unwrap();
    assert!(
        back["functions"]
            .as_array()
            .unwrap()
            .iter()
            .any(|f| f["name"] == *name),
        "{back:#}"
    );
    let of_text = back["trust"]["stacks_without_symbol_share"].as_f64();
    assert!(
        (of_text.unwrap() - share("stacks_without_symbol_share")).abs() < 1e-6,
        "{back:#}"
    );
}

const CHOSEN: &str = r#"
#include <time.h>
volatile unsigned sum;
static __attribute__((noipa)) void one(void) { sum++; }
void (*choose(void))(void) { return one; }
static void chosen(void) __attribute__((ifunc("choose"), used));
void *free(void *);
void *keep = free;
int main(void) { for (time_t end = time(0) + 2; time(0) < end;) for (int i = 0; i < 100000; i++) { chosen(); free(0); } }
"#;

/// Stubs have names wherever a linker puts them, also where what they jump to is chosen when the program is loaded, or is
/// bound with its address.
#[test]
fn stubs_of_every_kind() {
    let place = Place::new();
    place.compile(
        "cc",
        "chosen",
        CHOSEN,
        &["-O1", "-fno-builtin", "-fPIE", "-pie"],
    );
    place.record(&["./chosen"]);
    let report = place.report();
    for name in ["choose@plt", "free@plt"] {
        let stub = row(&report["functions"], name);
        assert_eq!(stub["module"], "chosen");
    }
}

/// With the privilege for it, kernel functions have names too.
#[test]
fn kernel_functions() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: only root sees the kernel's addresses");
        return;
    }
    let place = Place::new();
    let source = r#"
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int main(void) { for (time_t end = time(0) + 2; time(0) < end;) for (int i = 0; i < 1000; i++) syscall(SYS_getppid); }
"#;
    place.compile("cc", "caller", source, &["-O1"]);
    place.record(&["./caller"]);
    let report = place.report();
    let kernel = row(&report["modules"], "[kernel]");
    assert!(kernel["self_share"].as_f64().unwrap() > 0.1, "{kernel:#}");
    let functions = report["functions"].as_array().unwrap();
    let named = |f: &&serde_json::Value| f["module"] == "[kernel]" && f["why"].is_null();
    assert!(functions.iter().filter(named).count() > 2, "{functions:#?}");
}
