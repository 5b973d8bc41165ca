//! Properties that the published stacks are known for, looked for in recordings of ours, one by one.
//!
//! In: recordings made here and now; out: for each property what was published, what ours shows, and a verdict whose rule
//! is in the code beside it. Names are those of `docs/design/stacks.md` section 10.

mod demikernel;
mod evidence;
mod fstack;
mod ix;
mod mtcp;
mod tas;

use crate::Failure;
use crate::load::Load;
use crate::measure::Bench;
use crate::site::Stack;
use evidence::Recorded;
use serde::Serialize;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// What was found of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As published.
    Shown,
    /// One half of it, or with another size.
    InPart,
    /// It was looked for and is not there.
    NotShown,
    /// The machine or the row does not allow to tell.
    NotDecidable,
}

impl Verdict {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Shown => "shown",
            Verdict::InPart => "in part",
            Verdict::NotShown => "not shown",
            Verdict::NotDecidable => "not decidable here",
        }
    }
}

/// One property.
#[derive(Clone, Debug, Serialize)]
pub struct Property {
    /// Its name.
    pub id: &'static str,
    /// What was published.
    pub published: &'static str,
    /// What ours shows, in figures.
    pub seen: String,
    /// Whether that is it.
    pub verdict: Verdict,
    /// Why so.
    pub why: String,
    /// The recordings that say so.
    pub recordings: Vec<String>,
}

impl Property {
    fn new(id: &'static str, published: &'static str) -> Property {
        Property {
            id,
            published,
            seen: String::new(),
            verdict: Verdict::NotDecidable,
            why: String::new(),
            recordings: Vec::new(),
        }
    }

    fn seen(mut self, seen: String, from: &[&Recorded]) -> Property {
        self.seen = seen;
        let lost: u64 = from.iter().map(|recorded| recorded.events.lost).sum();
        if lost > 0 {
            self.seen
                .push_str(&format!("; {lost} slots of events were lost"));
        }
        for recorded in from {
            let name = recorded.name();
            if !self.recordings.contains(&name) {
                self.recordings.push(name);
            }
        }
        self
    }

    fn verdict(mut self, verdict: Verdict, why: impl Into<String>) -> Property {
        self.verdict = verdict;
        self.why = why.into();
        self
    }
}

/// Recordings that more than one property needs, made when they are first asked for.
pub struct Evidence<'a> {
    bench: &'a Bench<'a>,
    time: Duration,
    /// Requests per second of 64 connections without a recorder, where that was measured.
    rates: &'a BTreeMap<Stack, f64>,
    kept: BTreeMap<(Stack, String), Rc<Recorded>>,
}

impl Evidence<'_> {
    /// A run with 64-byte replies on so many connections, with these options.
    fn small(
        &mut self,
        stack: Stack,
        connections: u32,
        arguments: &[&str],
    ) -> Result<Rc<Recorded>, Failure> {
        let mut name = format!("record-c{connections}");
        for word in arguments {
            name.push('-');
            name.push_str(word.trim_start_matches('-'));
        }
        self.run(stack, name, arguments, Load::closed(connections, self.time))
    }

    fn run(
        &mut self,
        stack: Stack,
        name: String,
        arguments: &[&str],
        load: Load,
    ) -> Result<Rc<Recorded>, Failure> {
        let key = (stack, name);
        if let Some(made) = self.kept.get(&key) {
            return Ok(Rc::clone(made));
        }
        let made = Recorded::make(self.bench, stack, &key.1, arguments, load)?;
        let made = Rc::new(made);
        self.kept.insert(key, Rc::clone(&made));
        Ok(made)
    }
}

/// What left for each request at 1 connection and at 64.
fn acknowledgements(one: &Recorded, many: &Recorded) -> String {
    format!(
        "for each request {:.2} pure acknowledgements and {:.2} segments with data at 1 connection, {:.2} and {:.2} at 64",
        one.segments(1),
        one.segments(0),
        many.segments(1),
        many.segments(0)
    )
}

/// Looks for one property.
type Look = fn(&mut Evidence) -> Result<Property, Failure>;

/// Whose property, its name, and how it is looked for.
const LOOKS: [(Stack, &str, Look); 10] = [
    (Stack::Mtcp, "M1", mtcp::sleep_and_wake),
    (Stack::Mtcp, "M4", mtcp::own_acknowledgements),
    (Stack::Fstack, "F1", fstack::drain_interval),
    (Stack::Fstack, "F4", fstack::own_acknowledgements),
    (Stack::Ix, "IX1", ix::send_window),
    (Stack::Ix, "IX4", ix::piggyback_and_batches),
    (Stack::Tas, "T1", tas::queue_hops),
    (Stack::Tas, "T2", tas::serial_stages),
    (Stack::Demikernel, "D1", demikernel::shortest_chain),
    (Stack::Demikernel, "D3", demikernel::tokens),
];

/// Properties of these stacks.
pub fn all(
    bench: &Bench,
    stacks: &[Stack],
    time: Duration,
    rates: &BTreeMap<Stack, f64>,
    say: impl Fn(&str),
) -> Result<Vec<Property>, Failure> {
    let mut evidence = Evidence {
        bench,
        time,
        rates,
        kept: BTreeMap::new(),
    };
    let mut found = Vec::new();
    for (stack, id, look) in LOOKS {
        if !stacks.contains(&stack) {
            continue;
        }
        say(id);
        match look(&mut evidence) {
            Ok(property) => found.push(property),
            Err(Failure::Interrupted) => return Err(Failure::Interrupted),
            // One recording that was not to be had is no reason to leave out the other properties.
            Err(failure) => found
                .push(Property::new(id, "").verdict(Verdict::NotDecidable, failure.to_string())),
        }
    }
    Ok(found)
}
