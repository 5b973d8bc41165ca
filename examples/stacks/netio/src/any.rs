//! Devices by their words on a command line: `packet:IF`, `tap:NAME`.
//!
//! In: text and the stack's own address; out: a device, or a failure that names device and fix.

use crate::{Device, Packet, RxFrame, Tap};
use netlab::LabError;
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// Which device a stack is to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceSpec {
    /// An interface that exists, through a packet socket.
    Packet(String),
    /// A TAP interface; `%d` in its name becomes a number.
    Tap(String),
}

/// A TAP of the stack's own, with a name that is free.
impl Default for DeviceSpec {
    fn default() -> DeviceSpec {
        DeviceSpec::Tap("bypass%d".to_string())
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceSpec::Packet(name) => write!(f, "packet:{name}"),
            DeviceSpec::Tap(name) => write!(f, "tap:{name}"),
        }
    }
}

/// Why text names no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// A kind that will come.
    #[error("device {spec}: {kind} is not in this version; use packet:IF or tap:NAME")]
    NotInThisVersion {
        /// All that was given.
        spec: String,
        /// The part before the colon.
        kind: String,
    },
    /// A kind that does not exist.
    #[error("device {spec}: not a kind of device; use packet:IF or tap:NAME")]
    Unknown {
        /// All that was given.
        spec: String,
    },
    /// A name that no interface can have.
    #[error(
        "device {spec}: an interface's name has 1 to 15 bytes, without blanks, slashes and colons"
    )]
    Name {
        /// All that was given.
        spec: String,
    },
}

impl FromStr for DeviceSpec {
    type Err = SpecError;

    fn from_str(spec: &str) -> Result<DeviceSpec, SpecError> {
        let owned = || spec.to_string();
        let Some((kind, name)) = spec.split_once(':') else {
            return Err(SpecError::Unknown { spec: owned() });
        };
        let device: fn(String) -> DeviceSpec = match kind {
            "packet" => DeviceSpec::Packet,
            "tap" => DeviceSpec::Tap,
            "xdp" | "dpdk" => {
                let (spec, kind) = (owned(), kind.to_string());
                return Err(SpecError::NotInThisVersion { spec, kind });
            }
            _ => return Err(SpecError::Unknown { spec: owned() }),
        };
        let odd = |c: char| c.is_whitespace() || matches!(c, '/' | ':' | '\0');
        if name.is_empty() || name.len() > 15 || name.contains(odd) {
            return Err(SpecError::Name { spec: owned() });
        }
        Ok(device(name.to_string()))
    }
}

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

/// A device of either kind.
#[derive(Debug)]
pub enum AnyDevice {
    /// Through a packet socket.
    Packet(Packet),
    /// Through a TAP.
    Tap(Tap),
}

/// Opens a device for the stack whose IPv4 address is `address`.
pub fn open(spec: &DeviceSpec, address: Ipv4Addr) -> Result<AnyDevice, OpenError> {
    match spec {
        DeviceSpec::Packet(name) => Packet::open(name).map(AnyDevice::Packet),
        DeviceSpec::Tap(name) => Tap::open(name, address).map(AnyDevice::Tap),
    }
}

macro_rules! either {
    ($any:expr, $device:ident => $call:expr) => {
        match $any {
            AnyDevice::Packet($device) => $call,
            AnyDevice::Tap($device) => $call,
        }
    };
}

impl Device for AnyDevice {
    fn mac(&self) -> [u8; 6] {
        either!(self, device => device.mac())
    }

    fn mtu(&self) -> u16 {
        either!(self, device => device.mtu())
    }

    fn rx_burst(&mut self, max: usize) -> usize {
        either!(self, device => device.rx_burst(max))
    }

    fn rx_frame(&self, index: usize) -> RxFrame<'_> {
        either!(self, device => device.rx_frame(index))
    }

    fn rx_release(&mut self) {
        either!(self, device => device.rx_release());
    }

    fn tx_frame(&mut self, len: usize) -> Option<&mut [u8]> {
        either!(self, device => device.tx_frame(len))
    }

    fn tx_queued(&self) -> usize {
        either!(self, device => device.tx_queued())
    }

    fn tx_burst(&mut self) -> usize {
        either!(self, device => device.tx_burst())
    }

    fn rx_dropped(&mut self) -> u64 {
        either!(self, device => device.rx_dropped())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kind reads back as it was written.
    #[test]
    fn specs_read_back() {
        for text in ["packet:eth0", "tap:first-try"] {
            assert_eq!(text.parse::<DeviceSpec>().unwrap().to_string(), text);
        }
        let own = DeviceSpec::default();
        assert_eq!(own.to_string().parse(), Ok(own));
    }

    /// What cannot be opened is refused with the words given and the choices there are.
    #[test]
    fn refusals_name_the_choices() {
        for text in ["xdp:eth0", "dpdk:--vdev=x", "eth0", "wifi:eth0", ""] {
            let error = text.parse::<DeviceSpec>().unwrap_err().to_string();
            assert!(
                error.contains(text) && error.contains("packet:IF or tap:NAME"),
                "{error}"
            );
        }
        for text in ["packet:", "tap:0123456789abcdef", "tap:a b", "packet:a/b"] {
            let error = text.parse::<DeviceSpec>().unwrap_err().to_string();
            assert!(
                error.contains(text) && error.contains("1 to 15 bytes"),
                "{error}"
            );
        }
    }
}
