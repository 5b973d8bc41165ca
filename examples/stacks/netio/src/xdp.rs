//! An AF_XDP socket on one queue of an interface: frames by rings in memory shared with the kernel, past its stack.
//!
//! In: an interface that is up; out: a [`Device`] whose received frames are lent from the shared memory. Frames are copied
//! between that memory and the kernel's buffers (copy mode), which every driver can, veth among them. A program of five
//! instructions is attached to the interface while a device is open: it sends the frames of a queue to the socket on that
//! queue. It cannot be told whether sums were made: the other end of a veth has to make them (`ethtool -K IF tx off`).
//!
//! Needs root, since programs are loaded, and Linux 5.9 or newer. It refuses to know zero copy and large frames.

mod program;
mod rings;
mod socket;

use crate::watch::{DeviceError, Watch};
use crate::{Device, OpenError, RxFrame};
use netlab::Interface;
use program::Redirection;
use socket::{Shape, Socket};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// One queue of an interface through an AF_XDP socket.
#[derive(Debug)]
pub struct Xdp {
    socket: Socket,
    watch: Watch,
    mac: [u8; 6],
    mtu: u16,
    /// Sends the interface's frames here; shared by its queues, gone with the last of them.
    _redirection: Arc<Redirection>,
}

impl Xdp {
    /// Opens the first queue of the interface of this name, which must be up. Frames of other queues go to the kernel.
    pub fn open(name: &str) -> Result<Xdp, OpenError> {
        let mut devices = Xdp::open_queues(name, 1)?;
        devices.pop().ok_or_else(|| OpenError::Down {
            interface: name.to_string(),
        })
    }

    /// Opens the first `queues` queues of the interface, which has to have so many. Which queue gets a frame is up to the
    /// interface: on veth, the sending queue's number decides.
    pub fn open_queues(name: &str, queues: usize) -> Result<Vec<Xdp>, OpenError> {
        let failed = |what: &'static str| {
            move |source: io::Error| OpenError::Xdp {
                interface: name.to_string(),
                what,
                source,
            }
        };
        let interface = Interface::named(name)?;
        if !interface.is_up()? {
            return Err(OpenError::Down {
                interface: name.to_string(),
            });
        }
        let mtu = interface.mtu()?;
        let Some(shape) = Shape::for_mtu(mtu) else {
            return Err(OpenError::LargeMtu {
                interface: name.to_string(),
                mtu,
                most: Shape::MOST,
            });
        };
        let index = interface.index()?;
        let redirection = Redirection::new(queues as u32).map_err(failed("load a program"))?;
        let mut sockets = Vec::with_capacity(queues);
        for queue in 0..queues as u32 {
            let socket = Socket::open(shape).map_err(failed("make a socket"))?;
            socket.bind(index, queue).map_err(failed(match queue {
                0 => "take its first queue",
                _ => "take a further queue",
            }))?;
            redirection
                .to(queue, socket.fd())
                .map_err(failed("give the program a socket"))?;
            sockets.push(socket);
        }
        let attached = redirection.attach(index);
        let redirection = Arc::new(attached.map_err(failed("attach a program"))?);
        let mac = interface.mac()?;
        sockets
            .into_iter()
            .map(|socket| {
                Ok(Xdp {
                    socket,
                    watch: Watch::on(&interface)?,
                    mac,
                    mtu: mtu as u16,
                    _redirection: redirection.clone(),
                })
            })
            .collect()
    }
}

impl Device for Xdp {
    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn mtu(&self) -> u16 {
        self.mtu
    }

    fn rx_burst(&mut self, max: usize) -> usize {
        self.socket.receive(max)
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.fd())
    }

    fn rx_frame(&self, index: usize) -> RxFrame<'_> {
        RxFrame {
            bytes: self.socket.frame(index),
            checksum_ok: false,
        }
    }

    fn rx_release(&mut self) {
        self.socket.release();
    }

    fn tx_frame(&mut self, len: usize) -> Option<&mut [u8]> {
        self.socket.room(len)
    }

    fn tx_queued(&self) -> usize {
        self.socket.queued()
    }

    fn tx_burst(&mut self) -> usize {
        self.socket.send()
    }

    fn rx_dropped(&mut self) -> u64 {
        self.socket.dropped().unwrap_or(0)
    }

    fn check(&mut self) -> Result<(), DeviceError> {
        self.watch.check()
    }
}
