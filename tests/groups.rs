//! Groups that are read with every sample where the kernel hands none on to threads made later, as before Linux 6.12: opened
//! for each thread, with what threads ran before that counted. A library in front of its system call makes the kernel here
//! refuse as those do; `counters` runs on a real one.

use crate::support::{Place, Run};
use bypassprof::trace::record::Sample;
use bypassprof::trace::{Reader, Record};
use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

/// `perf_event_open` as before 6.12: no inherited event that is read with samples.
const OLDER: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <stdarg.h>
#include <sys/syscall.h>
long syscall(long number, ...) {
    static long (*next)(long, ...);
    long a[6];
    va_list list;
    if (!next) next = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    va_start(list, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_perf_event_open) {
        struct perf_event_attr *attr = (struct perf_event_attr *)a[0];
        if (attr->inherit && (attr->sample_type & PERF_SAMPLE_READ)) { errno = EINVAL; return -1; }
    }
    return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
"#;

/// Threads that compute, touch 500 fresh pages and compute: three, then one in another process, then 200 that do nothing. Told
/// to stay it has two that compute until it is killed. Says the numbers of those that compute.
const PROGRAM: &str = r#"
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
static volatile unsigned sink;
static void burn(long ms) {
    struct timespec t;
    do {
        for (int i = 0; i < 1000; i++) sink += i;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    } while (t.tv_sec * 1000 + t.tv_nsec / 1000000 < ms);
}
static void *work(void *none) {
    printf("%ld\n", syscall(SYS_gettid));
    fflush(stdout);
    burn(100);
    char *pages = mmap(0, 500 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(pages, 500 * 4096, MADV_NOHUGEPAGE);
    for (int i = 0; i < 500; i++) pages[i * 4096] = 1;
    burn(250);
    return none;
}
static void *on(void *none) { printf("%ld\n", syscall(SYS_gettid)); fflush(stdout); burn(600000); return none; }
static void *nothing(void *none) { return none; }
static void several(void *(*what)(void *), int n) {
    pthread_t t[200];
    for (int i = 0; i < n; i++) pthread_create(&t[i], 0, what, 0);
    for (int i = 0; i < n; i++) pthread_join(t[i], 0);
}
int main(int argc, char **argv) {
    if (argc > 1) several(on, 2);
    several(work, 3);
    if (!fork()) { work(0); return 0; }
    wait(0);
    several(nothing, 200);
    return 0;
}
"#;

const GROUP: &str = "{cpu-clock,page-faults,task-clock}";

struct Recorded {
    samples: Vec<Sample>,
    totals: Vec<u64>,
    notices: BTreeMap<String, String>,
}

fn place() -> Place {
    let place = Place::new();
    place.compile("cc", "older.so", OLDER, &["-shared", "-fPIC", "-O1"]);
    place.compile("cc", "program", PROGRAM, &["-O1", "-pthread"]);
    place
}

/// Records on an older kernel.
fn record(place: &Place, options: &[&str]) -> (Recorded, Run) {
    let mut command = place.bypassprof(&[&["record", "-e", GROUP], options].concat());
    let run = Run::of(command.env("LD_PRELOAD", place.path("older.so")));
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    let reader = Reader::open(&place.path("bypassprof.mcap")).unwrap();
    let summary = reader.meta();
    let events = &summary.session.events;
    let members = events.iter().filter(|e| e.leader == Some(0)).count();
    assert_eq!(members, 2, "{events:?}");
    let of_sample = |record| match record {
        Record::Sample(sample) => Some(sample),
        Record::Switch(_) | Record::Slots(..) => None,
    };
    let samples = reader.records().filter_map(|r| of_sample(r.unwrap()));
    let totals = summary.counters.as_ref().unwrap().values.iter();
    let notices = summary.notices.iter();
    let recorded = Recorded {
        samples: samples.collect(),
        totals: totals.map(|t| t.map_or(0, |t| t.value)).collect(),
        notices: notices.map(|n| (n.id.clone(), n.text.clone())).collect(),
    };
    assert!(
        recorded.notices.contains_key("group-per-thread"),
        "{}",
        run.err
    );
    assert!(recorded.samples.iter().all(|s| s.group.len() == 2));
    (recorded, run)
}

/// Numbers of threads that a program said.
fn said(text: &str) -> BTreeSet<u32> {
    text.lines().filter_map(|l| l.parse().ok()).collect()
}

/// Numbers in a text, in their order.
fn numbers(text: &str) -> Vec<f64> {
    let words = text.split(|c: char| !c.is_ascii_digit() && c != '.');
    words.filter_map(|w| w.parse().ok()).collect()
}

/// Threads and processes made later are sampled, each with its group; what they ran before, and those that ended before,
/// are counted, so that all CPU time is accounted for.
#[test]
fn threads_made_later() {
    let place = place();
    let (recorded, run) = record(&place, &["--", "./program"]);
    let working = said(&run.out);
    assert_eq!(working.len(), 4, "{}", run.out);
    let mut last: BTreeMap<(u32, u32), Vec<u64>> = BTreeMap::new();
    for sample in &recorded.samples {
        let before = last.entry((sample.tid, sample.cpu)).or_default();
        assert!(before.iter().zip(&sample.group).all(|(a, b)| a <= b));
        before.clone_from(&sample.group);
    }
    let mut faults = 0;
    for &tid in &working {
        let of = recorded.samples.iter().filter(|s| s.tid == tid).count();
        assert!(of > 20, "{of} samples of {tid}: {}", run.err);
        let own = last.iter().filter(|(key, _)| key.0 == tid);
        faults += own.map(|(_, group)| group[0]).sum::<u64>();
    }
    assert!((1400..4000).contains(&faults), "{faults}: {}", run.err);
    assert!(faults <= recorded.totals[1]);
    let told = numbers(&recorded.notices["threads-unsampled"]);
    let [later, sooner, missed, all, _] = told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(later + sooner, 204.0, "{}", run.err);
    assert!(later >= 4.0 && missed > 0.0, "{}", run.err);
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: without the kernel's part samples do not stand for all CPU time");
        return;
    }
    let sampled: u64 = recorded.samples.iter().map(|s| s.period).sum();
    let accounted = (sampled as f64 / 1e6 + missed) / all;
    assert!(
        (0.85..1.15).contains(&accounted),
        "{accounted}: {}",
        run.err
    );
}

/// Threads that are made before anything is to be sampled are sampled from then on.
#[test]
fn threads_made_before_it_begins() {
    let place = place();
    let (recorded, run) = record(&place, &["-D", "60", "--", "./program"]);
    for tid in said(&run.out) {
        assert!(
            recorded.samples.iter().any(|s| s.tid == tid),
            "{tid}: {}",
            run.err
        );
    }
}

/// Threads that run already, sampled less often on the way: the same ones are sampled to the end.
#[test]
fn running_threads() {
    let place = place();
    let mut child = Command::new(place.path("program"));
    let mut child = child.arg("stay").stdout(Stdio::piped()).spawn().unwrap();
    let mut threads = BTreeSet::new();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    while threads.len() < 2 {
        threads.extend(said(&lines.next().unwrap().unwrap()));
    }
    let pid = child.id().to_string();
    let options = [
        "-F",
        "5000",
        "--budget",
        "0.1%",
        "--duration",
        "1.6",
        "-p",
        &pid,
    ];
    let (recorded, run) = record(&place, &options);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(recorded.notices.contains_key("budget"), "{}", run.err);
    assert!(
        !recorded.notices.contains_key("threads-unsampled"),
        "{}",
        run.err
    );
    let ends = |s: &&Sample| s.time.ns();
    let last = recorded.samples.iter().map(|s| s.time.ns()).max().unwrap();
    for tid in threads {
        let of = recorded.samples.iter().filter(|s| s.tid == tid);
        let own = of.max_by_key(ends).unwrap().time.ns();
        assert!(last - own < 400_000_000, "{tid}: {}", run.err);
    }
}
