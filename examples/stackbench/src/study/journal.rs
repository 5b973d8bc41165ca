//! The study's results: a file of JSON lines that a study writes as it goes and that a later one goes on from.
//!
//! In: sessions, runs, explanations; out: the file, and what an earlier session left in it. A line that a killed study did
//! not finish is dropped; a file of another plan is refused. docs/reference/study.md is the schema.

use super::plan::Plan;
use super::points::Point;
use crate::Failure;
use crate::facts::Facts;
use crate::measure::{Measured, Outcome};
use crate::site::Stack;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Name and version of the lines.
const SCHEMA: &str = "bypassprof.stackbench-study/1";

/// One time that the study was started.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Session {
    /// The machine, when.
    pub machine: Facts,
    /// What is done.
    pub plan: Plan,
    /// The largest packet of every link, without its Ethernet header.
    pub mtu: u32,
    /// The recorder's version.
    pub version: String,
}

/// One run of one row at one point.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Run {
    /// The row.
    pub stack: Stack,
    /// The experiment, where something was changed.
    pub experiment: Option<String>,
    /// Where.
    #[serde(flatten)]
    pub point: Point,
    /// Which of the repetitions, from 1.
    pub repetition: u32,
    /// Which session did it, from 1.
    pub session: usize,
    /// Its recording, in the folder; a recorded run is in no figure.
    pub recording: Option<String>,
    /// What came of it.
    pub run: Outcome,
}

/// What the tool said of recordings.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Said {
    /// The row.
    pub stack: Stack,
    /// The row that it was compared with.
    pub against: Option<Stack>,
    /// Where.
    #[serde(flatten)]
    pub point: Point,
    /// The command that says it again, in the folder.
    pub command: String,
    /// Its answer, without what is long; `null` with `error`.
    pub answer: Value,
    /// Why there is none.
    pub error: Option<String>,
}

/// A line's content.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "kind", content = "value", rename_all = "kebab-case")]
enum Entry {
    Session(Box<Session>),
    Run(Box<Run>),
    Said(Box<Said>),
}

#[derive(Deserialize, Serialize)]
struct Line {
    schema: String,
    #[serde(flatten)]
    entry: Entry,
}

/// The file and all that is in it.
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Times that the study was started.
    pub sessions: Vec<Session>,
    /// Runs, in the order in which they were done.
    pub runs: Vec<Run>,
    /// What the tool said.
    pub said: Vec<Said>,
}

impl Journal {
    /// Opens the file, or makes it.
    pub fn open(path: &Path) -> Result<Journal, Failure> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
            Err(e) => {
                let why = format!("cannot read {}: {e}", path.display());
                return Err(Failure::Wrong(why));
            }
        };
        // What has no end was under way when a study was killed.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(|e| failed(path, e))?;
        if whole < text.len() {
            file.set_len(whole as u64).map_err(|e| failed(path, e))?;
        }
        let mut journal = Journal {
            path: path.to_path_buf(),
            file,
            sessions: Vec::new(),
            runs: Vec::new(),
            said: Vec::new(),
        };
        for (at, line) in text[..whole].lines().enumerate() {
            let line = serde_json::from_str(line).map_err(|e| {
                let place = format!("{}, line {}", path.display(), at + 1);
                Failure::Wrong(format!("{place} is no line of a study's results: {e}"))
            })?;
            journal.take(line, at + 1)?;
        }
        Ok(journal)
    }

    /// The plan that is followed: the one that the file's results are of; no other one fits them.
    pub fn plan(&self, wanted: Option<Plan>) -> Result<Option<Plan>, Failure> {
        let own = self.sessions.last().map(|session| &session.plan);
        match (own, wanted) {
            (Some(own), Some(wanted)) if *own != wanted => Err(Failure::Wrong(format!(
                "{} holds the results of another plan; give another folder with --out, or remove it",
                self.path.display()
            ))),
            (own, wanted) => Ok(wanted.or(own.cloned())),
        }
    }

    fn take(&mut self, line: Line, at: usize) -> Result<(), Failure> {
        if line.schema != SCHEMA {
            return Err(Failure::Wrong(format!(
                "{}, line {at} is of schema {}, this program reads {SCHEMA}",
                self.path.display(),
                line.schema
            )));
        }
        match line.entry {
            Entry::Session(session) => self.sessions.push(*session),
            Entry::Run(run) => self.runs.push(*run),
            Entry::Said(said) => self.said.push(*said),
        }
        Ok(())
    }

    fn write(&mut self, entry: Entry) -> Result<(), Failure> {
        let line = Line {
            schema: SCHEMA.to_string(),
            entry,
        };
        let mut text = serde_json::to_string(&line)
            .map_err(|e| Failure::Wrong(format!("{}: {e}", self.path.display())))?;
        text.push('\n');
        let written = self.file.write_all(text.as_bytes());
        written.map_err(|e| failed(&self.path, e))?;
        self.take(line, 0)
    }

    /// A session begins.
    pub fn session(&mut self, session: Session) -> Result<(), Failure> {
        self.write(Entry::Session(Box::new(session)))
    }

    /// A run is over.
    pub fn run(&mut self, run: Run) -> Result<(), Failure> {
        self.write(Entry::Run(Box::new(run)))
    }

    /// The tool said something.
    pub fn said(&mut self, said: Said) -> Result<(), Failure> {
        self.write(Entry::Said(Box::new(said)))
    }
}

fn failed(path: &Path, source: std::io::Error) -> Failure {
    Failure::Write {
        path: path.display().to_string(),
        source,
    }
}

impl Run {
    /// Its figures, if it has any.
    pub fn measured(&self) -> Option<&Measured> {
        match &self.run {
            Outcome::Measured(measured) => Some(measured),
            _ => None,
        }
    }

    /// Whether it is worth trying again: a failure may have been the machine's.
    pub fn is_final(&self) -> bool {
        !matches!(self.run, Outcome::Failed { .. })
    }
}
