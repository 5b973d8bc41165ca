//! The programs that a study runs: built first if cargo started us, else expected beside us.
//!
//! In: nothing; out: paths of `bypassprof`, `httpd` and `loadgen`, of the same build as this program.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Why there are no programs.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// Where we are is not known.
    #[error("cannot find this program's own file: {0}")]
    Nowhere(std::io::Error),
    /// Cargo could not be run or the build failed.
    #[error("cannot build bypassprof, httpd and loadgen: {0}")]
    Build(String),
    /// It is not there.
    #[error("{} is missing; build it with `cargo build --release -p {}`", path.display(), name)]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// Its package.
        name: &'static str,
    },
}

/// Paths of the programs.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The recorder.
    pub bypassprof: PathBuf,
    /// The servers.
    pub httpd: PathBuf,
    /// The client.
    pub loadgen: PathBuf,
}

impl Programs {
    /// Builds what is out of date (cargo says so on stderr) and finds it.
    pub fn ready() -> Result<Programs, ProgramError> {
        let own = std::env::current_exe().map_err(ProgramError::Nowhere)?;
        let dir = own.parent().unwrap_or(Path::new("."));
        if let Some(cargo) = std::env::var_os("CARGO") {
            build(&cargo, dir, &[], &NAMES)?;
        }
        let find = |name: &'static str| {
            let path = dir.join(name);
            if path.is_file() {
                Ok(path)
            } else {
                Err(ProgramError::Missing { path, name })
            }
        };
        find(NAMES[3])?;
        Ok(Programs {
            bypassprof: find(NAMES[0])?,
            httpd: find(NAMES[1])?,
            loadgen: find(NAMES[2])?,
        })
    }

    /// The server with its probes compiled out: built if cargo started us, else an earlier one, if there is one.
    pub fn without_probes(&self) -> Result<Option<PathBuf>, ProgramError> {
        let dir = self.httpd.parent().unwrap_or(Path::new("."));
        let bare = dir.join(BARE);
        if let Some(cargo) = std::env::var_os("CARGO") {
            // The same folder of dependencies: only what knows of probes is built twice.
            build(&cargo, dir, &["--no-default-features"], &SERVERS)?;
            let copied = std::fs::create_dir_all(&bare).and_then(|()| {
                SERVERS
                    .iter()
                    .try_for_each(|name| std::fs::copy(dir.join(name), bare.join(name)).map(drop))
            });
            copied.map_err(|e| ProgramError::Build(format!("{}: {e}", bare.display())))?;
            build(&cargo, dir, &[], &NAMES)?;
        }
        let httpd = bare.join(SERVERS[0]);
        Ok(httpd.is_file().then_some(httpd))
    }
}

/// Builds packages into the folder that we are in.
fn build(cargo: &OsStr, dir: &Path, options: &[&str], names: &[&str]) -> Result<(), ProgramError> {
    let mut build = Command::new(cargo);
    build.arg("build").args(options);
    if dir.ends_with("release") {
        build.arg("--release");
    }
    for name in names {
        build.args(["-p", name]);
    }
    let status = build.status();
    let status = status.map_err(|e| ProgramError::Build(e.to_string()))?;
    match status.success() {
        true => Ok(()),
        false => Err(ProgramError::Build(format!("cargo ended with {status}"))),
    }
}

/// Servers, as they are built again without probes.
const SERVERS: [&str; 2] = ["httpd", "httpd-demikernel"];
/// Where these are kept, beside the others.
const BARE: &str = "without-probes";

/// The last one is started by `httpd` itself.
const NAMES: [&str; 4] = ["bypassprof", "httpd", "loadgen", "httpd-demikernel"];
