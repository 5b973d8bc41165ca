//! Listening sockets: as many as there are threads on one address, where nobody else listens.

use super::Error;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;

/// Connections that wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// One socket for each thread; the address says the port where `wanted` said 0.
pub fn bind_all(wanted: SocketAddrV4, threads: u16) -> Result<(SocketAddrV4, Vec<OwnedFd>), Error> {
    let refused = |errno| match errno {
        Errno::ADDRINUSE => Error::InUse(wanted),
        Errno::ADDRNOTAVAIL => Error::NotHere(wanted),
        Errno::ACCESS => Error::Privileged(wanted),
        errno => Error::Listen(wanted, errno),
    };
    // SO_REUSEPORT would share the port with another server of this user in silence: ask without it first.
    let alone = bound(wanted, false).map_err(refused)?;
    let address = bound_address(&alone, wanted).map_err(refused)?;
    drop(alone);
    let mut listeners = Vec::new();
    for _ in 0..threads {
        let socket = bound(address, true).map_err(refused)?;
        sockopt::set_tcp_nodelay(&socket, true).map_err(refused)?;
        net::listen(&socket, BACKLOG).map_err(refused)?;
        listeners.push(socket);
    }
    Ok((address, listeners))
}

fn bound(address: SocketAddrV4, share: bool) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if share {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    net::bind(&socket, &address)?;
    Ok(socket)
}

fn bound_address(socket: &OwnedFd, wanted: SocketAddrV4) -> rustix::io::Result<SocketAddrV4> {
    let address = net::getsockname(socket)?;
    Ok(SocketAddrV4::try_from(address).unwrap_or(wanted))
}
