//! How a command is held until its recorder is ready: this program starts itself as the command's stand-in, which
//! waits, and then becomes the command.
//!
//! In: a program and its arguments; out: a [`Held`] process to attach to and let go. Both ends talk over a socket in
//! the abstract namespace, whose other end must be our own child.

use super::{Failure, affinity};
use crate::collect::proc;
use rustix::net::sockopt::socket_peercred;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};

/// Name of the hidden subcommand.
pub const NAME: &str = "run-when-told";

/// Arguments of the stand-in.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Socket of the recorder
    socket: String,
    /// CPUs that the command may run on, where the recorder keeps to fewer
    #[arg(long)]
    cpus: Option<String>,
    /// Command to become
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// The stand-in's side: waits for a byte, then becomes the command. Comes back only if that fails.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let broken = |e: io::Error| Failure::failed(format!("the recorder is not there: {e}"));
    let address = SocketAddr::from_abstract_name(&args.socket).map_err(broken)?;
    let mut recorder = UnixStream::connect_addr(&address).map_err(broken)?;
    let mut go = [0];
    recorder.read_exact(&mut go).map_err(broken)?;
    if let Some(cpus) = &args.cpus {
        affinity::run_on(&proc::parse_cpus(cpus)).map_err(broken)?;
    }
    let error = Command::new(&args.command[0])
        .args(&args.command[1..])
        .exec();
    // The recorder says it better; if it is gone there is no one to tell.
    let _ = recorder.write_all(&error.raw_os_error().unwrap_or(0).to_le_bytes());
    Ok(ExitCode::from(127))
}

/// A command that has been started but does not run yet.
pub struct Held {
    /// The process; it keeps its number when it becomes the command.
    pub child: Child,
    stream: UnixStream,
}

/// Where a command's own words go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// Where ours go.
    Here,
    /// To our standard error: standard output is for results.
    Aside,
    /// Nowhere, and it is asked nothing: the terminal is ours.
    Nowhere,
}

/// Starts a command's stand-in and waits until it is there.
///
/// `cpus`: what the command may run on, if that is not what this process may.
pub fn hold(
    command: &[OsString],
    environment: &[(&str, &OsStr)],
    cpus: Option<&str>,
    words: Words,
) -> io::Result<Held> {
    let name = format!(
        "bypassprof-{}-{:x}",
        std::process::id(),
        crate::collect::clock::counter()
    );
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    listener.set_nonblocking(true)?;
    let mut stand_in = Command::new("/proc/self/exe");
    match words {
        Words::Here => {}
        Words::Aside => drop(stand_in.stdout(io::stderr())),
        Words::Nowhere => {
            let nothing = || Stdio::null();
            stand_in
                .stdin(nothing())
                .stdout(nothing())
                .stderr(nothing());
        }
    }
    let mut child = stand_in
        .arg0("bypassprof")
        .arg(NAME)
        .arg(&name)
        .args(cpus.iter().flat_map(|cpus| ["--cpus", cpus]))
        .arg("--")
        .args(command)
        .envs(environment.iter().copied())
        .spawn()?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                let peer = socket_peercred(&stream)?.pid.as_raw_nonzero().get();
                if peer.unsigned_abs() == child.id() {
                    stream.set_nonblocking(false)?;
                    return Ok(Held { child, stream });
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                if child.try_wait()?.is_some() {
                    return Err(io::Error::other("its stand-in ended before it was ready"));
                }
                std::thread::sleep(std::time::Duration::from_micros(500));
            }
            Err(e) => return Err(e),
        }
    }
}

impl Held {
    /// Lets the command run; the error is why it cannot.
    pub fn release(mut self) -> Result<Child, io::Error> {
        self.stream.write_all(&[1])?;
        let mut code = [0; 4];
        match self.stream.read_exact(&mut code) {
            // The socket closed by itself: the stand-in has become the command.
            Err(_) => Ok(self.child),
            Ok(()) => {
                self.child.wait()?;
                Err(io::Error::from_raw_os_error(i32::from_le_bytes(code)))
            }
        }
    }

    /// Ends the stand-in; the command never runs.
    pub fn cancel(mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
