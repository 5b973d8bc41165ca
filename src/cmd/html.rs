//! `bypassprof report --html`: everything there is to say of recordings, as one page.

use super::filter::Asked;
use super::{Failure, load};
use crate::analyse::compare::Side;
use crate::analyse::explain::{Facts, explain};
use crate::analyse::{Ledger, Packs};
use crate::present::html::{self, Part, WINDOW};
use std::fs;
use std::path::{Path, PathBuf};

/// Requests that are told as timelines.
const SLOWEST: usize = 20;

/// Writes the page; the first recording is in front.
pub fn write(
    files: &[PathBuf],
    output: &Path,
    packs: &Packs,
    asked: &Asked,
) -> Result<(), Failure> {
    let mut parts = Vec::new();
    let mut sides = Vec::new();
    for file in files {
        let (part, side) = part(file, packs, asked, files.len() > 1)?;
        parts.push(part);
        sides.extend(side);
    }
    if files.iter().any(|file| is_same(file, output)) {
        return Err(Failure::wrong_use(format!(
            "{} is a recording; the page needs a file of its own",
            output.display()
        )));
    }
    let page = html::page(&parts, &sides).map_err(Failure::failed)?;
    let cannot = |e| Failure::failed(format!("cannot write {}: {e}", output.display()));
    fs::write(output, &page).map_err(cannot)?;
    eprintln!("{} ({:.1} MB)", output.display(), page.len() as f64 / 1e6);
    for part in &parts {
        eprintln!("{}", part.profile.trust.line());
    }
    Ok(())
}

fn is_same(a: &Path, b: &Path) -> bool {
    match (fs::canonicalize(a), fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

/// A recording, and as a side of a comparison if it is one.
fn part(
    file: &Path,
    packs: &Packs,
    asked: &Asked,
    is_side: bool,
) -> Result<(Part, Option<Side>), Failure> {
    let all = load::everything(file, packs.clone(), asked, (WINDOW, SLOWEST), is_side)?;
    let ledger = Ledger::of(&all.profile, None);
    let findings = explain(&Facts::of(&all.profile, &ledger, Some(&all.spans)));
    let moments = match all.spans.slowest.is_empty() {
        true => Vec::new(),
        false => load::moments(file, packs.clone(), &all.spans.slowest)?,
    };
    let part = Part {
        file: file.display().to_string(),
        findings,
        ledger,
        moments,
        series: all.series,
        spans: all.spans,
        profile: all.profile,
    };
    Ok((part, all.side))
}
