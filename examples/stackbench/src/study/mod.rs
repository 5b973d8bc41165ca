//! `stackbench study`: the published study's four workloads over every row, with one report.
//!
//! In: a plan; out: a folder with results as JSON lines, recordings, plots, and tables on stdout; with `--pages` and
//! `--gallery` the parts of pages that machines write. A study that was interrupted goes on where it was; one that is
//! complete measures nothing and writes its pages anew.

mod chart;
mod document;
mod explained;
mod figures;
mod gallery;
mod journal;
mod pages;
mod plan;
mod plots;
mod points;
mod runs;
mod tables;
mod verdicts;

use crate::Failure;
use crate::facts::Facts;
use crate::programs::Programs;
use crate::site::{Site, Stack};
use crate::stop::Stop;
use journal::{Journal, Session};
use netlab::Lab;
use plan::Plan;
use runs::Task;
use std::fs;
use std::path::{Path, PathBuf};

/// Arguments of `study`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Plan to follow [default: that of the results in the folder, else the reduced one, 20 minutes on two CPUs]
    #[arg(long, value_name = "FILE.toml")]
    plan: Option<PathBuf>,
    /// Folder for results, recordings, logs and plots; a study that is in it goes on
    #[arg(long, default_value = "target/study")]
    out: PathBuf,
    /// Folder of the study's pages: pictures, results, and what machines write of each page are put there
    #[arg(long, value_name = "DIR")]
    pages: Option<PathBuf>,
    /// Folder of the gallery: a flame graph of each row and workload, with an index
    #[arg(long, value_name = "DIR")]
    gallery: Option<PathBuf>,
    /// Measure nothing: print all figures, verdicts and experiments of the folder's results as JSON
    #[arg(long)]
    json: bool,
    /// Only say what would be done and how long it takes
    #[arg(long)]
    dry_run: bool,
}

/// Runs the study.
pub fn run(args: &Args) -> Result<(), Failure> {
    let wrong = |e: plan::PlanError| Failure::Wrong(e.to_string());
    let wanted = args.plan.as_deref().map(Plan::read);
    let wanted = wanted.transpose().map_err(wrong)?;
    if args.dry_run {
        let plan = wanted.map_or_else(Plan::reduced, Ok).map_err(wrong)?;
        print!("{}", runs::words(&plan));
        return Ok(());
    }
    let stop = Stop::on_signals()?;
    fs::create_dir_all(&args.out).map_err(|source| Failure::Write {
        path: args.out.display().to_string(),
        source,
    })?;
    let mut journal = Journal::open(&args.out.join("study.jsonl"))?;
    let plan = journal.plan(wanted)?;
    let plan = plan.map_or_else(Plan::reduced, Ok).map_err(wrong)?;
    if args.json {
        println!("{:#}", document::all(&plan, &journal));
        return Ok(());
    }
    let programs = Programs::ready();
    // Ctrl-C ends a build as well; then it is no failure of the build.
    stop.check()?;
    let programs = programs?;
    let left = runs::left(&plan, &journal);
    if !left.is_empty() {
        measure(&args.out, &programs, &plan, &mut journal, left, &stop)?;
    }
    explained::ask(&plan, &mut journal, &programs, &args.out, &stop)?;
    let plots = plots::all(&plan, &journal);
    for plot in &plots {
        plot.write(&args.out)?;
    }
    if let Some(folder) = &args.gallery {
        gallery::write(&plan, &journal, &programs, [&args.out, folder], &stop)?;
    }
    if let Some(folder) = &args.pages {
        pages::write(&plan, &journal, &plots, [&args.out, folder])?;
    }
    println!("{}\n", tables::setting(&plan, &journal));
    for (_, text) in tables::parts(&plan, &journal) {
        println!("{text}\n");
    }
    println!("{}\n", verdicts::summary(&plan, &journal));
    println!("{}", args.out.join("study.jsonl").display());
    Ok(())
}

/// Does the runs that are left.
fn measure(
    out: &Path,
    programs: &Programs,
    plan: &Plan,
    journal: &mut Journal,
    left: Vec<Task>,
    stop: &Stop,
) -> Result<(), Failure> {
    let machine = Facts::gather();
    let lab = Lab::new()?;
    crate::limits::allow_descriptors();
    journal.session(Session {
        machine,
        plan: plan.clone(),
        mtu: Site::new(&lab, Stack::Linux)?.mtu()?,
        version: env!("CARGO_PKG_VERSION").to_string(),
    })?;
    let setting = runs::Setting {
        lab: &lab,
        programs,
        stop,
        out,
        plan,
    };
    runs::all(&setting, journal, left)
}
