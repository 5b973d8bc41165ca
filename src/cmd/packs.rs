//! `bypassprof packs`: the packs there are, what one says, how well one fits; and the option that adds one.

use super::{Failure, load};
use crate::analyse::Packs;
use crate::analyse::coverage::coverage;
use crate::analyse::packs::{Pack, lint};
use crate::present::packs as present;
use crate::present::style::Style;
use crate::trace::file::text_up_to;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The option that adds packs, of every command that analyses.
#[derive(Debug, Default, clap::Args)]
pub struct PackArgs {
    /// Use this pack too, before all others (may be repeated)
    #[arg(long = "pack", value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl PackArgs {
    /// The built-in packs and those named.
    pub fn load(&self) -> Result<Packs, Failure> {
        let mut packs = Packs::built_in();
        for file in &self.files {
            packs.add(read(file)?).map_err(Failure::failed)?;
        }
        Ok(packs)
    }
}

/// Longest pack that is read, in MiB: those that are built in are a thousand times shorter.
const LONGEST: u64 = 4;

fn read(file: &Path) -> Result<Pack, Failure> {
    let text = text_up_to(file, LONGEST)
        .map_err(|e| Failure::failed(format!("cannot read {}: {e}", file.display())))?;
    Pack::parse(&file.display().to_string(), &text).map_err(Failure::failed)
}

/// Arguments of `packs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Say which packs fit this recording, and how much of it they cover
    recording: Option<PathBuf>,
    /// Look for mistakes in a pack
    #[arg(long, value_name = "FILE", conflicts_with = "show")]
    check: Option<PathBuf>,
    /// Print a built-in pack: something to begin one's own with
    #[arg(long, value_name = "NAME", conflicts_with = "recording")]
    show: Option<String>,
    #[command(flatten)]
    packs: PackArgs,
}

/// Lists, shows or checks. A pack with remarks is a failure, so that scripts see it.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let style = Style::of_stdout();
    let mut packs = args.packs.load()?;
    let mut text = String::new();
    let mut code = ExitCode::SUCCESS;
    if let Some(name) = &args.show {
        let shown = Packs::built_in_text(name).ok_or_else(|| {
            let all: Vec<_> = packs.all().iter().map(|p| p.name.as_str()).collect();
            Failure::wrong_use(format!("no pack `{name}` is built in")).hint(all.join(", "))
        })?;
        text.push_str(shown);
    } else if let Some(file) = &args.check {
        let pack = read(file)?;
        let remarks = lint::lint(&pack);
        if !remarks.is_empty() {
            code = ExitCode::FAILURE;
        }
        text.push_str(&present::checked(&pack, &remarks, style));
        packs.add(pack).map_err(Failure::failed)?;
    } else if args.recording.is_none() {
        text.push_str(&present::list(packs.all(), style));
    }
    if let Some(recording) = &args.recording {
        let profile = load::profile(recording, packs)?;
        text.push_str(&present::fits(&profile, &coverage(&profile), style));
    }
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(Failure::output)?;
    Ok(code)
}
