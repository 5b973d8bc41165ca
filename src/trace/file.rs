//! Opens what must be a regular file, and passes over what is not in it: whoever may name a path may have put something
//! else there, or a file that is larger than any disk.
//!
//! In: a path; out: an open file, or why not. Opening never waits, as it would at a FIFO without a writer, and has no
//! effect, as it may have at a device.

use rustix::fs::{CWD, Mode, OFlags, SeekFrom, openat, seek};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Opens a regular file for reading.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(openat(CWD, path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(file)
}

/// The text of a regular file of at most so many MiB: what people write is shorter.
pub fn text_up_to(path: &Path, mib: u64) -> io::Result<String> {
    let mut text = String::new();
    let most = mib << 20;
    let read = open_regular(path)?
        .take(most + 1)
        .read_to_string(&mut text)?;
    match read as u64 > most {
        true => Err(io::Error::other(format!("it is longer than {mib} MiB"))),
        false => Ok(text),
    }
}

/// The first position from `at` on that lies in no hole of a sparse file, where all is zero; `None` if a hole reaches to
/// the file's end. On a file system that knows no holes there are none.
pub fn data_from(file: &File, at: u64) -> Option<u64> {
    match seek(file, SeekFrom::Data(at)) {
        Ok(found) => Some(found),
        Err(Errno::NXIO) => None,
        Err(_) => Some(at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text may be as long as it says and no longer; what is no file is refused however short.
    #[test]
    fn no_longer_than_that() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        assert_eq!(text_up_to(file.path(), 1).unwrap().len(), 1 << 20);
        file.as_file().set_len((1 << 20) + 1).unwrap();
        let long = text_up_to(file.path(), 1).unwrap_err().to_string();
        assert_eq!(long, "it is longer than 1 MiB");
        assert!(text_up_to(Path::new("/dev/null"), 1).is_err());
    }
}
