//! The container's own bytes (MCAP, <https://mcap.dev/spec>): frames, chunks and fields, from untrusted bytes.
//!
//! In: bytes of a file; out: records and payloads, and a chunk's plain bytes once size and checksum fit. No length in the
//! bytes decides how much is allocated, beyond [`MAX_CHUNK_BYTES`]. It refuses to know what payloads mean.

use super::format::MAX_CHUNK_BYTES;

/// First record of a file.
pub const OP_HEADER: u8 = 0x01;
/// A channel's number and topic.
pub const OP_CHANNEL: u8 = 0x04;
/// What a channel's payloads are called.
pub const OP_SCHEMA: u8 = 0x03;
/// A payload of a channel.
pub const OP_MESSAGE: u8 = 0x05;
/// Messages, compressed together.
pub const OP_CHUNK: u8 = 0x06;
/// Where the messages of one channel lie in the chunk before.
pub const OP_MESSAGE_INDEX: u8 = 0x07;
/// A file inside the file; we write none.
pub const OP_ATTACHMENT: u8 = 0x09;
/// Pairs of words; we write none.
pub const OP_METADATA: u8 = 0x0c;
/// Nothing but an index follows.
pub const OP_DATA_END: u8 = 0x0f;
/// How a file begins.
pub const MAGIC: &[u8] = b"\x89MCAP0\r\n";
/// Opcode and length in front of every record.
pub const FRAME: u64 = 9;
/// What stands in a chunk before its compressed records, when they are compressed with zstd.
pub const CHUNK_HEADER: u64 = 8 + 8 + 8 + 4 + 8 + 8;

/// What a chunk could not be used for.
pub type Bad = String;

/// Takes chunks apart one after the other, in memory that is kept between them.
#[derive(Default)]
pub struct Unpacker {
    zstd: zstd::bulk::Decompressor<'static>,
    body: Vec<u8>,
    plain: Vec<u8>,
}

impl Unpacker {
    /// Room for the body of the next chunk.
    pub fn body(&mut self, len: usize) -> &mut [u8] {
        self.body.resize(len, 0);
        &mut self.body
    }

    /// The body of the last chunk as it lies in the file.
    pub fn packed(&self) -> &[u8] {
        &self.body
    }

    /// The plain records of the last chunk.
    pub fn plain(&self) -> &[u8] {
        &self.plain
    }

    /// Decompresses the chunk in [`Unpacker::body`] and checks it against its CRC. A chunk that fails has no records.
    pub fn unpack(&mut self) -> Result<(), Bad> {
        let unpacked = unpack(&mut self.zstd, &self.body, &mut self.plain);
        if unpacked.is_err() {
            self.plain.clear();
        }
        unpacked
    }
}

fn unpack(
    zstd: &mut zstd::bulk::Decompressor<'_>,
    body: &[u8],
    plain: &mut Vec<u8>,
) -> Result<(), Bad> {
    let mut fields = Fields(body);
    let header = (|| {
        fields.u64()?;
        fields.u64()?;
        let size = fields.u64()?;
        let crc = fields.u32()?;
        let compression = fields.text()?;
        let len = usize::try_from(fields.u64()?).ok()?;
        Some((size, crc, compression, fields.take(len)?))
    })();
    let (size, crc, compression, data) = header.ok_or("a chunk's header is damaged")?;
    if !fields.0.is_empty() {
        return Err("a chunk is shorter than its record".to_string());
    }
    if size > MAX_CHUNK_BYTES {
        return Err("a chunk says it holds more than any we write".to_string());
    }
    match compression {
        "" => {
            plain.clear();
            plain.extend_from_slice(data);
        }
        "zstd" => {
            // As much as the header says and no more, however much the buffer held before: only growth costs anything.
            plain.resize(size as usize, 0);
            let written = zstd
                .decompress_to_buffer(data, &mut plain[..])
                .map_err(|e| format!("a chunk cannot be decompressed: {e}"))?;
            plain.truncate(written);
        }
        other => {
            return Err(format!(
                "a chunk is compressed with {other:?}, not with zstd"
            ));
        }
    }
    if plain.len() as u64 != size {
        return Err("a chunk has another size than it says".to_string());
    }
    if crc != 0 && crc32fast::hash(plain) != crc {
        return Err("a chunk's checksum is wrong".to_string());
    }
    Ok(())
}

/// Little-endian fields of a container record.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
    /// 16 bits.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }
    /// 32 bits.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
    /// A length and so many bytes of UTF-8.
    pub fn text(&mut self) -> Option<&'a str> {
        let len = self.u32()?;
        std::str::from_utf8(self.take(len as usize)?).ok()
    }
}

/// The record at `at`, which moves behind it.
pub fn next_record<'a>(plain: &'a [u8], at: &mut usize) -> Option<Result<(u8, &'a [u8]), Bad>> {
    let mut fields = Fields(plain.get(*at..)?);
    if fields.0.is_empty() {
        return None;
    }
    let record = (|| {
        let [op] = fields.array()?;
        let len = usize::try_from(fields.u64()?).ok()?;
        Some((op, fields.take(len)?))
    })();
    *at = plain.len() - fields.0.len();
    if record.is_none() {
        *at = plain.len();
    }
    Some(record.ok_or_else(|| "a chunk ends inside a record".to_string()))
}

/// Records of a chunk's plain bytes.
pub struct Records<'a>(pub &'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Result<(u8, &'a [u8]), Bad>;
    fn next(&mut self) -> Option<Self::Item> {
        let mut at = 0;
        let record = next_record(self.0, &mut at);
        self.0 = &self.0[at..];
        record
    }
}

/// One message: its channel, when it was written, what it says.
pub struct Message<'a> {
    /// Number of the channel.
    pub channel: u16,
    /// Log time.
    pub time: u64,
    /// Payload.
    pub data: &'a [u8],
}

/// Takes a message record apart.
pub fn message(body: &[u8]) -> Result<Message<'_>, Bad> {
    let mut fields = Fields(body);
    let header = (|| {
        let channel = fields.u16()?;
        fields.u32()?;
        let time = fields.u64()?;
        fields.u64()?;
        Some((channel, time))
    })();
    let (channel, time) = header.ok_or("a message is cut short")?;
    let data = fields.0;
    Ok(Message {
        channel,
        time,
        data,
    })
}

/// Whether a message index has the length that it says.
pub fn is_message_index(head: &[u8], len: u64) -> bool {
    let mut fields = Fields(head);
    let entries = fields.u16().and_then(|_| fields.u32());
    entries.is_some_and(|bytes| u64::from(bytes) + 6 == len && bytes % 16 == 0)
}
