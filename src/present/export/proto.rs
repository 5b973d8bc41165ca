//! Protocol buffers written message by message: a file of any length without holding it.
//!
//! In: a field's number and a message; out: bytes. Messages may be given in any order, and repeated fields in parts, so
//! a file is the sum of its fields. It refuses to know what they mean.

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use std::io::{self, Write};

/// Writes fields of a message that is not held.
pub struct Fields<W> {
    out: W,
    buffer: Vec<u8>,
}

impl<W: Write> Fields<W> {
    /// Fields for this file.
    pub fn new(out: W) -> Fields<W> {
        Fields {
            out,
            buffer: Vec::new(),
        }
    }

    /// A field that is a message.
    pub fn message(&mut self, field: u32, message: &impl Message) -> io::Result<()> {
        self.buffer.clear();
        encode_key(field, WireType::LengthDelimited, &mut self.buffer);
        encode_varint(message.encoded_len() as u64, &mut self.buffer);
        // A vector has room for whatever comes.
        message.encode_raw(&mut self.buffer);
        self.out.write_all(&self.buffer)
    }

    /// A field that is text.
    pub fn text(&mut self, field: u32, text: &str) -> io::Result<()> {
        self.buffer.clear();
        encode_key(field, WireType::LengthDelimited, &mut self.buffer);
        encode_varint(text.len() as u64, &mut self.buffer);
        self.buffer.extend_from_slice(text.as_bytes());
        self.out.write_all(&self.buffer)
    }

    /// A field that is a number.
    pub fn number(&mut self, field: u32, number: u64) -> io::Result<()> {
        self.buffer.clear();
        encode_key(field, WireType::Varint, &mut self.buffer);
        encode_varint(number, &mut self.buffer);
        self.out.write_all(&self.buffer)
    }

    /// Gives the file back.
    pub fn into_inner(self) -> W {
        self.out
    }
}
