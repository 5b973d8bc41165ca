//! Why a device could not be opened: what was tried on which device, what the kernel said, what to do about it.

use netlab::LabError;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

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
    /// The AF_XDP socket or its program failed.
    #[error("xdp:{interface}: cannot {what}: {source}{}", xdp_fix(source))]
    Xdp {
        /// Name of the interface.
        interface: String,
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Frames of the interface do not fit.
    #[error(
        "xdp:{interface}: its MTU is {mtu}, and at most {most} can be had; try: ip link set {interface} mtu 1500"
    )]
    LargeMtu {
        /// Name of the interface.
        interface: String,
        /// Its MTU.
        mtu: u32,
        /// The largest that would do.
        most: u32,
    },
    /// DPDK is not built in.
    #[error(
        "{device}: DPDK is not built in; install Debian's libdpdk-dev (apt-get install libdpdk-dev), then build with \
         --features dpdk"
    )]
    NoDpdk {
        /// The device's words.
        device: String,
    },
    /// DPDK refuses.
    #[error("dpdk:{device}: cannot make it: {source}{}", dpdk_fix(source))]
    Dpdk {
        /// Name of the virtual device.
        device: String,
        /// What DPDK said.
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
    /// The file for its frames cannot be made.
    #[error("pcap={}: cannot make this file: {source}", path.display())]
    Capture {
        /// Its path.
        path: PathBuf,
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
        Some(libc::ENOMEM) => {
            "; free some memory: the ring needs 32 MiB in pieces of 64 KiB (64 of 128 with offload=both)"
        }
        Some(libc::ENOPROTOOPT) => "; it needs Linux 4.20 or newer",
        Some(libc::EAFNOSUPPORT) => "; the kernel lacks packet sockets: modprobe af_packet",
        _ => "",
    }
}

fn xdp_fix(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM) => {
            "; run as root: programs in the kernel cannot be loaded in a user namespace; or use packet:IF"
        }
        Some(libc::EBUSY) => "; another program has the interface or the queue",
        Some(libc::EINVAL) => {
            "; it has fewer queues (ethtool -L IF rx N tx N), or the kernel is older than 5.9"
        }
        Some(libc::ENOBUFS | libc::ENOMEM) => {
            "; free some memory, or raise the limit: ulimit -l 32768"
        }
        Some(libc::EAFNOSUPPORT) => "; the kernel lacks AF_XDP (CONFIG_XDP_SOCKETS): use packet:IF",
        _ => "",
    }
}

fn dpdk_fix(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "; run as root",
        Some(libc::EEXIST) => {
            "; another device of this process has that name: choose another number"
        }
        Some(libc::ENODEV | libc::ENOENT | libc::EINVAL | libc::EFAULT) => {
            "; there is no such driver or interface, or it knows no such argument"
        }
        Some(libc::ERANGE) => "; it has fewer queues",
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
