//! The Unix socket that a service listens on.
//!
//! In: a path, or nothing; out: a socket, a name that others can connect to. It refuses to know what is said there.

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen as start,
    socket_with,
};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Applications that may wait to be let in.
const BACKLOG: i32 = 64;

/// Where a service listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A file.
    Path(PathBuf),
    /// A name without a file, in the network namespace.
    Abstract(String),
}

impl Address {
    fn to_socket(&self) -> io::Result<SocketAddrUnix> {
        Ok(match self {
            Address::Path(path) => SocketAddrUnix::new(path)?,
            Address::Abstract(name) => SocketAddrUnix::new_abstract_name(name.as_bytes())?,
        })
    }

    /// A socket to the service.
    pub fn connect(&self) -> io::Result<OwnedFd> {
        let socket = new_socket(SocketFlags::CLOEXEC)?;
        connect(&socket, &self.to_socket()?)?;
        Ok(socket)
    }
}

fn new_socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    Ok(socket_with(family, kind, flags, None)?)
}

/// A socket that listens; its file, if it has one, goes with this.
#[derive(Debug)]
pub struct Listening {
    /// The socket, which does not block: to be handed to the service whole. As long as anyone keeps it open, those who
    /// connect to a service that is dead wait for an answer.
    pub socket: Option<OwnedFd>,
    /// Where it is.
    pub address: Address,
}

/// Listens at a path, or under a name that nobody else has. A file that nobody listens at any more is replaced.
pub fn listen(path: Option<&Path>) -> io::Result<Listening> {
    let address = match path {
        Some(path) => Address::Path(path.to_path_buf()),
        None => {
            // The standard library's hasher is keyed from the system's entropy.
            let random = RandomState::new().build_hasher().finish();
            Address::Abstract(format!("bypassprof-tas-{random:016x}"))
        }
    };
    let socket = new_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let name = address.to_socket()?;
    match bind(&socket, &name) {
        Err(Errno::ADDRINUSE) if path.is_some_and(|p| is_left_over(p, &address)) => {
            bind(&socket, &name)?;
        }
        outcome => outcome?,
    }
    start(&socket, BACKLOG)?;
    Ok(Listening {
        socket: Some(socket),
        address,
    })
}

/// Whether the file is a socket of a service that is gone; it is then no more.
fn is_left_over(path: &Path, address: &Address) -> bool {
    let refused = |e: &io::Error| e.kind() == io::ErrorKind::ConnectionRefused;
    address.connect().is_err_and(|e| refused(&e)) && std::fs::remove_file(path).is_ok()
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Address::Path(path) = &self.address {
            // A file that is gone already is no loss.
            let _ = std::fs::remove_file(path);
        }
    }
}
