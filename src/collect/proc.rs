//! What /proc tells about running processes, the kernel and the machine.
//!
//! In: process ids; out: threads, mappings, facts for [`Session`]. It refuses to know perf and probes.

use super::clock;
use super::perf::ring::hex;
use super::rights::Rights;
use crate::trace::file::open_regular;
use crate::trace::record::{Mapping, Meta, Pid, Session, Thread, Tid};
use crate::units::{Avma, FileOffset};
use object::{Object, ReadCache};
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{self, BufReader};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Threads of a process, by number.
pub fn threads(pid: Pid) -> io::Result<Vec<Tid>> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"))?;
    let tid = |e: io::Result<fs::DirEntry>| e.ok()?.file_name().to_str()?.parse().ok();
    let mut tids: Vec<Tid> = entries.filter_map(tid).collect();
    tids.sort_unstable();
    Ok(tids)
}

/// The process of a thread.
pub fn process_of(tid: Tid) -> Option<Pid> {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("Tgid:"))?;
    line.trim().parse().ok()
}

/// Every process that can be seen.
pub fn all() -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<Pid> = entries
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    pids
}

/// These processes, as far as they are there, and all that they made.
pub fn families(roots: &[Pid]) -> Vec<Pid> {
    let mut found: BTreeSet<Pid> = BTreeSet::new();
    let mut left = roots.to_vec();
    while let Some(pid) = left.pop() {
        let Ok(threads) = threads(pid) else {
            continue;
        };
        if !found.insert(pid) {
            continue;
        }
        for tid in threads {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{tid}/children"));
            let children = children.unwrap_or_default();
            left.extend(children.split(' ').filter_map(|c| c.parse::<Pid>().ok()));
        }
    }
    found.into_iter().collect()
}

/// Names of a process's threads.
pub fn names(pid: Pid, out: &mut Vec<Meta>) {
    let time = clock::now();
    for tid in threads(pid).unwrap_or_default() {
        if let Ok(name) = fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm")) {
            out.push(Meta::Thread(Thread {
                time,
                pid,
                tid,
                parent: 0,
                parent_tid: 0,
                name: name.trim_end().to_string(),
                exec: false,
            }));
        }
    }
}

/// Executable mappings of a process, with build ids.
pub fn mappings(pid: Pid, out: &mut Vec<Meta>) {
    let time = clock::now();
    let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) else {
        return;
    };
    let mut build_ids: HashMap<String, String> = HashMap::new();
    let rights = Rights::of(pid).unwrap_or_default();
    let lines: Vec<_> = maps.lines().filter_map(parse_map).collect();
    for (at, (code, mapping)) in lines.iter().enumerate() {
        if !code {
            continue;
        }
        let around = (at.checked_sub(1).map(|b| &lines[b].1), lines.get(at + 1));
        let mut mapping = match around {
            (Some(before), Some((_, after))) => moved(before, mapping, after),
            _ => mapping.clone(),
        };
        mapping.pid = pid;
        mapping.time = time;
        if mapping.path.starts_with('/') && !mapping.path.starts_with("//") {
            let id = build_ids.entry(mapping.path.clone());
            // Through the process's own root: a container's files are not ours.
            let inside = format!("/proc/{pid}/root{}", mapping.path);
            mapping.build_id = id
                .or_insert_with(|| rights.within(|| build_id(&inside)))
                .clone();
        }
        out.push(Meta::Mapping(mapping));
    }
}

/// Anonymous memory in the midst of a file is text of that file which its program moved, onto huge pages for example: the
/// file in its place.
fn moved(before: &Mapping, mapping: &Mapping, after: &Mapping) -> Mapping {
    let end = |m: &Mapping| m.start.0.saturating_add(m.len);
    let further = |from: &Mapping, to: &Mapping| {
        from.offset
            .0
            .wrapping_add(to.start.0.wrapping_sub(from.start.0))
    };
    let adjacent = end(before) == mapping.start.0 && end(mapping) == after.start.0;
    let of_file = before.path.starts_with('/') && before.path == after.path;
    if mapping.path != "//anon" || !adjacent || !of_file || further(before, after) != after.offset.0
    {
        return mapping.clone();
    }
    Mapping {
        offset: FileOffset(further(before, mapping)),
        path: before.path.clone(),
        ..mapping.clone()
    }
}

/// A line of a maps file, and whether it is code.
fn parse_map(line: &str) -> Option<(bool, Mapping)> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let start = u64::from_str_radix(start, 16).ok()?;
    let end = u64::from_str_radix(end, 16).ok()?;
    let (flags, rest) = rest.split_once(' ')?;
    let (offset, rest) = rest.split_once(' ')?;
    let (_device, rest) = rest.split_once(' ')?;
    let path = rest
        .split_once(' ')
        .map_or("", |(_, path)| path.trim_start());
    let mapping = Mapping {
        start: Avma(start),
        len: end.saturating_sub(start),
        offset: FileOffset(u64::from_str_radix(offset, 16).unwrap_or(0)),
        path: if path.is_empty() { "//anon" } else { path }.to_string(),
        ..Mapping::default()
    };
    Some((flags.contains('x'), mapping))
}

/// A file's GNU build id; empty if it has none or cannot be read.
fn build_id(path: &str) -> String {
    let read = || {
        let file = open_regular(Path::new(path)).ok()?;
        let cache = ReadCache::new(BufReader::new(file));
        let object = object::File::parse(&cache).ok()?;
        Some(hex(object.build_id().ok()??))
    };
    read().unwrap_or_default()
}

fn one_line(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().to_string()
}

/// CPUs that are online.
pub fn cpus() -> Vec<u32> {
    let list = one_line("/sys/devices/system/cpu/online");
    let cpus = parse_cpus(&list);
    if cpus.is_empty() { vec![0] } else { cpus }
}

/// CPUs of a list as the kernel prints it: `0-2,5`.
pub fn parse_cpus(list: &str) -> Vec<u32> {
    let part = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?.min(65_535))
    };
    list.split(',').filter_map(part).flatten().collect()
}

/// Facts about this machine.
pub fn session() -> Session {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find(|l| l.starts_with("model name"));
    let model = model.and_then(|l| l.split_once(": ")).map(|(_, name)| name);
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    Session {
        tool_version: env!("CARGO_PKG_VERSION").to_string(),
        started_unix_ns: unix.map_or(0, |d| d.as_nanos() as u64),
        started: clock::now(),
        kernel: one_line("/proc/sys/kernel/osrelease"),
        arch: std::env::consts::ARCH.to_string(),
        host: one_line("/proc/sys/kernel/hostname"),
        boot_id: one_line("/proc/sys/kernel/random/boot_id"),
        cpu_model: model.unwrap_or("unknown").to_string(),
        cpus: cpus().len() as u32,
        ..Session::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of maps files, with names that hold spaces.
    #[test]
    fn map_lines() {
        let line = "7f00-8f00 r-xp 00001000 fe:01 123    /opt/my program (deleted)";
        let (code, mapping) = parse_map(line).unwrap();
        assert!(code);
        assert_eq!(mapping.path, "/opt/my program (deleted)");
        assert_eq!((mapping.start, mapping.len), (Avma(0x7f00), 0x1000));
        assert_eq!(mapping.offset, FileOffset(0x1000));
        let (code, mapping) = parse_map("7f00-8f00 rw-p 00000000 00:00 0 ").unwrap();
        assert!(!code && mapping.path == "//anon");
        assert_eq!(parse_map("nonsense"), None);
    }

    /// Anonymous code between two parts of a file that fit together is the file's; anywhere else it is not.
    #[test]
    fn moved_text() {
        let map = |line| parse_map(line).unwrap().1;
        let before = map("1000-2000 r--p 00000000 fe:01 123 /a");
        let memory = map("2000-4000 r-xp 00000000 00:00 0 ");
        let after = map("4000-5000 r--p 00003000 fe:01 123 /a");
        let found = moved(&before, &memory, &after);
        assert_eq!(
            (found.path.as_str(), found.offset),
            ("/a", FileOffset(0x1000))
        );
        let elsewhere = map("4000-5000 r--p 00004000 fe:01 123 /a");
        assert_eq!(moved(&before, &memory, &elsewhere), memory);
    }

    /// Lists of CPUs as the kernel prints them.
    #[test]
    fn cpu_lists() {
        assert_eq!(parse_cpus("0-2,5"), [0, 1, 2, 5]);
        assert_eq!(parse_cpus(""), [0; 0]);
    }
}
