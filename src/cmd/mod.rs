//! The command line: one file per subcommand; the only place that joins stages.
//!
//! In: arguments; out: an exit code. Results go to stdout, talk goes to stderr.

pub mod affinity;
pub mod callgraph;
mod child;
pub mod compare;
pub mod crash;
pub mod doctor;
mod dpdk;
mod ends;
pub mod events;
pub mod explain;
pub mod export;
pub mod filter;
pub mod flamegraph;
pub mod gate;
mod html;
pub mod import;
pub mod ledger;
pub mod list;
mod load;
mod moments;
mod naming;
mod output;
pub mod packs;
mod part;
pub mod postmortem;
pub mod queues;
pub mod record;
pub mod recover;
pub mod report;
pub mod snapshot;
pub mod spans;
pub mod stat;
pub mod switch;
pub mod top;
pub mod whom;

use clap::{Parser, Subcommand};
use std::io;
use std::process::ExitCode;

/// Profiling and tracing for kernel-bypass TCP stacks.
#[derive(Debug, Parser)]
#[command(name = "bypassprof", version, subcommand_required = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Record a command or running processes
    Record(record::Args),
    /// Count events of a command, of what runs, or of a recording
    Stat(stat::Args),
    /// What runs now: threads, their packets and what they cost, functions
    Top(top::Args),
    /// Who used the time of a recording: threads, phases, functions
    Report(report::Args),
    /// A recording as a flame graph
    Flamegraph(flamegraph::Args),
    /// Where all of the time went, by phase, adding up to 100 %
    Ledger(ledger::Args),
    /// Requests on their way: what each stage took, work and waiting
    Spans(spans::Args),
    /// What limits a recording: findings with their evidence, and what to try
    Explain(explain::Args),
    /// The gap between recordings of the same workload, taken apart
    Compare(compare::Args),
    /// The newest events of a running process, now or when something happens
    Snapshot(snapshot::Args),
    /// Make a recording of what another tool recorded
    Import(import::Args),
    /// What a process was doing when it ended, from what is left of it
    Postmortem(postmortem::Args),
    /// Write a recording for other programs
    Export(export::Args),
    /// Polls, bursts and frames of a DPDK program: by lcore, port and queue
    Queues(queues::Args),
    /// Everything that is whole in a damaged recording, as a new one
    Recover(recover::Args),
    /// The rules that say whose cycles a function's are
    Packs(packs::Args),
    /// What this machine, kernel and user may do, and the fix for each "no"
    Doctor(doctor::Args),
    /// The events of this machine
    List(list::Args),
    /// Waits for the recorder, then runs a program
    #[command(name = gate::NAME, hide = true)]
    Gate(gate::Args),
}

/// Exit code of a wrong command line.
pub const WRONG_USE: u8 = 2;

/// A failure as the user sees it: a sentence, what to try, an exit code.
#[derive(Debug)]
pub struct Failure {
    /// What is wrong.
    pub message: String,
    /// What to try.
    pub hint: Option<String>,
    /// 1: failed; 2: wrong use.
    pub code: u8,
    /// The reader of our output went away; that is no failure.
    pub broken_pipe: bool,
}

impl Failure {
    /// Something that was asked for rightly did not work.
    pub fn failed(message: impl ToString) -> Failure {
        Failure {
            message: message.to_string(),
            hint: None,
            code: 1,
            broken_pipe: false,
        }
    }

    /// Something was asked for wrongly.
    pub fn wrong_use(message: impl ToString) -> Failure {
        Failure {
            code: WRONG_USE,
            ..Failure::failed(message)
        }
    }

    /// With a line on what to try.
    #[must_use]
    pub fn hint(mut self, hint: impl ToString) -> Failure {
        self.hint = Some(hint.to_string());
        self
    }

    /// Tells the user; what is left is the exit code.
    pub fn say(self) -> ExitCode {
        if self.broken_pipe {
            return ExitCode::SUCCESS;
        }
        eprintln!("bypassprof: {}", self.message);
        if let Some(hint) = self.hint {
            eprintln!("  try: {hint}");
        }
        ExitCode::from(self.code)
    }

    /// Output could not be written; a reader that closed its end is content with what it got.
    pub fn output(error: io::Error) -> Failure {
        Failure {
            broken_pipe: error.kind() == io::ErrorKind::BrokenPipe,
            ..Failure::failed(format!("cannot write the output: {error}"))
        }
    }
}

/// Parses the command line, runs the subcommand and turns its outcome into an exit code.
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Record(args) => record::run(args),
        Command::Stat(args) => stat::run(args),
        Command::Top(args) => top::run(args),
        Command::Report(args) => report::run(args),
        Command::Flamegraph(args) => flamegraph::run(args),
        Command::Ledger(args) => ledger::run(args),
        Command::Spans(args) => spans::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Snapshot(args) => snapshot::run(args),
        Command::Import(args) => import::run(args),
        Command::Postmortem(args) => postmortem::run(args),
        Command::Export(args) => export::run(args),
        Command::Queues(args) => queues::run(args),
        Command::Recover(args) => recover::run(args),
        Command::Packs(args) => packs::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::List(args) => list::run(args),
        Command::Gate(args) => gate::run(args),
    };
    outcome.unwrap_or_else(|failure| failure.say())
}
