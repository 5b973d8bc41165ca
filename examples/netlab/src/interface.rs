//! One network interface and its settings: addresses, MTU, offloads, up.
//!
//! In: a name in the calling thread's network namespace; out: what the kernel says, or a failure that names interface
//! and setting. It refuses to know where interfaces come from.

use crate::{LabError, netlink, sys};
use std::io;
use std::net::Ipv4Addr;

/// An interface of the calling thread's network namespace, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    name: String,
}

impl Interface {
    /// The interface of this name, which must exist.
    pub fn named(name: &str) -> Result<Interface, LabError> {
        let interface = Interface {
            name: name.to_string(),
        };
        interface.index()?;
        Ok(interface)
    }

    /// The interface of this number, which must exist.
    pub fn numbered(index: u32) -> Result<Interface, LabError> {
        let interface = format!("number {index}");
        let name = sys::interface_name(index).map_err(|source| LabError::Interface {
            interface,
            what: "name",
            source,
        })?;
        Interface::named(&name)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number.
    pub fn index(&self) -> Result<u32, LabError> {
        let answer = self.ask("index", libc::SIOCGIFINDEX, [0; 24])?;
        Ok(u32::from_ne_bytes(first(&answer)))
    }

    /// Its Ethernet address; an interface of another kind has none.
    pub fn mac(&self) -> Result<[u8; 6], LabError> {
        let what = "Ethernet address";
        let answer = self.ask(what, libc::SIOCGIFHWADDR, [0; 24])?;
        if ![libc::ARPHRD_ETHER, libc::ARPHRD_LOOPBACK]
            .contains(&u16::from_ne_bytes(first(&answer)))
        {
            return Err(self.failed(what, io::Error::other("it is not an Ethernet interface")));
        }
        let mut mac = [0; 6];
        mac.copy_from_slice(&answer[2..8]);
        Ok(mac)
    }

    /// Largest packet it carries, without the Ethernet header.
    pub fn mtu(&self) -> Result<u32, LabError> {
        let answer = self.ask("MTU", libc::SIOCGIFMTU, [0; 24])?;
        Ok(u32::from_ne_bytes(first(&answer)))
    }

    /// Gives it an IPv4 address in a network of `prefix` bits.
    pub fn set_address(&self, address: Ipv4Addr, prefix: u8) -> Result<(), LabError> {
        let mask = u32::MAX
            .checked_shl(32 - u32::from(prefix.min(32)))
            .unwrap_or(0);
        let address = self.ask("address", libc::SIOCSIFADDR, internet(address));
        address?;
        let mask = internet(Ipv4Addr::from_bits(mask));
        self.ask("netmask", libc::SIOCSIFNETMASK, mask)?;
        Ok(())
    }

    /// Whether it is switched on.
    pub fn is_up(&self) -> Result<bool, LabError> {
        let flags = self.ask("flags", libc::SIOCGIFFLAGS, [0; 24])?;
        Ok(u16::from_ne_bytes(first(&flags)) & UP != 0)
    }

    /// Switches it on.
    pub fn up(&self) -> Result<(), LabError> {
        self.change_flags("up", |flags| flags | UP)
    }

    /// Switches it off.
    pub fn down(&self) -> Result<(), LabError> {
        self.change_flags("down", |flags| flags & !UP)
    }

    fn change_flags(
        &self,
        what: &'static str,
        change: impl FnOnce(u16) -> u16,
    ) -> Result<(), LabError> {
        let mut flags = self.ask("flags", libc::SIOCGIFFLAGS, [0; 24])?;
        let changed = change(u16::from_ne_bytes(first(&flags)));
        flags[..2].copy_from_slice(&changed.to_ne_bytes());
        self.ask(what, libc::SIOCSIFFLAGS, flags)?;
        Ok(())
    }

    /// No checksums left to hardware, no segments larger than the MTU in either direction: what the other end receives
    /// is what a wire would carry.
    pub fn offloads_off(&self) -> Result<(), LabError> {
        const OFFLOADS: &[(&str, u32)] = &[
            ("transmit checksums", 0x17),
            ("receive checksums", 0x15),
            ("scatter-gather", 0x19),
            ("TCP segmentation", 0x1f),
            ("generic segmentation", 0x24),
            ("generic receive merging", 0x2c),
        ];
        for (what, command) in OFFLOADS {
            match sys::ethtool(&self.name, *command, 0) {
                // What it cannot do at all is off.
                Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
                outcome => outcome.map_err(|e| self.failed(what, e))?,
            }
        }
        Ok(())
    }

    /// Gives it so many receive and transmit queues; a veth end can have as many as there are CPUs.
    pub fn set_queues(&self, queues: u32) -> Result<(), LabError> {
        sys::set_queues(&self.name, queues).map_err(|e| self.failed("queues", e))
    }

    /// No IPv6 address of its own, so that the kernel sends nothing unasked.
    pub fn ipv6_off(&self) -> Result<(), LabError> {
        match netlink::no_ipv6_address(self.index()?) {
            // A kernel without IPv6.
            Err(e) if e.raw_os_error() == Some(libc::EAFNOSUPPORT) => Ok(()),
            outcome => outcome.map_err(|e| self.failed("IPv6 address", e)),
        }
    }

    fn ask(
        &self,
        what: &'static str,
        request: libc::Ioctl,
        data: [u8; 24],
    ) -> Result<[u8; 24], LabError> {
        sys::interface(&self.name, request, data).map_err(|e| self.failed(what, e))
    }

    fn failed(&self, what: &'static str, source: io::Error) -> LabError {
        let interface = self.name.clone();
        match source.raw_os_error() {
            Some(libc::ENODEV) => LabError::NoInterface { interface },
            _ => LabError::Interface {
                interface,
                what,
                source,
            },
        }
    }
}

const UP: u16 = libc::IFF_UP as u16;

fn first<const N: usize>(bytes: &[u8; 24]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[..N]);
    out
}

/// `struct sockaddr_in` without a port.
fn internet(address: Ipv4Addr) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    bytes[4..8].copy_from_slice(&address.octets());
    bytes
}
