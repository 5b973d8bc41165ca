//! Where a stack with an address of its own serves: device, address and port from the command line.
//!
//! In: the options that all rows share; out: a place, or what is wrong with it. It refuses to open anything.

use crate::options::Options;
use stack_netio::DeviceSpec;
use std::net::{Ipv4Addr, SocketAddrV4};

/// The servers' address on the networks that this project's harness makes.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 123, 0, 2);
/// The port of every server.
const PORT: u16 = 8080;
/// Where a stack listens when nothing is said.
pub const DEFAULT: SocketAddrV4 = SocketAddrV4::new(ADDRESS, PORT);

/// A device and what is listened on behind it.
#[derive(Clone, Debug)]
pub struct Place {
    /// What is received from and sent to; by default a TAP of the stack's own.
    pub device: DeviceSpec,
    /// The stack's address and port.
    pub listen: SocketAddrV4,
}

impl Place {
    /// The place for any stack.
    pub fn of(options: &Options) -> Result<Place, String> {
        let listen = options.listen.unwrap_or(DEFAULT);
        if listen.ip().is_unspecified() || listen.port() == 0 {
            return Err(format!(
                "--listen {listen}: a stack of its own needs an address and a port of its own, as {DEFAULT}"
            ));
        }
        let own_tap = || DeviceSpec::tap("bpf0");
        Ok(Place {
            device: options.dev.clone().unwrap_or_else(own_tap),
            listen,
        })
    }

    /// The place for a stack of one thread.
    pub fn of_one_thread(stack: &str, options: &Options) -> Result<Place, String> {
        if options.threads != 1 {
            return Err(format!(
                "--threads {}: the {stack} stack runs in one thread; leave it out",
                options.threads
            ));
        }
        Place::of(options)
    }
}
