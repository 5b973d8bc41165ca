//! What becomes of a recording that could not be written on: it is cut back to what is whole, and goes on behind that.
//!
//! In: the file as a failed write left it; out: the same without what is not whole, what is in it, and where its next
//! bytes go. It refuses to know why writing failed.

use super::reader::{ReadError, Reader};
use super::summary::Summary;
use super::walk::{Found, Head, Walk};
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

/// Where a recording's bytes go.
pub struct Sink {
    file: File,
    /// Bytes that are there already and that the container is about to write once more: a file has one beginning.
    there: usize,
}

impl Sink {
    /// From the beginning of an empty file on.
    pub fn new(file: File) -> Sink {
        Sink { file, there: 0 }
    }

    /// From where the file stands on, of which the first `there` bytes are written to no one.
    pub fn behind(file: File, there: usize) -> Sink {
        Sink { file, there }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let passed = self.there.min(bytes.len());
        self.there -= passed;
        match passed {
            0 => self.file.write(bytes),
            passed => Ok(passed),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Sink {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Cuts the file behind its last whole chunk, and tells what is in it now. The file stands at its end.
pub fn cut(file: &mut File) -> Result<Summary, ReadError> {
    // The very file that is open, whatever has its name by now.
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let io = |source| ReadError::Io {
        path: path.clone(),
        source,
    };
    let reading = File::open(&path).map_err(io)?;
    let size = reading.metadata().map_err(io)?.len();
    let mut whole = 0;
    let take = |found: Found<'_>| {
        if let Found::Chunk {
            at,
            len,
            damages: 0,
            ..
        } = found
        {
            whole = at + len;
        }
        Ok(())
    };
    // What it stops at is behind what is whole.
    let _ = Walk::new(&reading, size).run(Head::Needed, |_| {}, take);
    if whole == 0 {
        let why = "it has no whole chunk".to_owned();
        return Err(ReadError::NotRecording { path, why });
    }
    file.set_len(whole).map_err(io)?;
    file.seek(SeekFrom::End(0)).map_err(io)?;
    Reader::open(&path).map(|reader| reader.meta().clone())
}
