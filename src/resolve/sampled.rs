//! Which addresses of which files a recording needs names for.
//!
//! In: the same records and samples that are being written; out: mappings with the positions to name. Memory grows with
//! the number of distinct addresses, not with the number of samples.

use super::names::AddressKind;
use super::space::AddressSpaces;
use crate::trace::record::{Mapping, Meta, Sample};
use crate::units::{Avma, Nanos};
use foldhash::fast::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Gathers sampled addresses while recording.
#[derive(Clone, Debug, Default)]
pub struct SampledAddresses {
    spaces: AddressSpaces,
    /// Seen since the last change of any address space.
    seen: HashSet<(u32, u64, AddressKind), RandomState>,
    /// Samples whose addresses were in no mapping known then; mappings may be read later than samples.
    late: BTreeMap<(u32, u64, u64), ()>,
    needed: BTreeMap<(String, String, bool), (Mapping, BTreeSet<u64>)>,
}

/// Addresses without a mapping that are kept for a second look at the end.
const MAX_LATE: usize = 100_000;

impl SampledAddresses {
    /// Takes note of mappings, forks and execs.
    pub fn meta(&mut self, meta: &Meta) {
        if matches!(meta, Meta::Thread(thread) if thread.exec) || matches!(meta, Meta::Mapping(_)) {
            // The same address may mean something else from here on.
            self.seen.clear();
        }
        self.spaces.add(meta);
    }

    /// What is known of address spaces.
    pub fn spaces(&self) -> &AddressSpaces {
        &self.spaces
    }

    /// Takes note of a sample's addresses.
    pub fn sample(&mut self, sample: &Sample) {
        let kernel_frames = usize::from(sample.kernel_frames).min(sample.frames.len());
        for (at, &address) in sample.frames.iter().enumerate() {
            let kernel = at < kernel_frames;
            let kind = AddressKind::of_frame(at, kernel_frames);
            let pid = if kernel { Mapping::KERNEL } else { sample.pid };
            if self.seen.insert((pid, address, kind)) {
                let address = kind.looked_up(address);
                if !self.need(pid, sample.time, address) && self.late.len() < MAX_LATE {
                    self.late.insert((pid, address, sample.time.ns()), ());
                }
            }
        }
    }

    fn need(&mut self, pid: u32, time: Nanos, address: u64) -> bool {
        let elsewhere = Mapping::of_kernel();
        let mapping = match self.spaces.find(pid, time, Avma(address)) {
            Some(mapping) => mapping,
            // In a module that was not known yet, or in nothing that is told of.
            None if pid == Mapping::KERNEL => &elsewhere,
            None => return false,
        };
        let (_, at) = self
            .needed
            .entry(key(mapping))
            .or_insert_with(|| (mapping.clone(), BTreeSet::new()));
        at.insert(mapping.position(address));
        true
    }

    /// Every mapping that was sampled since the last time, with the positions of its file (of kernel mappings: the
    /// addresses) to name.
    pub fn take(&mut self) -> Vec<(Mapping, Vec<u64>)> {
        for (pid, address, time) in std::mem::take(&mut self.late).into_keys() {
            self.need(pid, Nanos::from_ns(time), address);
        }
        let (_, elsewhere) = self
            .needed
            .remove(&key(&Mapping::of_kernel()))
            .unwrap_or_default();
        for address in elsewhere {
            self.need(Mapping::KERNEL, Nanos::from_ns(u64::MAX), address);
        }
        let needed = std::mem::take(&mut self.needed).into_values();
        needed
            .map(|(m, at)| (m, at.into_iter().collect()))
            .collect()
    }
}

fn key(mapping: &Mapping) -> (String, String, bool) {
    let (path, build_id) = mapping.key();
    (path, build_id, mapping.pid == Mapping::KERNEL)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module that was seen after it was sampled has its addresses; what belongs to nothing stays the kernel's.
    #[test]
    fn module_seen_late() {
        let mut sampled = SampledAddresses::default();
        sampled.sample(&Sample {
            time: Nanos::from_ns(5),
            frames: vec![0xffff_ffff_c000_0010, 0xffff_ffff_d000_0010],
            kernel_frames: 2,
            ..Sample::default()
        });
        sampled.meta(&Meta::Mapping(Mapping {
            time: Nanos::from_ns(9),
            pid: Mapping::KERNEL,
            start: Avma(0xffff_ffff_c000_0000),
            len: 0x1000,
            path: "[brd]".to_owned(),
            ..Mapping::default()
        }));
        let taken = sampled.take().into_iter();
        let taken: Vec<_> = taken.map(|(m, at)| (m.path, at)).collect();
        let expected = [
            ("[brd]".to_owned(), vec![0xffff_ffff_c000_0010]),
            ("[kernel]".to_owned(), vec![0xffff_ffff_d000_000f]),
        ];
        assert_eq!(taken, expected);
    }
}
