//! `flamegraphs`: folded stacks into a flame graph, or two into their difference.
//!
//! In: folded text, from files or stdin; out: an SVG, or a page if the output's name ends with `.html`. Exit status 1 if
//! something cannot be read or written, 2 if the choice made no sense.

use clap::Parser;
use flamegraphs::{Diff, Picture, Tree, draw, draw_parts, html};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Folded stacks (`frame;frame;frame NUMBER`) as a flame graph.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Folded text [default: stdin]
    folded: Option<PathBuf>,
    /// Draw what is more and what is less than in this folded text
    #[arg(long, value_name = "BEFORE")]
    diff: Option<PathBuf>,
    /// Both texts have one unit: do not scale BEFORE to the other's total
    #[arg(long, requires = "diff")]
    unscaled: bool,
    /// Picture to write, or a page where the name ends with .html [default: SVG on stdout]
    #[arg(short, long, value_name = "OUT.svg|OUT.html")]
    output: Option<PathBuf>,
    /// First line of the picture
    #[arg(long, default_value = "Flame graph")]
    title: String,
    /// What the numbers count
    #[arg(long, default_value = "samples")]
    unit: String,
    /// Lines `PHASE FRAME`: frames have their phase's colour, and phases a legend
    #[arg(long, value_name = "FILE", conflicts_with = "diff")]
    phases: Option<PathBuf>,
}

fn main() -> ExitCode {
    match picture(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("flamegraphs: {why}");
            ExitCode::FAILURE
        }
    }
}

fn picture(options: &Options) -> Result<(), String> {
    let after = tree(options.folded.as_deref())?;
    let picture = Picture {
        title: options.title.clone(),
        unit: options.unit.clone(),
        phases: match &options.phases {
            Some(path) => phases(&read(Some(path))?, path)?,
            None => BTreeMap::new(),
        },
        ..Picture::default()
    };
    let mut svg = Vec::new();
    match &options.diff {
        None => draw(&after, &picture, &mut svg),
        Some(before) => {
            let before = tree(Some(before))?;
            let diff = match options.unscaled {
                true => Diff::unscaled(&before, &after),
                false => Diff::new(&before, &after),
            };
            draw_parts(&diff, ["in both", "more", "less"], &picture, &mut svg)
        }
    }
    .map_err(|e| e.to_string())?;
    let svg = String::from_utf8_lossy(&svg);
    let Some(output) = &options.output else {
        let mut out = io::stdout().lock();
        let written = out.write_all(svg.as_bytes()).and_then(|()| out.flush());
        return written.map_err(|e| format!("cannot write to stdout: {e}"));
    };
    let text = match output.extension().is_some_and(|ending| ending == "html") {
        true => html(&options.title, &svg),
        false => svg.into_owned(),
    };
    fs::write(output, text).map_err(|e| format!("cannot write {}: {e}", output.display()))
}

fn tree(path: Option<&Path>) -> Result<Tree, String> {
    let name = path.map_or("stdin".into(), |path| path.display().to_string());
    Tree::from_folded(&read(path)?).map_err(|e| format!("{name}: {e}"))
}

/// Most that is read of a text: one that has no end is none.
const LONGEST: u64 = 1 << 30;

/// The text of a file or of stdin. Symbols are bytes: those that are no UTF-8 show as the character for that.
fn read(path: Option<&Path>) -> Result<String, String> {
    let name = path.map_or("stdin".into(), |path| path.display().to_string());
    let cannot = |why: &dyn Display| format!("cannot read {name}: {why}");
    let mut bytes = Vec::new();
    let read = match path {
        Some(path) => {
            let file = File::open(path).map_err(|e| cannot(&e))?;
            file.take(LONGEST).read_to_end(&mut bytes)
        }
        None => io::stdin().lock().take(LONGEST).read_to_end(&mut bytes),
    };
    match read.map_err(|e| cannot(&e))? as u64 {
        LONGEST => Err(cannot(
            &"it has a gibibyte or more; fold equal stacks into one line",
        )),
        _ => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

/// Frames with their phases.
fn phases(text: &str, path: &Path) -> Result<BTreeMap<String, String>, String> {
    let mut phases = BTreeMap::new();
    for (at, line) in text.lines().enumerate().filter(|(_, l)| !l.is_empty()) {
        let Some((phase, frame)) = line.split_once(' ') else {
            let place = format!("{}, line {}", path.display(), at + 1);
            return Err(format!("{place}: it should be `PHASE FRAME`"));
        };
        phases.insert(frame.to_owned(), phase.to_owned());
    }
    Ok(phases)
}
