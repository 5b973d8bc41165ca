//! Whether an interface is still there and up, asked in the namespace it was opened in, whoever asks.
//!
//! Polled devices look the same when nothing arrives and when nothing can arrive any more: a stack asks now and then.

use crate::sys;
use netlab::{Interface, LabError};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Why a device that was opened carries no more frames.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The interface was removed.
    #[error("interface {interface} has gone; make it again and start again")]
    Gone {
        /// Its name.
        interface: String,
    },
    /// The interface was switched off.
    #[error("interface {interface} was switched off; try: ip link set {interface} up")]
    Down {
        /// Its name.
        interface: String,
    },
    /// What the device does beside carrying frames failed.
    #[error("{what}: {source}")]
    Other {
        /// What failed.
        what: String,
        /// Why.
        source: io::Error,
    },
}

/// An interface that is watched.
#[derive(Debug)]
pub struct Watch {
    socket: OwnedFd,
    index: u32,
    name: String,
}

impl Watch {
    /// Watches an interface of the calling thread's namespace.
    pub fn on(interface: &Interface) -> Result<Watch, LabError> {
        let failed = |source| LabError::Interface {
            interface: interface.name().to_string(),
            what: "flags",
            source,
        };
        Ok(Watch {
            socket: sys::control_socket().map_err(failed)?,
            index: interface.index()?,
            name: interface.name().to_string(),
        })
    }

    /// The interface's name when it was opened.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is there and up: two system calls.
    pub fn check(&self) -> Result<(), DeviceError> {
        let interface = || self.name.clone();
        match sys::is_up(self.socket.as_fd(), self.index) {
            Ok(true) => Ok(()),
            Ok(false) => Err(DeviceError::Down {
                interface: interface(),
            }),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENODEV | libc::ENXIO)) => {
                Err(DeviceError::Gone {
                    interface: interface(),
                })
            }
            Err(source) => Err(DeviceError::Other {
                what: format!("interface {}: cannot get its flags", self.name),
                source,
            }),
        }
    }
}
