//! The recorder of a live view, and all that its records go through: the newest are kept for a snapshot, all are told to
//! `analyse::live`, what was sampled gets names.
//!
//! In: a target; out: what is shown of an interval. It refuses to know keys and terminals.

use super::super::output::{self, Output};
use super::super::record::collect_failure;
use super::super::{Failure, snapshot};
use super::Args;
use super::namer::{self, Namer};
use crate::analyse::live::order::{self, Key};
use crate::analyse::live::{Live, Placed, functions};
use crate::collect::perf::StackSource;
use crate::collect::probes::Probes;
use crate::collect::recent::Recent;
use crate::collect::{Outcome, Recorder, Target, Wanted, clock, cpu_time};
use crate::present::top::Shown;
use crate::resolve::Names;
use crate::trace::record::{Meta, Notice};
use crate::trace::{Feed, Piece, Writer};
use crate::units::Nanos;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between the first two readings of both clocks: long enough that the map between them holds for the first second.
const CLOCKS: Duration = Duration::from_millis(20);

/// A live view's source.
pub struct Watch {
    target: Target,
    recorder: Recorder<Feed>,
    feed: Feed,
    live: Live,
    recent: Recent,
    names: Names,
    namer: Namer,
    /// Samples of the interval whose names have been asked for.
    awaiting: Option<Vec<Placed>>,
    shown: Shown,
    output: PathBuf,
    saved: u64,
    saving: Option<JoinHandle<Result<PathBuf, String>>>,
    /// When the interval began, and the CPU time used until then.
    spent: (Instant, Nanos),
}

impl Watch {
    /// Opens events; nothing is written anywhere.
    pub fn start(
        target: &Target,
        args: &Args,
        probes: Result<Probes, Notice>,
    ) -> Result<Watch, Failure> {
        let first = clock::pair();
        std::thread::sleep(CLOCKS);
        let all_fresh = matches!(target, Target::Starting(..));
        let live = Live::new([first, clock::pair()], all_fresh)
            .ok_or_else(|| Failure::failed("the CPU's counter stands still"))?;
        let wanted = Wanted {
            frequency_hz: args.frequency,
            events: Vec::new(),
            stacks: (StackSource::FramePointers, "fp".to_owned()),
            waits: false,
            budget: None,
            reads_counters: !args.affinity.isolates(),
        };
        let (teller, namer) =
            namer::start().map_err(|e| Failure::failed(format!("cannot start a thread: {e}")))?;
        let feed = Feed::default();
        let sink = feed.clone();
        let recorder = Recorder::start(target, wanted, || Ok(sink), Box::new(teller), probes)
            .map_err(|e| collect_failure(&e, target))?;
        let keep = Nanos::from_ns(args.keep.as_nanos() as u64);
        Ok(Watch {
            target: target.clone(),
            recorder,
            feed,
            live,
            recent: Recent::new(keep),
            names: Names::new([]),
            namer,
            awaiting: None,
            shown: Shown {
                what: target.to_string(),
                ..Shown::default()
            },
            output: args.output.clone(),
            saved: 0,
            saving: None,
            spent: (Instant::now(), cpu_time()),
        })
    }

    /// Takes what has come in; returns how long the next turn may wait.
    pub fn turn(&mut self) -> Result<Duration, Failure> {
        let turned = self.recorder.turn();
        let wait = turned.map_err(|e| collect_failure(&e, &self.target))?;
        self.take();
        if let Some(samples) = &self.awaiting
            && let Some(names) = self.namer.answer()
        {
            for symbols in names {
                let meta = Meta::Symbols(symbols);
                self.names.add(&meta);
                self.recent.keep(clock::now(), Piece::from(meta));
            }
            let functions = functions::of(samples, &mut self.names);
            self.shown.functions = functions;
            self.trust();
            self.awaiting = None;
        }
        Ok(wait)
    }

    fn take(&mut self) {
        let now = clock::now();
        for piece in self.feed.take() {
            self.live.take(&piece);
            if let Piece::Meta(meta) = &piece {
                self.note(meta);
            }
            self.recent.keep(now, piece);
        }
    }

    fn note(&mut self, meta: &Meta) {
        self.names.add(meta);
        match meta {
            Meta::Session(session) => {
                if let Some(event) = session.events.iter().find(|e| e.frequency_hz > 0) {
                    self.shown.sampled = (event.name.clone(), event.frequency_hz);
                }
            }
            Meta::Notice(notice) => {
                let notice = (notice.id.clone(), notice.text.clone());
                self.shown.notices.push(notice);
            }
            _ => {}
        }
    }

    /// What is known of stacks is known with their names.
    fn trust(&mut self) {
        let (trust, functions) = (&mut self.shown.view.trust, &self.shown.functions);
        trust.stacks_truncated_share = functions.truncated_share;
        trust.stacks_unknown_share = functions.unknown_share;
        trust.stacks_without_symbol_share = functions.without_symbol_share;
    }

    /// Takes all that programs left that have ended.
    pub fn drain(&mut self) -> Result<(), Failure> {
        // Totals of the dead are read twice a second.
        let until = Instant::now() + Duration::from_millis(600);
        while Instant::now() < until {
            let wait = self.turn()?;
            std::thread::sleep(wait.max(Duration::from_millis(1)));
        }
        Ok(())
    }

    /// Ends the interval: what happened in it is shown from here on, its functions as soon as they have names.
    pub fn settle(&mut self, at: Nanos, sort: Key) -> Result<(), Failure> {
        self.turn()?;
        let (view, samples) = self.live.settle(at);
        self.shown.view = view;
        let now = cpu_time();
        let (since, used) = std::mem::replace(&mut self.spent, (Instant::now(), now));
        let used = now.since(used).ns() as f64;
        let share = used / since.elapsed().as_nanos().max(1) as f64;
        self.shown.view.trust.observer_share = Some(share);
        self.trust();
        self.sort(sort);
        // While names of an earlier interval are looked for, this one's functions are not shown.
        if self.awaiting.is_none() {
            self.awaiting = Some(samples);
            self.namer.ask();
        }
        Ok(())
    }

    /// Puts threads in another order.
    pub fn sort(&mut self, key: Key) {
        order::sort(&mut self.shown.view.threads, key);
    }

    /// Whether functions of the last interval are still to come.
    pub fn awaits_names(&self) -> bool {
        self.awaiting.is_some()
    }

    /// What is shown.
    pub fn shown(&self) -> &Shown {
        &self.shown
    }

    /// Begins to save the last seconds; [`Watch::saved`] tells how it went.
    pub fn save(&mut self) -> Result<(), Failure> {
        if self.saving.is_some() {
            return Ok(());
        }
        self.saved += 1;
        let path = snapshot::numbered(&self.output, self.saved);
        let recent = self.recent.clone();
        let work = move || {
            output::check(&path).map_err(|f| f.message)?;
            let (output, file) = Output::create(&path).map_err(|e| e.to_string())?;
            let written = Writer::to_file(&path, file).and_then(|writer| recent.save(writer));
            written.map_err(|e| {
                output.discard();
                e.to_string()
            })?;
            Ok(path)
        };
        let thread = std::thread::Builder::new().name("snapshot".to_owned());
        let cannot = |e| Failure::failed(format!("cannot start a thread: {e}"));
        self.saving = Some(thread.spawn(work).map_err(cannot)?);
        Ok(())
    }

    /// The snapshot that has been saved since, or why it could not be; waits for one that is being saved if `wait`.
    pub fn saved(&mut self, wait: bool) -> Option<String> {
        let done = |t: &mut JoinHandle<_>| wait || t.is_finished();
        let thread = self.saving.take_if(done)?;
        Some(match thread.join() {
            Ok(Ok(path)) => format!("saved {}", path.display()),
            Ok(Err(why)) => format!("not saved: {why}"),
            Err(_) => "not saved: its thread failed".to_owned(),
        })
    }

    /// Leaves programs as they were found.
    pub fn finish(mut self, outcome: Outcome) -> Result<(), Failure> {
        if let Some(said) = self.saved(true) {
            eprintln!("bypassprof: {said}");
        }
        let finished = self.recorder.leave(outcome);
        finished
            .map(drop)
            .map_err(|e| collect_failure(&e, &self.target))
    }
}
