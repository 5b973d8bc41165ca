//! The network of one server: a client's namespace and a server's, joined by a veth pair.
//!
//! In: who speaks TCP at the server's end; out: namespaces to start programs in. Offloads are off at both ends and for
//! every stack alike: what one end receives is what a wire would carry.

use crate::Failure;
use crate::badlink::{self, BadLink};
use netlab::{Interface, Lab, LabError, Namespace};
use serde::{Deserialize, Serialize};
use stack_netio::Faults;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Where servers listen.
pub const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 123, 0, 2), 8080);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 123, 0, 1);
const PREFIX: u8 = 24;
const CLIENT_END: &str = "client0";
const SERVER_END: &str = "server0";

/// Servers that can be studied.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Stack {
    /// The kernel's TCP.
    Linux,
    /// mTCP's architecture.
    Mtcp,
    /// F-Stack's architecture.
    Fstack,
    /// IX's architecture.
    Ix,
    /// TAS's architecture.
    Tas,
    /// The real Demikernel.
    Demikernel,
    /// The real smoltcp.
    Smoltcp,
    /// The real lwIP, where its library is installed.
    Lwip,
}

impl Stack {
    /// The six of the study, in the order of tables.
    pub const SIX: [Stack; 6] = [
        Stack::Linux,
        Stack::Mtcp,
        Stack::Fstack,
        Stack::Ix,
        Stack::Tas,
        Stack::Demikernel,
    ];

    /// All of them: the six and two more real ones.
    pub const ALL: [Stack; 8] = [
        Stack::Linux,
        Stack::Mtcp,
        Stack::Fstack,
        Stack::Ix,
        Stack::Tas,
        Stack::Demikernel,
        Stack::Smoltcp,
        Stack::Lwip,
    ];

    /// What `httpd --stack` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Stack::Linux => "linux",
            Stack::Mtcp => "mtcp",
            Stack::Fstack => "fstack",
            Stack::Ix => "ix",
            Stack::Tas => "tas",
            Stack::Demikernel => "demikernel",
            Stack::Smoltcp => "smoltcp",
            Stack::Lwip => "lwip",
        }
    }

    fn in_kernel(self) -> bool {
        self == Stack::Linux
    }
}

/// Two joined namespaces.
pub struct Site {
    link: Option<BadLink>,
    /// Where load comes from.
    pub client: Namespace,
    /// Where the server runs.
    pub server: Namespace,
    /// Which stack it was made for.
    pub stack: Stack,
}

impl Site {
    /// A network for this stack: its end has an address of the kernel's only if the kernel is the stack.
    pub fn new(lab: &Lab, stack: Stack) -> Result<Site, LabError> {
        let client = lab.namespace("client")?;
        let server = lab.namespace("server")?;
        lab.veth((&client, CLIENT_END), (&server, SERVER_END))?;
        Site::furnish(client, server, stack, None)
    }

    /// The same with a wire in between that does this to frames.
    pub fn behind(lab: &Lab, stack: Stack, faults: Faults) -> Result<Site, Failure> {
        let client = lab.namespace("client")?;
        let server = lab.namespace("server")?;
        let link = BadLink::join(lab, (&client, CLIENT_END), (&server, SERVER_END), faults)?;
        Ok(Site::furnish(client, server, stack, Some(link))?)
    }

    fn furnish(
        client: Namespace,
        server: Namespace,
        stack: Stack,
        link: Option<BadLink>,
    ) -> Result<Site, LabError> {
        client.enter(|| {
            let end = Interface::named(CLIENT_END)?;
            end.offloads_off()?;
            end.set_address(CLIENT, PREFIX)
        })??;
        server.enter(|| {
            let end = Interface::named(SERVER_END)?;
            end.offloads_off()?;
            if stack.in_kernel() {
                end.set_address(*SERVER.ip(), PREFIX)?;
            }
            Ok::<(), LabError>(())
        })??;
        Ok(Site {
            link,
            client,
            server,
            stack,
        })
    }

    /// Takes the network away; what a bad wire did.
    pub fn end(self) -> Option<badlink::Counts> {
        self.link.map(BadLink::end)
    }

    /// The largest packet of the server's end, without its Ethernet header.
    pub fn mtu(&self) -> Result<u32, LabError> {
        self.server.enter(|| Interface::named(SERVER_END)?.mtu())?
    }

    /// Arguments of `httpd` here.
    pub fn httpd_arguments(&self) -> Vec<String> {
        let mut words = vec!["--stack".to_string(), self.stack.name().to_string()];
        words.extend(["--listen".to_string(), SERVER.to_string()]);
        if !self.stack.in_kernel() {
            words.extend(["--dev".to_string(), format!("packet:{SERVER_END}")]);
        }
        words
    }
}
