//! Names from every place that a tool chain and a distribution put them, and for code whose file is gone, moved, or was
//! never one. Each test builds the real thing.

use crate::support::{HOT, Place, Run, row};
use std::path::Path;
use std::process::{Command, Stdio};

fn tool(place: &Place, words: &str) -> Run {
    let run = Run::of(
        Command::new("sh")
            .arg("-c")
            .arg(words)
            .current_dir(place.path(".")),
    );
    assert_eq!(run.code, Some(0), "{words}: {}", run.err);
    run
}

fn has(tool: &str) -> bool {
    let mut look = Command::new("sh");
    look.args(["-c", &format!("command -v {tool}")]);
    let found = look.stdout(Stdio::null());
    let found = found.status().is_ok_and(|s| s.success());
    if !found {
        println!("left out: there is no {tool}");
    }
    found
}

fn build(place: &Place, flags: &str) {
    std::fs::write(place.path("hot.c"), HOT).unwrap();
    tool(
        place,
        &format!("cc -O1 {flags} -Wl,--build-id hot.c -o hot"),
    );
}

/// The program's time is in `hot`, and, where inlined functions are known, in `mix`, with its line.
fn assert_names(place: &Place, inlined: bool) {
    let report = place.report();
    let hot = row(&report["functions"], "hot");
    assert!(hot["total_share"].as_f64().unwrap() > 0.4, "{hot}");
    if inlined {
        let text = place.run(&["report"]).out;
        let line = text.lines().find(|l| l.contains(" mix "));
        assert!(line.is_some_and(|l| l.contains("hot.c:")), "{text}");
    }
}

/// Whether the recording knows the function at all.
fn is_named(place: &Place) -> bool {
    let functions = place.report()["functions"].clone();
    functions
        .as_array()
        .unwrap()
        .iter()
        .any(|f| f["name"] == "hot")
}

fn record(place: &Place, more: &[&str]) {
    let run = place.run(&[&["record"], more, &["--", "./hot", "0.3"]].concat());
    assert_eq!(run.code, Some(0), "{}", run.err);
}

/// DWARF 4 and 5, packed sections, and both split over the files that the compiler leaves.
#[test]
fn dwarf() {
    let place = Place::new();
    for flags in [
        "-gdwarf-4",
        "-gdwarf-5",
        "-g -gz",
        "-gdwarf-4 -gsplit-dwarf",
        "-gdwarf-5 -gsplit-dwarf",
    ] {
        build(&place, flags);
        record(&place, &[]);
        assert_names(&place, true);
    }
}

/// A function whose debug information knows it by a library's inner name has the one that others call it by.
#[test]
fn inner_name() {
    let place = Place::new();
    let alias = "extern __typeof(hot) plain __attribute__((alias(\"__GI_hot\")));";
    std::fs::write(place.path("hot.c"), format!("{HOT}\n{alias}\n")).unwrap();
    tool(
        &place,
        "cc -O1 -g -Dhot=__GI_hot -Wl,--build-id hot.c -o hot",
    );
    record(&place, &[]);
    let report = place.report();
    let plain = row(&report["functions"], "plain");
    assert!(plain["total_share"].as_f64().unwrap() > 0.4, "{plain}");
}

/// Split DWARF that was packed into one file beside the program.
#[test]
fn packaged() {
    if !has("dwp") {
        return;
    }
    let place = Place::new();
    build(&place, "-gdwarf-4 -gsplit-dwarf");
    tool(&place, "dwp -e hot -o hot.dwp && rm *.dwo");
    record(&place, &[]);
    assert_names(&place, true);
}

/// A stripped program: its link, its build id below a tree of the user's, and the symbols packed into it.
#[test]
fn stripped() {
    let place = Place::new();
    build(&place, "-g");
    tool(
        &place,
        "objcopy --only-keep-debug hot hot.debug && strip hot",
    );
    let id = tool(&place, "readelf -n hot | sed -n 's/.*Build ID: //p'").out;
    let (first, rest) = id.trim().split_at(2);
    tool(
        &place,
        &format!(
            "mkdir -p tree/.build-id/{first} && cp hot.debug tree/.build-id/{first}/{rest}.debug"
        ),
    );
    record(&place, &["--debuginfo-dir", "tree"]);
    assert_names(&place, true);
    record(&place, &[]);
    assert!(!is_named(&place));
    tool(&place, "objcopy --add-gnu-debuglink=hot.debug hot");
    record(&place, &[]);
    assert_names(&place, true);
    // Debug information of another build is none.
    tool(
        &place,
        "cc -O2 -g -Wl,--build-id hot.c -o another && objcopy --only-keep-debug another hot.debug",
    );
    record(&place, &[]);
    assert!(!is_named(&place));
    if !has("xz") {
        return;
    }
    build(&place, "-g");
    tool(
        &place,
        "objcopy --only-keep-debug hot d && strip --strip-debug d && xz d && strip hot && objcopy --add-section .gnu_debugdata=d.xz hot",
    );
    record(&place, &[]);
    assert_names(&place, false);
}

/// Debug information that several programs share, in a file of its own.
#[test]
fn shared() {
    if !has("dwz") {
        return;
    }
    let place = Place::new();
    build(&place, "-g");
    tool(&place, "cp hot other && dwz -m shared.debug hot other");
    let sections = tool(&place, "readelf -SW hot").out;
    assert!(sections.contains(".gnu_debugaltlink"), "{sections}");
    record(&place, &[]);
    assert_names(&place, true);
    // Inlined functions' names are in it, and nowhere else.
    tool(&place, "mv shared.debug elsewhere");
    record(&place, &[]);
    let text = place.run(&["report"]).out;
    assert!(!text.contains(" mix "), "{text}");
}

/// A program that is deleted while it runs, and one whose name leads to another program by then.
#[test]
fn deleted_and_replaced() {
    let place = Place::new();
    for then in ["", "; cp /bin/true hot"] {
        build(&place, "-g");
        let script = format!("./hot 0.6 & sleep 0.2; rm hot{then}; wait");
        let run = place.run(&["record", "--", "sh", "-c", &script]);
        assert_eq!(run.code, Some(0), "{}", run.err);
        assert_names(&place, true);
    }
    // Deleted before anyone looked.
    build(&place, "-g");
    let mut child = Command::new(place.path("hot")).arg("30").spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    tool(&place, "rm hot");
    let pid = child.id().to_string();
    let run = place.run(&["record", "-p", &pid, "--duration", "0.5"]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(run.code, Some(0), "{}", run.err);
    match rustix::process::geteuid().is_root() {
        true => assert_names(&place, true),
        false => println!("left out: only root sees what others have mapped and deleted"),
    }
}

/// A program of another machine, recorded by perf, with a copy of it in a folder.
#[test]
fn folder_of_copies() {
    if !has("perf") {
        return;
    }
    let place = Place::new();
    build(&place, "-g");
    tool(
        &place,
        "perf record -q -e cpu-clock -F 997 -g -o perf.data ./hot 0.4 >&2; mkdir copies; mv hot copies/",
    );
    let import = |more: &[&str]| place.run(&[&["import", "perf.data"], more].concat());
    assert_eq!(import(&[]).code, Some(0));
    assert!(!is_named(&place));
    let run = import(&["--symbol-dir", "copies"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert_names(&place, true);
}

/// Puts a loop into memory, tells of it where perf's users look, and runs it.
const MAKER: &str = r#"
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
int main(void) {
    unsigned char code[] = {0xb9, 0, 0, 0, 0x20, 0xff, 0xc9, 0x75, 0xfc, 0xc3};
    void *at = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(at, code, sizeof code);
    char name[64];
    snprintf(name, sizeof name, "/tmp/perf-%d.map", getpid());
    FILE *map = fopen(name, "w");
    fprintf(map, "%lx %zx made_here with words\n", (unsigned long)at, sizeof code);
    fclose(map);
    ((void (*)(void))at)();
    puts(name);
    return 0;
}
"#;

/// Code that the program made has the name that the program gave it, for good.
#[test]
fn made_code() {
    if std::env::consts::ARCH != "x86_64" {
        println!("left out: the code is another processor's");
        return;
    }
    let place = Place::new();
    place.compile("cc", "maker", MAKER, &["-O1"]);
    let run = place.record(&["./maker"]);
    std::fs::remove_file(run.out.trim()).unwrap();
    let functions = place.report()["functions"].clone();
    row(&functions, "made_here with words");
}

/// Moves its own hot function onto other memory, as programs do that want huge pages.
const MOVER: &str = r#"
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
volatile unsigned sink;
#define MOVED __attribute__((section("moved"), noipa))
MOVED __attribute__((aligned(4096))) void hot(unsigned n) { for (unsigned i = 0; i < n; i++) sink = sink * 3 + i; }
__attribute__((aligned(4096), section("moved"), noipa)) void after(void) { sink++; }
int main(int argc, char **argv) {
    char copy[4096];
    memcpy(copy, (void *)hot, 4096);
    void *at = mmap((void *)hot, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    memcpy(at, copy, 4096);
    mprotect(at, 4096, PROT_READ | PROT_EXEC);
    time_t end = time(0) + (argc > 1 ? 20 : 1);
    do hot(1000000); while (time(0) < end);
    return 0;
}
"#;

/// Text that was moved to anonymous memory keeps its names, seen as it happens or afterwards.
#[test]
fn moved_text() {
    let place = Place::new();
    place.compile("cc", "mover", MOVER, &["-O1", "-g", "-Wl,--build-id"]);
    place.record(&["./mover"]);
    row(&place.report()["functions"], "hot");
    let mut child = Command::new(place.path("mover"))
        .arg("long")
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    let pid = child.id().to_string();
    let run = place.run(&["record", "-p", &pid, "--duration", "0.4"]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(run.code, Some(0), "{}", run.err);
    row(&place.report()["functions"], "hot");
}

/// A program in its own user, PID and mount namespaces, on a file system that no one else sees, recorded from outside:
/// running already, and while it is started.
#[test]
fn container() {
    let place = Place::new();
    build(&place, "-g");
    let inside = [
        "unshare",
        "--user",
        "--map-root-user",
        "--pid",
        "--mount",
        "--fork",
        "--kill-child",
    ];
    let works = Command::new(inside[0])
        .args(&inside[1..])
        .arg("true")
        .status();
    if !works.is_ok_and(|s| s.success()) {
        println!("left out: there are no namespaces for us");
        return;
    }
    let folder = place.path("only-here");
    std::fs::create_dir(&folder).unwrap();
    let script = |seconds: &str| {
        let folder = folder.display();
        format!(
            "mount -t tmpfs none {folder} && cp hot {folder}/ && cd {folder} && exec ./hot {seconds}"
        )
    };
    let first = script("0.4");
    let started = [&["record", "--"], &inside[..], &["sh", "-c", &first]].concat();
    let run = place.run(&started);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(!Path::new(&folder).join("hot").exists());
    assert_names(&place, true);
    let mut command = Command::new(inside[0]);
    command.args(&inside[1..]).args(["sh", "-c", &script("30")]);
    let mut child = command.current_dir(place.path(".")).spawn().unwrap();
    let one = || {
        let list = format!("/proc/{0}/task/{0}/children", child.id());
        let list = std::fs::read_to_string(list).unwrap_or_default();
        let pid: u32 = list.trim().parse().ok()?;
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        (name.trim() == "hot").then_some(pid)
    };
    let start = std::time::Instant::now();
    let pid = loop {
        if let Some(pid) = one() {
            break pid;
        }
        assert!(start.elapsed().as_secs() < 20);
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    let run = place.run(&["record", "-p", &pid.to_string(), "--duration", "0.4"]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert_names(&place, true);
}

/// Loads a program into the kernel, runs it there for a while, and unloads it by ending.
const FILTER: &str = r#"
#include <linux/bpf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int main(int argc, char **argv) {
    static struct bpf_insn code[4000];
    int n = sizeof code / sizeof *code;
    code[0] = (struct bpf_insn){.code = BPF_ALU64 | BPF_MOV | BPF_K};
    for (int i = 1; i < n - 1; i++) code[i] = (struct bpf_insn){.code = BPF_ALU64 | BPF_ADD | BPF_K, .imm = i};
    code[n - 1] = (struct bpf_insn){.code = BPF_JMP | BPF_EXIT};
    union bpf_attr load, run;
    memset(&load, 0, sizeof load);
    load.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
    load.insns = (uintptr_t)code;
    load.insn_cnt = n;
    load.license = (uintptr_t)"GPL";
    strcpy(load.prog_name, "hot_filter");
    int program = syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load);
    if (program < 0) return perror("bpf"), 77;
    puts("loaded");
    fflush(stdout);
    char frame[64] = {0};
    time_t end = time(0) + atoi(argv[1]);
    do {
        memset(&run, 0, sizeof run);
        run.test.prog_fd = program;
        run.test.data_in = (uintptr_t)frame;
        run.test.data_size_in = sizeof frame;
        run.test.repeat = 20000;
        if (syscall(SYS_bpf, BPF_PROG_TEST_RUN, &run, sizeof run)) return perror("run"), 78;
    } while (time(0) < end);
    return 0;
}
"#;

/// A BPF program has its name, unloaded by the time that names are looked for or loaded long before.
#[test]
fn bpf_program() {
    let place = Place::new();
    place.compile("cc", "filter", FILTER, &["-O1"]);
    let mut alone = Command::new(place.path("filter"));
    let mut alone = alone.arg("20").stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut out = std::io::BufReader::new(alone.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut said).unwrap();
    if said != "loaded\n" {
        let code = alone.wait().unwrap();
        eprintln!("left out: this user loads no programs into this kernel ({code})");
        return;
    }
    let is_named = || {
        let functions = place.report()["functions"].clone();
        let filter = row(&functions, "hot_filter");
        assert!(filter["self_share"].as_f64().unwrap() > 0.3, "{filter}");
        assert!(
            filter["name"].as_str().unwrap().starts_with("bpf_prog_"),
            "{filter}"
        );
    };
    let pid = alone.id().to_string();
    let run = place.run(&["record", "-p", &pid, "--duration", "0.5"]);
    alone.kill().unwrap();
    alone.wait().unwrap();
    assert_eq!(run.code, Some(0), "{}", run.err);
    is_named();
    place.record(&["./filter", "1"]);
    is_named();
    // perf's recording tells the name too.
    if has("perf") {
        tool(
            &place,
            "perf record -q -e cpu-clock -F 997 -g -o perf.data ./filter 1 >&2",
        );
        assert_eq!(place.run(&["import", "perf.data"]).code, Some(0));
        is_named();
    }
}

/// Functions of a module of the kernel. `tests/pmu/run` loads one on its machine and says which; here kernels may have none.
#[test]
fn kernel_module() {
    let Ok(module) = std::env::var("BYPASSPROF_TEST_MODULE") else {
        eprintln!("left out: no module was loaded to be looked at");
        return;
    };
    // As `module:device to write to:file of the module`.
    let [module, device, file] = module.split(':').collect::<Vec<_>>()[..] else {
        panic!("{module}");
    };
    let write = format!(
        "i=0; while [ $i -lt 100 ]; do dd if=/dev/zero of={device} bs=1M count=8 oflag=direct; i=$((i + 1)); done"
    );
    // Loaded before the recording, and while it goes on.
    for first in [String::new(), format!("insmod {file}; sleep 0.2; ")] {
        let place = Place::new();
        if !first.is_empty() {
            let unloaded = std::process::Command::new("rmmod").arg(module).status();
            assert!(unloaded.unwrap().success());
        }
        place.record(&["sh", "-c", &format!("{first}{write}")]);
        let functions = place.report()["functions"].clone();
        let module = format!("[{module}]");
        let own = functions.as_array().unwrap().iter();
        let own: Vec<_> = own.filter(|f| f["module"] == module).collect();
        assert!(!own.is_empty(), "{first}{functions:#}");
        let named = |f: &&serde_json::Value| !f["name"].as_str().unwrap().contains("unknown");
        assert!(own.iter().all(named), "{first}{own:#?}");
        eprintln!("{first}functions of {module}: {}", own.len());
    }
}

/// Functions of the kernel, where it shows its addresses.
#[test]
fn kernel() {
    let place = Place::new();
    place.record(&[
        "dd",
        "if=/dev/zero",
        "of=/dev/null",
        "bs=4M",
        "count=1500",
        "status=none",
    ]);
    let kallsyms = std::fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    let hidden = kallsyms
        .lines()
        .next()
        .is_none_or(|l| l.starts_with("0000000000000000 "));
    if hidden || !rustix::process::geteuid().is_root() {
        println!("left out: the kernel hides its addresses");
        return;
    }
    let functions = place.report()["functions"].clone();
    let of_kernel = functions
        .as_array()
        .unwrap()
        .iter()
        .filter(|f| f["module"] == "[kernel]");
    assert!(of_kernel.count() > 2, "{functions:#}");
}
