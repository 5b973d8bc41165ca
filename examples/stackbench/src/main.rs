//! The harness: servers in networks of their own, recorded under load.
//!
//! In: which study; out: recordings, pictures and tables. What is measured is the servers' business, how it is recorded
//! is `bypassprof`'s: both run as separate programs, as a user would run them. Ctrl-C ends everything that was started.

mod badlink;
mod cost;
mod cpus;
mod demo;
mod events;
mod facts;
mod interval;
mod limits;
mod load;
mod markdown;
mod measure;
mod page;
mod parts;
mod predict;
mod programs;
mod progress;
mod rows;
mod server;
mod site;
mod soak;
mod spread;
mod stop;
mod study;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Runs the servers under load and records them.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every server under two loads: recordings, flame graphs and a page that shows them
    Demo(demo::Args),
    /// What recording costs a server: CPU time per request at a fixed rate, bare, recorded, and under perf
    Cost(cost::Args),
    /// Every server over the same link, case by case, in one table; published properties; what probes cost
    Rows(rows::Args),
    /// The published study's four workloads over every row: results, plots, gallery, pages; goes on where it was interrupted
    Study(study::Args),
    /// Long load while recording: does anything grow that should not?
    Soak(soak::Args),
    /// What the tool says about servers against what happens when the thing that it names is changed
    Predict(predict::Args),
}

/// Why a study did not end well.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("interrupted; everything that was started has been ended")]
    Interrupted,
    #[error(transparent)]
    Network(#[from] netlab::LabError),
    #[error(transparent)]
    Program(#[from] programs::ProgramError),
    #[error(transparent)]
    Server(#[from] server::ServerError),
    #[error(transparent)]
    Load(#[from] load::LoadError),
    #[error("cannot write {path}: {source}")]
    Write {
        path: String,
        source: std::io::Error,
    },
    #[error("{0}")]
    Wrong(String),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Cost(args) => cost::run(&args),
        Command::Rows(args) => rows::run(&args),
        Command::Study(args) => study::run(&args),
        Command::Soak(args) => soak::run(&args),
        Command::Predict(args) => predict::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Interrupted) => {
            eprintln!("stackbench: {}", Failure::Interrupted);
            ExitCode::from(130)
        }
        Err(failure) => {
            eprintln!("stackbench: {failure}");
            ExitCode::FAILURE
        }
    }
}
