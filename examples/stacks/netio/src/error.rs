//! Why a device could not be opened: what was tried on which device, what the kernel said, what to do about it.

use netlab::LabError;
use std::io;
use std::net::Ipv4Addr;

/// Why a device could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The interface is not there, or refuses.
    #[error(transparent)]
    Interface(#[from] LabError),
    /// The interface is switched off.
    #[error("interface {interface} is down; try: ip link set {interface} up")]
    Down {
        /// Its name.
        interface: String,
    },
    /// The packet socket failed.
    #[error("packet:{interface}: cannot {what}: {source}{}", packet_fix(source))]
    Packet {
        /// Name of the interface.
        interface: String,
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The TAP could not be made.
    #[error(
        "tap:{name}: cannot open it through /dev/net/tun: {source}{}",
        tap_fix(source)
    )]
    Tap {
        /// Name of the interface.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// More queues than the kernel has, or none.
    #[error("{device}: {queues} queues cannot be had; 1 to {most} can")]
    Queues {
        /// The device's words.
        device: String,
        /// What was asked for.
        queues: usize,
        /// What there is.
        most: usize,
    },
    /// The stack's address leaves none for the host.
    #[error(
        "{address} cannot be the stack's address on a TAP: the host's end has the first of its /24; try one that ends in .2"
    )]
    HostsAddress {
        /// The stack's address.
        address: Ipv4Addr,
    },
}

fn packet_fix(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM) => "; run as root or with CAP_NET_RAW",
        Some(libc::ENOMEM) => "; free some memory: the ring needs 32 MiB in pieces of 64 KiB",
        Some(libc::ENOPROTOOPT) => "; it needs Linux 4.20 or newer",
        Some(libc::EAFNOSUPPORT) => "; the kernel lacks packet sockets: modprobe af_packet",
        _ => "",
    }
}

fn tap_fix(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "; run as root or with CAP_NET_ADMIN",
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
            "; modprobe tun, or in a container: --device /dev/net/tun"
        }
        Some(libc::EBUSY) => "; another program has it: choose another name",
        Some(libc::EINVAL) => "; an interface of another kind has that name: choose another",
        _ => "",
    }
}
