//! Packs: which functions, threads and points of a stack mean what, as data.
//!
//! In: the files of this directory, built in, and those a user names; out: [`Packs`], and the [`Rules`] of those that fit
//! a recording. One file describes one stack; [`mod@file`] says how. It refuses to know samples and weights.

pub mod file;
pub mod glob;
pub mod lint;
pub mod rules;

pub use file::{Pack, PackError};
pub use rules::{Asked, Hit, Rules};

/// The packs that come with the program, by the order in which they are listed.
const BUILT_IN: &[(&str, &str)] = &[
    ("linux.toml", include_str!("linux.toml")),
    ("dpdk.toml", include_str!("dpdk.toml")),
    ("netmap.toml", include_str!("netmap.toml")),
    ("fstack.toml", include_str!("fstack.toml")),
    ("freebsd.toml", include_str!("freebsd.toml")),
    ("ix.toml", include_str!("ix.toml")),
    ("lwip.toml", include_str!("lwip.toml")),
    ("mtcp.toml", include_str!("mtcp.toml")),
    ("tas.toml", include_str!("tas.toml")),
    ("demikernel.toml", include_str!("demikernel.toml")),
    ("smoltcp.toml", include_str!("smoltcp.toml")),
    ("servers.toml", include_str!("servers.toml")),
    ("kernel.toml", include_str!("kernel.toml")),
    ("runtime.toml", include_str!("runtime.toml")),
];

/// All packs that may be chosen from.
#[derive(Clone, Debug)]
pub struct Packs {
    packs: Vec<Pack>,
    /// How many of them, from the start, a user named: they are in effect for every recording.
    named: usize,
}

impl Packs {
    /// The packs that come with the program.
    ///
    /// # Panics
    ///
    /// If one of them has a mistake; a test reads them all.
    pub fn built_in() -> Packs {
        let packs = BUILT_IN
            .iter()
            .map(|(file, text)| match Pack::parse(file, text) {
                Ok(pack) => pack,
                Err(error) => unreachable!("a pack that was built in: {error}"),
            });
        Packs {
            packs: packs.collect(),
            named: 0,
        }
    }

    /// The text of a built-in pack.
    pub fn built_in_text(name: &str) -> Option<&'static str> {
        let file = format!("{name}.toml");
        BUILT_IN.iter().find(|b| b.0 == file).map(|b| b.1)
    }

    /// Adds a user's pack; it comes before all others and replaces one of the same name.
    pub fn add(&mut self, pack: Pack) -> Result<(), PackError> {
        self.packs.retain(|p| p.name != pack.name);
        self.packs.insert(self.named, pack);
        self.named += 1;
        let pack = &self.packs[self.named - 1];
        match pack.with.iter().find(|w| self.by_name(w).is_none()) {
            None => Ok(()),
            Some(missing) => {
                let all: Vec<_> = self.packs.iter().map(|p| p.name.as_str()).collect();
                Err(PackError {
                    file: pack.file.clone(),
                    line: 1,
                    what: format!(
                        "`with` names `{missing}`, which is none of {}",
                        all.join(", ")
                    ),
                })
            }
        }
    }

    /// All of them.
    pub fn all(&self) -> &[Pack] {
        &self.packs
    }

    /// The one with a name.
    pub fn by_name(&self, name: &str) -> Option<&Pack> {
        self.packs.iter().find(|p| p.name == name)
    }

    /// Whether a user named a pack: it is in effect for every recording, and comes first.
    pub fn is_named(&self, place: usize) -> bool {
        place < self.named
    }

    /// The rules for a recording in which the packs at `recognised` were found, the likeliest first.
    pub fn rules(&self, recognised: &[usize]) -> Rules {
        let mut order: Vec<usize> = (0..self.named).collect();
        let push = |order: &mut Vec<usize>, place: usize| {
            if !order.contains(&place) {
                order.push(place);
            }
        };
        // A library comes after the stack that is built on it, however much of the time it takes.
        let is_library = |place: usize| {
            let name = &self.packs[place].name;
            let mut others = recognised.iter().filter(|&&other| other != place);
            others.any(|&other| self.packs[other].with.contains(name))
        };
        let (libraries, stacks): (Vec<usize>, Vec<usize>) =
            recognised.iter().partition(|&&p| is_library(p));
        stacks
            .into_iter()
            .chain(libraries)
            .for_each(|place| push(&mut order, place));
        let mut at = 0;
        while at < order.len() {
            for with in &self.packs[order[at]].with {
                if let Some(place) = self.packs.iter().position(|p| p.name == *with) {
                    push(&mut order, place);
                }
            }
            at += 1;
        }
        let base = (0..self.packs.len()).filter(|&p| self.packs[p].base);
        base.for_each(|place| push(&mut order, place));
        let chosen: Vec<_> = order.iter().map(|&place| &self.packs[place]).collect();
        Rules::of(&chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The packs that come with the program have no mistakes, name each other rightly, and no name twice.
    #[test]
    fn built_in_packs_are_sound() {
        for (file, text) in BUILT_IN {
            Pack::parse(file, text).unwrap_or_else(|e| panic!("{e}"));
        }
        let packs = Packs::built_in();
        for pack in packs.all() {
            for with in &pack.with {
                assert!(packs.by_name(with).is_some(), "{}: {with}", pack.file);
            }
            for architecture in &pack.architectures {
                assert!(packs.by_name(&architecture.name).is_some());
            }
            assert_eq!(format!("{}.toml", pack.name), pack.file);
            assert!(pack.base || !pack.symbols.is_empty(), "{}", pack.file);
            assert!(
                !pack.about.is_empty() && !pack.sources.is_empty(),
                "{}",
                pack.file
            );
            let remarks = lint::lint(pack);
            assert!(remarks.is_empty(), "{remarks:#?}");
        }
    }

    /// A user's pack comes first, may replace a built-in one, and must not include what is not there.
    #[test]
    fn users_packs() {
        let mut packs = Packs::built_in();
        let count = packs.all().len();
        let text = "name = \"mtcp\"\nabout = \"mine\"\n[[rule]]\nphase = \"app\"\nsymbols = [\"memcpy\"]\norder = \"first\"";
        packs.add(Pack::parse("mine.toml", text).unwrap()).unwrap();
        assert_eq!(packs.all().len(), count);
        let hit = packs
            .rules(&[])
            .of_function(Asked::named("memcpy", Some(false)));
        assert_eq!(hit.map(|h| h.phase), Some("app"));
        let text = "name = \"b\"\nabout = \"\"\nwith = [\"nothing\"]";
        let error = packs.add(Pack::parse("b.toml", text).unwrap()).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("b.toml:1: `with` names `nothing`, which is none of ")
        );
    }

    /// One name means different things to different stacks; the kernel's is not the program's.
    #[test]
    fn whose_function_it_is() {
        let packs = Packs::built_in();
        let phase = |pack: &str, name: &str, kernel| {
            let place = packs.all().iter().position(|p| p.name == pack).unwrap();
            let hit = packs
                .rules(&[place])
                .of_function(Asked::named(name, kernel));
            hit.map(|h| (h.phase, h.polls))
        };
        assert_eq!(
            phase("linux", "tcp_ack", Some(true)),
            Some(("tcp_rx", false))
        );
        assert_eq!(phase("linux", "tcp_ack", Some(false)), None);
        assert_eq!(
            phase("mtcp", "memset", Some(false)),
            Some(("tcp_tx", false))
        );
        assert_eq!(phase("tas", "memset", Some(false)), Some(("alloc", false)));
        assert_eq!(phase("tas", "poll_queues", None), Some(("poll", true)));
        assert_eq!(phase("fstack", "tcp_output", None), Some(("tcp_tx", false)));
        assert_eq!(
            phase("servers", "<httpd::linux::Server as X>::run", Some(false)),
            Some(("app", false))
        );
        assert_eq!(phase("servers", "my_function", Some(false)), None);
        for pack in packs.all() {
            assert_eq!(
                phase(&pack.name, "memcpy", None),
                Some(("copy", false)),
                "{}",
                pack.name
            );
        }
    }
}
