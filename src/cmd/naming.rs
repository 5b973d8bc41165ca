//! Names and stacks while recording: joins what was mapped, the files it came from, and the rights to open them.
//!
//! In: records and samples as they are written; out: whole stacks, and names of what was sampled. Each file is opened with
//! the rights of its program's user, as soon as the program is known to have mapped it: later it may be gone.

use super::Failure;
use crate::collect::rights::Rights;
use crate::resolve::{Folders, LocalSymbols, SampledAddresses, StackCopies};
use crate::trace::record::{Mapping, Meta, Pid, Sample, Symbols};
use crate::trace::{StackCopy, Symbolizer};
use std::collections::HashMap;
use std::path::PathBuf;

/// Options that name places with files.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct FolderArgs {
    /// Look for programs and libraries here too, by name or build id (may be repeated)
    #[arg(long, value_name = "DIR", help_heading = "Names")]
    symbol_dir: Vec<PathBuf>,
    /// Look for files with debug information here too, as in /usr/lib/debug (may be repeated)
    #[arg(long, value_name = "DIR", help_heading = "Names")]
    debuginfo_dir: Vec<PathBuf>,
}

impl FolderArgs {
    /// Says early that a place is none.
    pub fn check(&self) -> Result<(), Failure> {
        let mut all = self.symbol_dir.iter().chain(&self.debuginfo_dir);
        match all.find(|dir| !dir.is_dir()) {
            Some(none) => Err(Failure::failed(format!(
                "{} is not a folder that can be looked into",
                none.display()
            ))
            .hint("the folder that the files lie in or below")),
            None => Ok(()),
        }
    }

    /// The places.
    pub fn folders(&self) -> Folders {
        Folders {
            symbols: self.symbol_dir.clone(),
            debug: self.debuginfo_dir.clone(),
        }
    }
}

/// Names what was sampled, from the files of this machine.
pub struct LocalNames {
    sampled: SampledAddresses,
    rights: HashMap<Pid, Rights>,
    files: LocalSymbols,
    stacks: StackCopies,
}

impl LocalNames {
    /// With files in these places too.
    pub fn new(folders: Folders) -> LocalNames {
        LocalNames {
            sampled: SampledAddresses::default(),
            rights: HashMap::new(),
            files: LocalSymbols::while_recording().with_folders(folders),
            stacks: StackCopies::default(),
        }
    }
}

impl Symbolizer for LocalNames {
    fn meta(&mut self, meta: &Meta) {
        self.sampled.meta(meta);
        self.stacks.meta(meta);
        // A process that is gone by now had the rights of the one that made it.
        let asked = match meta {
            Meta::Thread(thread) if thread.exec || !self.rights.contains_key(&thread.pid) => {
                Some((thread.pid, thread.parent))
            }
            Meta::Mapping(m) if m.pid != Mapping::KERNEL && !self.rights.contains_key(&m.pid) => {
                Some((m.pid, m.pid))
            }
            _ => None,
        };
        if let Some((pid, parent)) = asked {
            let rights = Rights::of(pid).or_else(|| self.rights.get(&parent).cloned());
            self.rights.extend(rights.map(|rights| (pid, rights)));
        }
        if let Meta::Mapping(mapping) = meta {
            let files = &mut self.files;
            match self.rights.get(&mapping.pid) {
                Some(rights) if !files.holds(mapping) => rights.within(|| files.hold(mapping)),
                _ => files.hold(mapping),
            }
        }
    }

    fn sample(&mut self, sample: &Sample) {
        self.sampled.sample(sample);
    }

    fn walk(&mut self, sample: &mut Sample, copy: &StackCopy) {
        let files = self.files.files();
        self.stacks.walk(self.sampled.spaces(), files, sample, copy);
    }

    fn finish(&mut self) -> Vec<Symbols> {
        let sampled = self.sampled.take();
        let files = &mut self.files;
        let names = |(mapping, at): &(Mapping, Vec<u64>)| match self.rights.get(&mapping.pid) {
            Some(rights) => rights.within(|| files.names(mapping, at)),
            None => files.names(mapping, at),
        };
        sampled.iter().map(names).collect()
    }
}
