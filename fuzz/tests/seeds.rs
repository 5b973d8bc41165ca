//! Every target over its seeds and mutations of them: what a fuzzer does, a little of it, without one.
//!
//! `FUZZ_TARGETS` names those to run, with commas, in place of all; with `FUZZ_CORPUS` what a fuzzer left of them in
//! `corpus/` is run too.

use bypassprof_fuzz::{TARGETS, seeds};
use std::fs;
use std::path::{Path, PathBuf};

/// Mutations of each seed.
const MUTATIONS: u64 = 2000;

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

/// Seeds and their mutations make no target panic; each target has at least one seed.
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
    for &(name, target) in TARGETS.iter().filter(|t| is_wanted(t.0)) {
        if std::env::var_os("FUZZ_CORPUS").is_some() && folder("corpus", name).exists() {
            inputs("corpus", name)
                .iter()
                .for_each(|input| target(input));
        }
        let seeds = inputs("seeds", name);
        assert!(!seeds.is_empty(), "{name} has no seeds");
        for (number, seed) in seeds.iter().enumerate() {
            target(seed);
            let mut random = Random(number as u64);
            for _ in 0..MUTATIONS {
                target(&mutate(seed, &mut random));
            }
        }
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
