//! What the tests share: directories of their own, small programs built on the spot, the real `bypassprof`.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A directory that goes away with the test.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The tool, to be run here.
    pub fn bypassprof(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bypassprof"));
        command.args(args).current_dir(self.0.path());
        command
    }

    /// Runs the tool to its end.
    pub fn run(&self, args: &[&str]) -> Run {
        Run::of(&mut self.bypassprof(args))
    }

    /// Records a command of this place; it must end well.
    pub fn record(&self, command: &[&str]) -> Run {
        let run = self.run(&[&["record", "--"], command].concat());
        assert_eq!(run.code, Some(0), "{}", run.err);
        run
    }

    /// The report of `bypassprof.mcap` as JSON.
    pub fn report(&self) -> Value {
        let run = self.run(&["report", "--json"]);
        assert_eq!(run.code, Some(0), "{}", run.err);
        serde_json::from_str(&run.out).unwrap()
    }

    /// Compiles a program from a source text.
    pub fn compile(&self, compiler: &str, name: &str, source: &str, flags: &[&str]) -> PathBuf {
        let file = self.path(&format!("{name}.{}", ending(compiler)));
        std::fs::write(&file, source).unwrap();
        let program = self.path(name);
        let mut command = Command::new(compiler);
        command
            .current_dir(self.0.path())
            .args(flags)
            .arg(&file)
            .arg("-o")
            .arg(&program);
        let run = Run::of(&mut command);
        assert_eq!(run.code, Some(0), "{}", run.err);
        program
    }

    /// A C program with debug information whose time is known: see [`HOT`].
    pub fn hot(&self) -> PathBuf {
        let flags = ["-g", "-O1", "-fno-omit-frame-pointer", "-Wl,--build-id"];
        self.compile("cc", "hot", HOT, &flags)
    }

    /// Names in the directory, sorted.
    pub fn names(&self) -> Vec<String> {
        names_in(self.0.path())
    }
}

fn ending(compiler: &str) -> &'static str {
    match compiler {
        "cc" => "c",
        "c++" => "cc",
        _ => "rs",
    }
}

/// Names in a directory, sorted; none if it is not there.
pub fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    let name = |e: std::io::Result<std::fs::DirEntry>| e.ok()?.file_name().into_string().ok();
    let mut names: Vec<_> = entries.filter_map(name).collect();
    names.sort();
    names
}

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Run {
    pub fn of(command: &mut Command) -> Run {
        Run::from(command.output().unwrap())
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Run {
        Run {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The row of a JSON list whose name holds `part`.
pub fn row<'a>(list: &'a Value, part: &str) -> &'a Value {
    let rows = list.as_array().unwrap();
    let named = |r: &&Value| r["name"].as_str().is_some_and(|n| n.contains(part));
    rows.iter()
        .find(named)
        .unwrap_or_else(|| panic!("no {part} in {list:#}"))
}

/// Runs for as many seconds as it is told, most of them in `hot` and in `mix`, which is inlined into it, and ends with
/// the code it is told.
pub const HOT: &str = r#"
#include <stdlib.h>
#include <time.h>
volatile unsigned sink;
static inline __attribute__((always_inline)) unsigned mix(unsigned x) {
    for (int i = 0; i < 8; i++) x = x * 2654435761u ^ (x >> 13);
    return x;
}
__attribute__((noinline)) void hot(unsigned n) {
    unsigned x = sink;
    for (unsigned i = 0; i < n; i++) x = mix(x + i);
    sink = x;
}
__attribute__((noinline)) void cold(unsigned n) {
    unsigned x = sink;
    for (unsigned i = 0; i < n; i++) x = x * 3 + 1;
    sink = x;
}
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}
int main(int argc, char **argv) {
    double end = now() + (argc > 1 ? atof(argv[1]) : 0.4);
    do { hot(20000); cold(20000); } while (now() < end);
    return argc > 2 ? atoi(argv[2]) : 0;
}
"#;
