//! What a recording need not tell about where and how a program ran: command lines and the folders of files.
//!
//! In: records of low rate; out: the same without command line and host, and with the last part of each path alone. Two
//! files of one name stay two: the second is called `name~2`. What stays: names of threads, functions and files, build
//! ids, numbers of processes, addresses. Environments and payload are in no recording to begin with.

use super::record::{Meta, NamedFrame};
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
            _ => return meta,
        }
        match meta.to_mut() {
            Meta::Session(session) => {
                session.command.clear();
                session.host.clear();
            }
            Meta::Mapping(mapping) => mapping.path = self.name(&mapping.path),
            Meta::Symbols(symbols) => {
                symbols.path = self.name(&symbols.path);
                for address in &mut symbols.addresses {
                    address.frames.iter_mut().for_each(last_part);
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

fn last_part(frame: &mut NamedFrame) {
    if let Some((_, last)) = frame.file.rsplit_once('/') {
        frame.file = last.to_owned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::record::{AddressNames, Mapping, Session, Symbols};

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
                ..Session::default()
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
}
