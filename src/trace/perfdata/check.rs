//! Whether a perf.data file's lengths can be true, before anyone believes them.
//!
//! In: bytes from a stranger; out: nothing, or why the file is refused. Crate `linux-perf-data` makes room for what
//! lengths in the file say, so that every length is held against the file's own size first. What has no length that can be
//! checked so, hardware traces and compressed records, is refused by name. It refuses to know what is in records.

use std::io::{self, Read, Seek, SeekFrom};

/// Why a file is refused.
pub type Refusal = String;

const HEADER: u64 = 104;
/// A `perf_event_attr` is so long: 64 bytes in the first version.
const ATTRIBUTE: std::ops::RangeInclusive<u64> = 64..=4096;
/// Where in it the length lies that it says it has, and lengths that there are: of one between two the crate reads less
/// than it says, and takes what comes behind for what it is not. It knows all of those above by their length alone.
const OWN_LENGTH: u64 = 4;
const LENGTHS: [u64; 7] = [64, 72, 80, 96, 104, 112, 120];
const LONGEST_KNOWN: u64 = 128;
/// Where in it its `read_format` lies.
const READ_FORMAT: u64 = 32;
/// Features whose lengths are looked at: one text each, the command line, the events.
const TEXTS: [u32; 5] = [3, 4, 5, 6, 8];
const COMMAND_LINE: u32 = 11;
const EVENTS: u32 = 12;
/// Features from here on are Android's.
const ANDROID: u32 = 128;
/// Longest section that is read into memory.
const LONGEST: u64 = 256 << 20;

/// A mapping whose build id has a length of its own, where that lies in the record, and the longest it can be.
const MMAP2: u32 = 10;
const WITH_BUILD_ID: u64 = 1 << 14;
const BUILD_ID_LENGTH: u64 = 40;
const BUILD_ID: u64 = 20;
/// Records with a length of their own inside.
const AUXTRACE: u32 = 71;
const COMPRESSED: [u32; 2] = [81, 83];

const DAMAGED: &str = "a length in it is larger than the file";

/// A part of the file.
#[derive(Clone, Copy)]
struct Section {
    offset: u64,
    size: u64,
}

impl Section {
    fn end(self) -> Result<u64, Refusal> {
        self.offset
            .checked_add(self.size)
            .ok_or_else(|| DAMAGED.to_owned())
    }
}

/// Looks at all lengths of a file; leaves it at its beginning. Gives how samples of each event have counters in them
/// (`read_format`), which the crate knows only in part.
pub fn check(file: &mut (impl Read + Seek)) -> Result<Vec<u64>, Refusal> {
    let length = file.seek(SeekFrom::End(0)).map_err(text)?;
    file.seek(SeekFrom::Start(0)).map_err(text)?;
    let mut at = Cursor {
        file,
        length,
        place: 0,
    };
    if at.word()? != u64::from_le_bytes(*super::MAGIC) {
        return Err("it does not begin like one of a little-endian machine".to_owned());
    }
    match at.word()? {
        16 => {
            return Err(
                "perf wrote it to a pipe: `perf record -o FILE` writes one that can be read"
                    .to_owned(),
            );
        }
        HEADER => {}
        other => return Err(format!("its header has {other} bytes instead of {HEADER}")),
    }
    let attribute = at.word()?;
    let [attributes, data, types] = [at.section()?, at.section()?, at.section()?];
    let features = [at.word()?, at.word()?, at.word()?, at.word()?];
    if !ATTRIBUTE.contains(&attribute) {
        return Err(format!("an event's attributes have {attribute} bytes"));
    }
    if types.size > 0 {
        return Err("it is of a perf older than Linux 3.0".to_owned());
    }
    for section in [attributes, data] {
        if section.end()? > length {
            return Err(DAMAGED.to_owned());
        }
    }
    if data.size == 0 {
        return Err("perf was ended before it could finish it".to_owned());
    }
    let bits = (0..256u32).filter(|bit| features[*bit as usize / 64] >> (bit % 64) & 1 == 1);
    at.seek(data.end()?)?;
    let mut sections = Vec::new();
    for bit in bits {
        if bit >= ANDROID {
            return Err("it is Android's simpleperf's".to_owned());
        }
        sections.push((bit, at.section()?));
    }
    let mut all = 0;
    let mut formats = Vec::new();
    for &(bit, section) in &sections {
        all += section.size.min(LONGEST + 1);
        if section.end()? > length || all > length.min(LONGEST) {
            return Err(DAMAGED.to_owned());
        }
        at.seek(section.offset)?;
        if TEXTS.contains(&bit) {
            at.texts(1, section.end()?)?;
        } else if bit == COMMAND_LINE {
            let words = at.half()?;
            at.texts(words, section.end()?)?;
        } else if bit == EVENTS {
            formats = at.events(section)?;
        }
    }
    if formats.is_empty() {
        for event in 0..attributes.size / attribute {
            at.seek(attributes.offset + event * attribute + READ_FORMAT)?;
            formats.push(at.word()?);
        }
    }
    at.records(data)?;
    at.seek(0)?;
    Ok(formats)
}

struct Cursor<'f, F> {
    file: &'f mut F,
    length: u64,
    /// Where in the file it is.
    place: u64,
}

impl<F: Read + Seek> Cursor<'_, F> {
    fn seek(&mut self, to: u64) -> Result<(), Refusal> {
        if to > self.length {
            return Err(DAMAGED.to_owned());
        }
        // A way, not a place: what a buffer holds already is not read again, and records lie close together.
        let way = to.wrapping_sub(self.place).cast_signed();
        self.file.seek_relative(way).map_err(text)?;
        self.place = to;
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes).map_err(text)?;
        self.place += N as u64;
        Ok(bytes)
    }

    fn word(&mut self) -> Result<u64, Refusal> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn half(&mut self) -> Result<u64, Refusal> {
        Ok(u64::from(self.bytes().map(u32::from_le_bytes)?))
    }

    fn section(&mut self) -> Result<Section, Refusal> {
        Ok(Section {
            offset: self.word()?,
            size: self.word()?,
        })
    }

    /// So many texts with their lengths in front, up to `end`.
    fn texts(&mut self, count: u64, end: u64) -> Result<(), Refusal> {
        if count * 4 > end {
            return Err(DAMAGED.to_owned());
        }
        for _ in 0..count {
            let length = self.half()?;
            let to = self.place + length;
            if to > end {
                return Err(DAMAGED.to_owned());
            }
            self.seek(to)?;
        }
        Ok(())
    }

    fn events(&mut self, section: Section) -> Result<Vec<u64>, Refusal> {
        let (count, attribute) = (self.half()?, self.half()?);
        if !ATTRIBUTE.contains(&attribute) || count * attribute > section.size {
            return Err(DAMAGED.to_owned());
        }
        let mut formats = Vec::new();
        for _ in 0..count {
            let begin = self.place;
            self.seek(begin + OWN_LENGTH)?;
            let own = self.half()?;
            if own > attribute || !(LENGTHS.contains(&own) || own >= LONGEST_KNOWN) {
                return Err(format!(
                    "an event's attributes say that they have {own} bytes"
                ));
            }
            self.seek(begin + READ_FORMAT)?;
            formats.push(self.word()?);
            self.seek(begin + attribute)?;
            let numbers = self.half()?;
            self.texts(1, section.end()?)?;
            let to = self.place + numbers * 8;
            if to > section.end()? {
                return Err(DAMAGED.to_owned());
            }
            self.seek(to)?;
        }
        Ok(formats)
    }

    /// Every record is as long as its head, and none has a length inside.
    fn records(&mut self, data: Section) -> Result<(), Refusal> {
        let mut at = data.offset;
        while at < data.end()? {
            self.seek(at)?;
            let head = self.word()?;
            let (kind, size) = (head as u32, head >> 48);
            if kind == AUXTRACE {
                return Err("it holds a hardware trace (AUX), not samples alone".to_owned());
            }
            if COMPRESSED.contains(&kind) {
                return Err("it is compressed (`perf record -z`)".to_owned());
            }
            if size < 8 || at + size > data.end()? {
                return Err("a record in it has a length that cannot be".to_owned());
            }
            let build_id = kind == MMAP2 && head >> 32 & WITH_BUILD_ID != 0;
            if build_id && size > BUILD_ID_LENGTH {
                self.seek(at + BUILD_ID_LENGTH)?;
                if self.half()? & 0xff > BUILD_ID {
                    return Err("a build id in it is longer than any".to_owned());
                }
            }
            at += size;
        }
        Ok(())
    }
}

fn text(error: io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => DAMAGED.to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = include_bytes!("../../../fuzz/seeds/perfdata/shell");

    /// A file that counts how often it is read.
    struct Counted(io::Cursor<&'static [u8]>, usize);

    impl Read for Counted {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            self.1 += 1;
            self.0.read(bytes)
        }
    }

    impl Seek for Counted {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }

    /// What fits into a buffer is read once, not anew for each record.
    #[test]
    fn read_once() {
        let mut file = io::BufReader::new(Counted(io::Cursor::new(FILE), 0));
        check(&mut file).unwrap();
        assert_eq!(file.get_ref().1, 1);
    }

    /// Attributes that say that they are as long as those of no version are refused: what is read behind them would be a
    /// length of anything.
    #[test]
    fn attributes_of_no_version() {
        let mut file = FILE.to_vec();
        assert!(check(&mut io::Cursor::new(&file)).is_ok());
        let is_attribute = |bytes: &[u8]| bytes == [1, 0, 0, 0, 128, 0, 0, 0];
        let last = file.windows(8).rposition(is_attribute).unwrap();
        for (own, fits) in [(120, true), (127, false), (88, false), (136, false)] {
            file[last + 4] = own;
            let checked = check(&mut io::Cursor::new(&file));
            assert_eq!(checked.is_ok(), fits, "{own}: {checked:?}");
        }
    }
}
