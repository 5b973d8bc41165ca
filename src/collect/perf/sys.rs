//! What the perf crate does not offer: events of one CPU writing into one ring.
//!
//! Unsafe code is fenced in here: one ioctl on two open files.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `PERF_EVENT_IOC_SET_OUTPUT`, which is `_IO('$', 5)` on x86-64 and Arm alike.
const SET_OUTPUT: libc::Ioctl = 0x2405;

/// Sends the records of `event` to the ring of `ring`; both must be on the same CPU and use the same clock.
pub fn set_output(event: &File, ring: &File) -> io::Result<()> {
    // SAFETY: both descriptors are open for the length of the call, and this request takes its argument by value: the
    // kernel reads and writes no memory of ours.
    let done = unsafe { libc::ioctl(event.as_raw_fd(), SET_OUTPUT, ring.as_raw_fd()) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
