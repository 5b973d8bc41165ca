//! The command `bypassprof`: parse, dispatch, exit code. Everything else is in [`bypassprof::cmd`].

fn main() -> std::process::ExitCode {
    bypassprof::cmd::main()
}
