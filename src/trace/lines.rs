//! Lines of a text that may be anything: none takes more memory than the tools that print such texts could need.
//!
//! In: bytes; out: a line at a time, with its number, and what is no UTF-8 replaced. It refuses to know what a line says.

use std::borrow::Cow;
use std::io::{self, BufRead};

/// Bytes of one line, its end included.
const LONGEST: u64 = 1 << 20;

/// A text on its way.
pub struct Lines<R> {
    text: R,
    line: Vec<u8>,
    at: u64,
}

/// Why there is no next line.
#[derive(Debug)]
pub enum LineError {
    /// The system could not read on.
    Read(io::Error),
    /// The line has no end where each has one.
    Long,
}

impl LineError {
    /// What is wrong with a line that has no end.
    pub const LONG: &str = "a line of a mebibyte: no tool prints one so long";
}

impl<R: BufRead> Lines<R> {
    /// From the text's beginning.
    pub fn of(text: R) -> Lines<R> {
        Lines {
            text,
            line: Vec::new(),
            at: 0,
        }
    }

    /// The next line with its end, or `None` behind the last.
    pub fn line(&mut self) -> Result<Option<Cow<'_, str>>, LineError> {
        self.at += 1;
        self.line.clear();
        let mut limited = io::Read::take(&mut self.text, LONGEST);
        let read = limited.read_until(b'\n', &mut self.line);
        match read.map_err(LineError::Read)? as u64 {
            0 => Ok(None),
            LONGEST => Err(LineError::Long),
            _ => Ok(Some(String::from_utf8_lossy(&self.line))),
        }
    }

    /// The number of the line that was asked for last, from 1.
    pub fn number(&self) -> u64 {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines come with their numbers, the last one with or without an end; one without an end is refused, however much
    /// would follow.
    #[test]
    fn one_by_one() {
        let mut lines = Lines::of(&b"a\n\xff\n\nb"[..]);
        for (number, line) in [(1, "a\n"), (2, "\u{fffd}\n"), (3, "\n"), (4, "b")] {
            assert_eq!(lines.line().unwrap().as_deref(), Some(line));
            assert_eq!(lines.number(), number);
        }
        assert!(lines.line().unwrap().is_none());
        let mut endless = Lines::of(io::BufReader::new(io::repeat(0)));
        assert!(matches!(endless.line(), Err(LineError::Long)));
    }
}
