//! The command line: one file per subcommand; the only place that joins stages.

/// Parses the command line, runs the subcommand and turns its outcome into an exit code.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
