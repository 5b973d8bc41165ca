//! What a recording need not tell about where and how a program ran: command lines and the folders of files.
//!
//! In: records of low rate; out: the same without command line and host, and with the last part of each path alone; a
//! sentence that quotes a path goes as a whole. Two files of one name stay two: the second is called `name~2`. What stays:
//! names of threads, functions and files, build ids, numbers of processes, addresses. Environments and payload are in no
//! recording to begin with.

use super::record::{EventSource, Meta, NamedFrame};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// Takes away what need not be told.
#[derive(Debug, Default)]
pub struct Redactor {
    names: HashMap<String, String>,
    taken: HashSet<String>,
}

impl Redactor {
    /// The record without it.
    pub fn redact<'a>(&mut self, meta: &'a Meta) -> Cow<'a, Meta> {
        let mut meta = Cow::Borrowed(meta);
        match meta.as_ref() {
            Meta::Session(_) | Meta::Mapping(_) | Meta::Symbols(_) => {}
            Meta::Crash(_) | Meta::Notice(_) | Meta::PostMortem(_) => {}
            _ => return meta,
        }
        match meta.to_mut() {
            Meta::Session(session) => {
                session.command.clear();
                session.host.clear();
                session.events.iter_mut().for_each(without_folder);
            }
            Meta::Crash(crash) => {
                last_part(&mut crash.told_by);
                for missing in &mut crash.missing {
                    without_paths(&mut missing.what);
                    without_paths(&mut missing.how);
                }
            }
            Meta::Notice(notice) => without_paths(&mut notice.text),
            // Told from what is redacted it has no paths; from elsewhere it may.
            Meta::PostMortem(told) => without_paths(&mut told.text),
            Meta::Mapping(mapping) => mapping.path = self.name(&mapping.path),
            Meta::Symbols(symbols) => {
                symbols.path = self.name(&symbols.path);
                for address in &mut symbols.addresses {
                    let files = address
                        .frames
                        .iter_mut()
                        .map(|f: &mut NamedFrame| &mut f.file);
                    files.for_each(last_part);
                    // The reason may quote the path.
                    if let Some(why) = &mut address.why {
                        *why = "the file gave no name".to_owned();
                    }
                }
            }
            _ => {}
        }
        meta
    }

    /// The last part of a path, another one for each path.
    fn name(&mut self, path: &str) -> String {
        if !path.contains('/') || path.starts_with("//") {
            return path.to_owned();
        }
        if let Some(name) = self.names.get(path) {
            return name.clone();
        }
        let last = path.rsplit('/').next().unwrap_or(path);
        let mut name = format!("/{last}");
        let mut copy = 1;
        while !self.taken.insert(name.clone()) {
            copy += 1;
            name = format!("/{last}~{copy}");
        }
        self.names.insert(path.to_owned(), name.clone());
        name
    }
}

fn last_part(path: &mut String) {
    if let Some((_, last)) = path.rsplit_once('/') {
        *path = last.to_owned();
    }
}

/// A uprobe's name begins with the path of its program; the slashes of a PMU's event are no folders.
fn without_folder(event: &mut EventSource) {
    if event.name.starts_with(['/', '.']) || event.format.starts_with("name: uprobe") {
        last_part(&mut event.name);
    }
}

/// Takes away a sentence that quotes a path, but for those that are the same on every machine.
fn without_paths(text: &mut String) {
    const EVERYWHERE: &[&str] = &["/proc/", "/sys/", "/dev/"];
    let begins = |&(at, _): &(usize, &str)| {
        let before = text[..at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '/' | '.' | '_' | '-' | '*'))
    };
    let mut paths = text.match_indices('/').filter(begins);
    let known = |at: usize| EVERYWHERE.iter().any(|known| text[at..].starts_with(known));
    if paths.any(|(at, _)| !known(at)) {
        "left out: it quotes a path".clone_into(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::record::{AddressNames, Crash, Mapping, Missing, Notice, Session, Symbols};

    /// Nothing of a path but its end is left, files stay apart, and symbols still fit their mapping.
    #[test]
    fn no_path_is_left() {
        let mut redactor = Redactor::default();
        let mut mapping = |path: &str| {
            let meta = Meta::Mapping(Mapping {
                path: path.into(),
                ..Mapping::default()
            });
            match redactor.redact(&meta).into_owned() {
                Meta::Mapping(m) => m.path,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(mapping("/home/ann/secret/server"), "/server");
        assert_eq!(mapping("/opt/server"), "/server~2");
        assert_eq!(mapping("/home/ann/secret/server"), "/server");
        assert_eq!(mapping("[vdso]"), "[vdso]");
        assert_eq!(mapping("//anon"), "//anon");
        let frame = NamedFrame {
            name: "f".into(),
            file: "/home/ann/secret/f.c".into(),
            line: 1,
        };
        let metas = [
            Meta::Symbols(Symbols {
                path: "/opt/server".into(),
                addresses: vec![
                    AddressNames {
                        frames: vec![frame],
                        ..AddressNames::default()
                    },
                    AddressNames {
                        why: Some("/home/ann/secret/server could not be read".into()),
                        ..AddressNames::default()
                    },
                ],
                ..Symbols::default()
            }),
            Meta::Session(Session {
                command: vec!["./server".into(), "--password=secret".into()],
                host: "secret".into(),
                events: ["/opt/secret/f:main%return", "./secret/f:main"]
                    .map(|name| EventSource {
                        name: name.into(),
                        ..EventSource::default()
                    })
                    .into(),
                ..Session::default()
            }),
            Meta::Crash(Crash {
                told_by: "/home/ann/secret dir/core.7".into(),
                missing: vec![Missing {
                    what: "the rings /dev/shm/bypassprof-1000/7-7-0.ring, /home/ann/x".into(),
                    how: "the kernel left no core dump in /home/ann/secret dir: see `ulimit`"
                        .into(),
                }],
                ..Crash::default()
            }),
            Meta::Notice(Notice {
                id: "x".into(),
                text: "cannot read '/opt/my secret/f'".into(),
            }),
        ];
        for meta in metas {
            let text = serde_json::to_string(redactor.redact(&meta).as_ref()).unwrap();
            assert!(!text.contains("secret") && !text.contains("ann"), "{text}");
            assert!(
                !text.contains("symbols") || text.contains("/server~2"),
                "{text}"
            );
        }
    }

    /// What tells nothing of where files lie stays.
    #[test]
    fn no_paths() {
        for kept in [
            "set /proc/sys/kernel/perf_event_paranoid to 1, and/or 1/2",
            "events of cpu/event=0x3c,umask=0x01/u are shared",
            "events of net:*/a",
        ] {
            let mut text = kept.to_owned();
            without_paths(&mut text);
            assert_eq!(text, kept);
        }
        let mut event = EventSource {
            name: "cpu/event=0x3c/u".into(),
            ..EventSource::default()
        };
        without_folder(&mut event);
        assert_eq!(event.name, "cpu/event=0x3c/u");
    }
}
