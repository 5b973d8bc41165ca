//! Names of sampled addresses, found on a thread of its own: reading the tables of a large program takes a second, and
//! rings are to be drained meanwhile.
//!
//! In: records and samples as a recorder takes them; out: names of all that was sampled until they were asked for.

use super::super::naming::LocalNames;
use crate::resolve::Folders;
use crate::trace::Symbolizer;
use crate::trace::record::{Meta, Sample, Symbols};
use std::io;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

enum Told {
    Meta(Box<Meta>),
    Sample(Sample),
    /// Names are wanted.
    Name,
}

/// The recorder's end.
pub struct Teller(Sender<Told>);

/// The end of who wants names.
pub struct Namer {
    ask: Sender<Told>,
    names: Receiver<Vec<Symbols>>,
}

/// Starts the thread; it ends when both ends are dropped.
pub fn start() -> io::Result<(Teller, Namer)> {
    let (ask, told) = channel();
    let (answer, names) = channel();
    let work = move || {
        let mut local = LocalNames::new(Folders::default());
        for told in told {
            match told {
                Told::Meta(meta) => local.meta(&meta),
                Told::Sample(sample) => local.sample(&sample),
                Told::Name => {
                    if answer.send(local.finish()).is_err() {
                        return;
                    }
                }
            }
        }
    };
    std::thread::Builder::new()
        .name("names".to_owned())
        .spawn(work)?;
    Ok((Teller(ask.clone()), Namer { ask, names }))
}

impl Symbolizer for Teller {
    // Who names is gone only if it panicked; then there are no names, which is seen.
    fn meta(&mut self, meta: &Meta) {
        if matches!(meta, Meta::Thread(_) | Meta::Mapping(_)) {
            let _ = self.0.send(Told::Meta(Box::new(meta.clone())));
        }
    }
    fn sample(&mut self, sample: &Sample) {
        let _ = self.0.send(Told::Sample(sample.clone()));
    }
    fn finish(&mut self) -> Vec<Symbols> {
        Vec::new()
    }
}

impl Namer {
    /// Wants names of all that was sampled since the last time.
    pub fn ask(&self) {
        // As above.
        let _ = self.ask.send(Told::Name);
    }

    /// The answer to the oldest question, if it is there; nothing if none will come.
    pub fn answer(&self) -> Option<Vec<Symbols>> {
        match self.names.try_recv() {
            Ok(names) => Some(names),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Vec::new()),
        }
    }
}
