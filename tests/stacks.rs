//! Stacks against programs that know their own: which functions call which, in C, C++ and Rust, with and without frame
//! pointers, whole programs optimized at once, through signals, callbacks of libraries and their stubs.

use crate::support::Place;

/// Calls `spin` in two ways that it says itself, and more in C.
const C: &str = r#"
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
volatile unsigned sink;
static double now(int clock) { struct timespec t; clock_gettime(clock, &t); return t.tv_sec + t.tv_nsec / 1e9; }
#define USED now(CLOCK_PROCESS_CPUTIME_ID)
#define KEPT __attribute__((noipa))
KEPT void spin(unsigned n) { for (unsigned i = 0; i < n; i++) sink = sink * 3 + i; }
KEPT void inner(unsigned n) { char b[n % 7 + 64]; b[n % 64] = n; spin(20000 + b[n % 64]); sink++; }
KEPT void middle(unsigned n) { inner(n); sink++; }
KEPT void outer(unsigned n) { middle(n); sink++; }
KEPT void other(unsigned n) { spin(n + 10000); sink++; }
KEPT int compare(const void *a, const void *b) { spin(100); return *(int *)a - *(int *)b; }
KEPT void sorts(void) { int v[64]; for (int i = 0; i < 64; i++) v[i] = i * 7919 % 64; qsort(v, 64, 4, compare); sink += v[3]; }
KEPT void handler(int s) { spin(20000); sink++; }
KEPT void signals(void) { raise(SIGUSR1); sink++; }
KEPT void clocks(void) { for (int i = 0; i < 3000; i++) sink += now(CLOCK_MONOTONIC); }
static double end;
KEPT void *worker(void *none) { do { outer(sink & 3); } while (USED < end); return none; }
int main(void) {
    signal(SIGUSR1, handler);
    end = USED + 0.5;
    pthread_t t;
    pthread_create(&t, 0, worker, 0);
    do { outer(sink & 3); other(1); sorts(); signals(); clocks(); } while (USED < end);
    pthread_join(t, 0);
    puts("main;outer;middle;inner;spin main;other;spin worker;outer;middle;inner;spin");
}
"#;

const CXX: &str = r#"
#include <ctime>
#include <cstdio>
volatile unsigned sink;
#define KEPT __attribute__((noipa))
KEPT void spin(unsigned n) { for (unsigned i = 0; i < n; i++) sink = sink * 3 + i; }
struct Shape { virtual void inner(unsigned n) = 0; };
template <typename T> struct Round : Shape { KEPT void inner(unsigned n) override { spin(20000 + n + sizeof(T)); sink++; } };
template <typename T> KEPT void middle(T &shape, unsigned n) { shape.inner(n); sink++; }
KEPT void outer(unsigned n) { Round<int> round; middle<Shape>(round, n); sink++; }
KEPT void other(unsigned n) { spin(n + 10000); sink++; }
int main() {
    std::clock_t end = std::clock() + CLOCKS_PER_SEC * 2 / 5;
    do { outer(sink & 3); other(1); } while (std::clock() < end);
    std::puts("main;outer;middle;inner;spin main;other;spin");
}
"#;

const RUST: &str = r#"
use std::hint::black_box;
#[inline(never)] fn spin(n: u32) -> u32 { let mut x = n; for i in 0..black_box(n) { x = black_box(x.wrapping_mul(3) + (i & 1)); } x }
#[inline(never)] fn inner(n: u32) -> u32 { let room = [black_box(n); 9]; black_box(spin(20000 + n)) + room[3] % 2 }
#[inline(never)] fn middle(n: u32) -> u32 { black_box(inner(n)) | 1 }
#[inline(never)] fn outer(n: u32) -> u32 { black_box(middle(n)) | 2 }
#[inline(never)] fn other(n: u32) -> u32 { black_box(spin(n + 10000)) | 4 }
fn main() {
    for _ in 0..20000 { black_box(outer(black_box(1))); black_box(other(black_box(1))); }
    println!("main;outer;middle;inner;spin main;other;spin");
}
"#;

/// The function's own name: without its path, its arguments and what it returns.
fn bare(name: &str) -> String {
    let mut depth = 0;
    let mut plain = String::new();
    for c in name.split('(').next().unwrap_or(name).chars() {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            ':' | ' ' if depth == 0 => plain.clear(),
            c if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    plain
}

/// Stacks without the kernel's part, outermost function first, with their weights.
fn stacks(place: &Place) -> Vec<(Vec<String>, u64)> {
    let run = place.run(&["export", "--format", "folded", "-o", "out"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let text = std::fs::read_to_string(place.path("out")).unwrap();
    let stack = |line: &str| {
        let (stack, weight) = line.rsplit_once(' ').unwrap();
        let frames = stack.split(';').skip(1);
        let frames = frames.filter(|f| !f.ends_with("_[k]"));
        (frames.map(str::to_owned).collect(), weight.parse().unwrap())
    };
    text.lines().map(stack).collect()
}

/// The share, of all samples in `spin`, whose stack is one that the program said, from its first function on.
fn true_share(place: &Place, said: &str) -> f64 {
    let chains: Vec<Vec<&str>> = said
        .split_whitespace()
        .map(|c| c.split(';').collect())
        .collect();
    let (mut all, mut right) = (0, 0);
    let mut seen = vec![false; chains.len()];
    for (frames, weight) in stacks(place) {
        let names: Vec<String> = frames.iter().map(|f| bare(f)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if names.last() != Some(&"spin") || names.contains(&"compare") || names.contains(&"handler")
        {
            continue;
        }
        all += weight;
        if let Some(chain) = chains.iter().position(|c| names.ends_with(c)) {
            let whole = !frames[0].starts_with("[stack");
            right += if whole { weight } else { 0 };
            seen[chain] = true;
        }
    }
    assert!(seen.iter().all(|s| *s), "{seen:?} of {chains:?}");
    right as f64 / all as f64
}

/// `--call-graph auto` finds the true stacks of every variant.
#[test]
fn truth() {
    let variants: &[(&str, &str, &[&str])] = &[
        ("cc", C, &["-O2", "-fomit-frame-pointer"]),
        ("cc", C, &["-O2", "-fno-omit-frame-pointer"]),
        ("cc", C, &["-O2", "-flto"]),
        ("c++", CXX, &["-O2", "-fomit-frame-pointer"]),
        ("c++", CXX, &["-O2", "-fno-omit-frame-pointer"]),
        ("c++", CXX, &["-O2", "-flto"]),
        (
            "rustc",
            RUST,
            &["-Copt-level=3", "-Cforce-frame-pointers=no"],
        ),
        (
            "rustc",
            RUST,
            &["-Copt-level=3", "-Cforce-frame-pointers=yes"],
        ),
        ("rustc", RUST, &["-Copt-level=3", "-Clto=fat"]),
    ];
    let place = Place::new();
    for (compiler, source, flags) in variants {
        place.compile(compiler, "known", source, flags);
        let run = place.record(&["./known"]);
        let share = true_share(&place, &run.out);
        assert!(
            share > 0.99,
            "{compiler} {flags:?}: {share}\n{:#?}",
            stacks(&place)
        );
    }
}

/// Handlers of signals have the stack that they interrupted below them, callbacks that of the library, the clock its caller.
#[test]
fn through_what_is_not_its_own() {
    let place = Place::new();
    place.compile("cc", "known", C, &["-O2"]);
    for how in ["auto", "dwarf"] {
        let run = place.run(&["record", "--call-graph", how, "--", "./known"]);
        assert_eq!(run.code, Some(0), "{}", run.err);
        let stacks = stacks(&place);
        for (caller, leaf) in [("signals", "handler"), ("sorts", "compare"), ("clocks", "")] {
            let is = |f: &&(Vec<String>, u64)| match leaf {
                "" => f.0.last().is_some_and(|l| l.contains("gettime")),
                leaf => f.0.iter().any(|name| name == leaf),
            };
            let with: Vec<_> = stacks.iter().filter(is).collect();
            assert!(!with.is_empty(), "{how}: no {leaf} in {stacks:#?}");
            let sum = |of: &[&(Vec<String>, u64)]| of.iter().map(|s| s.1).sum::<u64>() as f64;
            let whole = |f: &&&(Vec<String>, u64)| {
                let at = |name: &str| f.0.iter().position(|frame| frame == name);
                let called = match leaf {
                    "" => at("main").is_some() || at("worker").is_some(),
                    _ => at("main").is_some_and(|m| f.0[m + 1] == caller),
                };
                called && !f.0[0].starts_with("[stack")
            };
            let right: Vec<_> = with.iter().filter(whole).copied().collect();
            assert!(sum(&right) > 0.98 * sum(&with), "{how} {leaf}: {with:#?}");
        }
        // Both ends of stacks: the program's and a thread's.
        let outermost = |name: &str| stacks.iter().any(|s| s.0[0].contains(name));
        assert!(outermost("start") && outermost("clone"), "{stacks:#?}");
    }
}

const STUBS: &str = r#"
void nothing(void);
volatile unsigned sink;
__attribute__((noipa)) void calls(void) { for (int i = 0; i < 200000000; i++) nothing(); sink++; }
int main(void) { calls(); return 0; }
"#;

/// Stubs that jump into libraries have their caller, and the name of what they jump to.
#[test]
fn stubs() {
    let place = Place::new();
    place.compile(
        "cc",
        "libnothing.so",
        "void nothing(void) {}\n",
        &["-O1", "-shared", "-fPIC"],
    );
    let library = place.path("libnothing.so");
    let library = library.to_str().unwrap();
    place.compile(
        "cc",
        "stubs",
        STUBS,
        &[
            "-O1",
            "-Wl,-z,lazy,--no-as-needed",
            "-xnone",
            library,
            "-xc",
        ],
    );
    place.record(&["./stubs"]);
    let stacks = stacks(&place);
    let stub = |s: &&(Vec<String>, u64)| s.0.last().is_some_and(|n| n == "nothing@plt");
    let found: Vec<_> = stacks.iter().filter(stub).collect();
    assert!(!found.is_empty(), "{stacks:#?}");
    let called = |s: &&(Vec<String>, u64)| s.0.ends_with(&["calls".into(), "nothing@plt".into()]);
    assert!(found.iter().all(called), "{found:#?}");
}

const DEEP: &str = r#"
volatile unsigned sink;
__attribute__((noipa)) void spin(void) { for (int i = 0; i < 100000000; i++) sink++; }
__attribute__((noipa)) void down(int n) { volatile char room[100]; room[3] = n; if (n) down(n - 1); else spin(); sink += room[3]; }
int main(void) { down(2000); return 0; }
"#;

/// A stack deeper than what was copied says so, and is not taken for a whole one.
#[test]
fn deeper_than_the_copy() {
    let place = Place::new();
    place.compile("cc", "deep", DEEP, &["-O2"]);
    let run = place.run(&["record", "--call-graph", "dwarf,4096", "--", "./deep"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let stacks = stacks(&place);
    let leaves = stacks
        .iter()
        .filter(|s| s.0.last().is_some_and(|n| n == "spin"));
    let mut seen = 0;
    for (frames, _) in leaves {
        seen += 1;
        assert_eq!(frames[0], "[stack truncated]", "{frames:?}");
        assert!(frames.len() > 20, "{frames:?}");
    }
    assert!(seen > 0, "{stacks:#?}");
}

/// Only instructions, when nothing more is asked for; calls recorded by the processor only where it does so.
#[test]
fn without_stacks() {
    let place = Place::new();
    place.hot();
    let run = place.run(&["record", "--call-graph", "none", "--", "./hot"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let stacks = stacks(&place);
    assert!(
        !stacks.iter().any(|s| s.0.iter().any(|n| n == "main")),
        "{stacks:#?}"
    );
    let run = place.run(&["record", "--call-graph", "lbr", "--", "./hot"]);
    match run.code {
        Some(0) => {}
        _ => assert!(run.err.contains("records its calls"), "{}", run.err),
    }
}
