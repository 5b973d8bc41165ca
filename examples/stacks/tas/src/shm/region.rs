//! One memory file, mapped by both sides.
//!
//! In: a length; out: atomic words and copies in and out, at offsets that this side has computed. The file's size is
//! sealed, so that the other side cannot cut it short under us; what is in it may change at any time.
#![allow(unsafe_code)]

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// A memory file's bytes.
#[derive(Debug)]
pub struct Region {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory belongs to the process, not to a thread; it is reached through atomic words and through copies,
// for whose ranges the protocol names one writer at a time.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// A new file of `len` bytes, zeros, its size sealed; and the descriptor to hand to the other side.
    pub fn create(len: usize) -> io::Result<(Region, OwnedFd)> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("tas-context", flags)?;
        ftruncate(&file, len as u64)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let region = Region::map(&file, len)?;
        Ok((region, file))
    }

    /// The file of a descriptor that came from the other side: refused unless it is `len` bytes long for good.
    pub fn open(file: &OwnedFd, len: usize) -> io::Result<Region> {
        let sealed = fcntl_get_seals(file)?.contains(SealFlags::SHRINK | SealFlags::SEAL);
        if !sealed || fstat(file)?.st_size as u64 != len as u64 {
            return Err(io::Error::other("the memory's size is not what was agreed"));
        }
        Region::map(file, len)
    }

    fn map(file: impl AsFd, len: usize) -> io::Result<Region> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe { mmap(std::ptr::null_mut(), len, prot, MapFlags::SHARED, file, 0)? };
        match NonNull::new(start.cast()) {
            Some(start) => Ok(Region { start, len }),
            None => Err(io::ErrorKind::OutOfMemory.into()),
        }
    }

    /// The word at an offset that this side has computed.
    ///
    /// # Panics
    /// Where the offset is not inside: that is a mistake of this crate, never of the other side.
    #[inline(always)]
    pub fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset < self.len && self.len - offset >= 8);
        // SAFETY: in bounds and aligned by the line above (a mapping starts at a page); any bits are a word, and the
        // mapping lives as long as the borrow.
        unsafe { self.start.add(offset).cast::<AtomicU64>().as_ref() }
    }

    /// Copies bytes in. Not inlined, so that no compiler merges it with what is done to the bytes around it: the other
    /// side may write at the same time, which spoils the bytes and nothing else.
    ///
    /// # Panics
    /// Where the range is not inside.
    #[inline(never)]
    pub fn copy_in(&self, offset: usize, bytes: &[u8]) {
        assert!(offset <= self.len && bytes.len() <= self.len - offset);
        // SAFETY: in bounds by the line above; a private slice does not overlap the mapping.
        unsafe {
            let to = self.start.add(offset).as_ptr();
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
    }

    /// Copies bytes out; whoever looks at them looks at the copy.
    ///
    /// # Panics
    /// Where the range is not inside.
    #[inline(never)]
    pub fn copy_out(&self, offset: usize, out: &mut [u8]) {
        assert!(offset <= self.len && out.len() <= self.len - offset);
        // SAFETY: in bounds by the line above; a private slice does not overlap the mapping.
        unsafe {
            let from = self.start.add(offset).as_ptr();
            std::ptr::copy_nonoverlapping(from, out.as_mut_ptr(), out.len());
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing of it is borrowed any more. It cannot fail.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    /// Both mappings show the same bytes, and the file can be neither cut nor grown.
    #[test]
    fn two_sides_see_the_same_and_the_size_stays() {
        let (ours, file) = Region::create(8192).unwrap();
        let theirs = Region::open(&file, 8192).unwrap();
        ours.copy_in(4000, b"payload");
        let mut out = [0; 7];
        theirs.copy_out(4000, &mut out);
        assert_eq!(&out, b"payload");
        theirs.word(16).store(7, Ordering::Relaxed);
        assert_eq!(ours.word(16).load(Ordering::Relaxed), 7);
        for len in [0, 16384] {
            assert!(ftruncate(&file, len).is_err());
        }
    }

    /// A file of another size, or one that can still be cut, is refused.
    #[test]
    fn other_files_are_refused() {
        let (_region, file) = Region::create(8192).unwrap();
        assert!(Region::open(&file, 4096).is_err());
        let loose = rustix::fs::memfd_create("loose", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&loose, 8192).unwrap();
        assert!(Region::open(&loose, 8192).is_err());
    }
}
