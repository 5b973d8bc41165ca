//! Every target over its seeds and mutations of them: what a fuzzer does, a little of it, without one.
//!
//! `FUZZ_TARGETS` names those to run, with commas, in place of all; with `FUZZ_CORPUS` what a fuzzer left of them in
//! `corpus/` is run too. `FUZZ_INPUTS` is how many mutations each target has in place of 2000 of each seed, and
//! `FUZZ_SECONDS` how long they may take.

use bypassprof_fuzz::{TARGETS, Target, seeds};
use peak_alloc::PeakAlloc;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Mutations of each seed.
const MUTATIONS: u64 = 2000;

/// Most memory that an input may make a target take: a recording's chunk may say that it is unpacked to 64 MiB.
const MOST_MEMORY: usize = 128 << 20;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

fn folder(kind: &str, target: &str) -> PathBuf {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR"));
    fuzz.join(kind).join(target)
}

/// With `BLESS=1`: writes the seeds that are made by program.
fn bless() {
    let scratch = std::env::temp_dir().join(format!("bypassprof-seeds-{}", std::process::id()));
    fs::create_dir_all(&scratch).unwrap();
    for (target, name, bytes) in seeds::all(&scratch) {
        let folder = folder("seeds", target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    }
    fs::remove_dir_all(&scratch).unwrap();
}

fn inputs(kind: &str, target: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder(kind, target));
    let entries = entries.unwrap_or_else(|e| panic!("{kind} of {target}: {e}"));
    let mut paths: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|p| fs::read(p).unwrap()).collect()
}

/// Steele, Lea and Flood's SplitMix64: the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % n.max(1) as u64) as usize
    }
}

fn mutate(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..1 + random.below(4) {
        let at = random.below(bytes.len());
        match random.below(5) {
            _ if bytes.is_empty() => bytes.push(random.below(256) as u8),
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            2 => bytes.truncate(at),
            3 => {
                let n = random.below(9).min(bytes.len() - at);
                bytes[at..at + n].fill(0xff);
            }
            _ => {
                let piece = bytes[at..bytes.len().min(at + 1 + random.below(64))].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, piece);
            }
        }
    }
    bytes
}

/// One target's inputs so far.
struct Run {
    name: &'static str,
    target: Target,
    inputs: u64,
    most_memory: usize,
}

impl Run {
    /// An input that makes it panic, or take more memory than it may, is kept.
    fn input(&mut self, input: &[u8]) {
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        let run = catch_unwind(AssertUnwindSafe(|| {
            (self.target)(input);
            let taken = MEMORY.peak_usage().saturating_sub(before);
            assert!(taken <= MOST_MEMORY, "it takes {taken} bytes of memory");
            taken
        }));
        match run {
            Ok(taken) => self.most_memory = self.most_memory.max(taken),
            Err(panic) => {
                let folder = folder("artifacts", self.name);
                let path = folder.join("mutation");
                let kept = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, input));
                println!("{}: {kept:?}", path.display());
                resume_unwind(panic);
            }
        }
        self.inputs += 1;
    }
}

/// A number that the environment gives.
fn given(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|e| panic!("{name}={text}: {e}")),
    )
}

/// Seeds and their mutations make no target panic, nor take much memory; each target has at least one seed.
#[test]
fn seeds_and_mutations_run() {
    if std::env::var_os("BLESS").is_some() {
        bless();
    }
    let wanted = std::env::var("FUZZ_TARGETS").ok();
    let is_wanted = |name: &str| {
        let names = wanted.as_deref();
        names.is_none_or(|names| names.split(',').any(|n| n == name))
    };
    let all = given("FUZZ_INPUTS");
    let time = given("FUZZ_SECONDS").map_or(Duration::MAX, Duration::from_secs);
    for &(name, target) in TARGETS.iter().filter(|t| is_wanted(t.0)) {
        let begun = Instant::now();
        let mut run = Run {
            name,
            target,
            inputs: 0,
            most_memory: 0,
        };
        if std::env::var_os("FUZZ_CORPUS").is_some() && folder("corpus", name).exists() {
            inputs("corpus", name).iter().for_each(|i| run.input(i));
        }
        let seeds = inputs("seeds", name);
        assert!(!seeds.is_empty(), "{name} has no seeds");
        seeds.iter().for_each(|seed| run.input(seed));
        let each = all.map_or(MUTATIONS, |all| all.div_ceil(seeds.len() as u64));
        let mut randoms: Vec<_> = (0..seeds.len() as u64).map(Random).collect();
        // In turn, so that each seed has its share when time is over.
        for _ in (0..each).take_while(|_| begun.elapsed() < time) {
            for (seed, random) in seeds.iter().zip(&mut randoms) {
                run.input(&mutate(seed, random));
            }
        }
        println!(
            "{name}: {} inputs in {} s, none took more than {} KiB",
            run.inputs,
            begun.elapsed().as_secs(),
            run.most_memory >> 10
        );
    }
}

/// The fuzzer's list of targets is the one that this test runs.
#[test]
fn every_target_has_a_fuzzer() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    let stem = |p: PathBuf| p.file_stem().unwrap().to_string_lossy().into_owned();
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|e| stem(e.unwrap().path()))
        .collect();
    files.sort();
    let names: Vec<_> = TARGETS.iter().map(|t| t.0.to_owned()).collect();
    assert_eq!(files, names);
}
