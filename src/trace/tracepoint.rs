//! What a tracepoint records: the `format` file of the kernel, and values out of its bytes.
//!
//! In: the file's text, raw bytes of a sample; out: a [`Format`] and text for each field. Both come from elsewhere:
//! nothing is believed of them. It refuses to know perf.

use std::fmt::Write as _;

/// The fields of a tracepoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Format {
    /// Its number.
    pub id: u64,
    /// Its fields, those that all tracepoints share left out.
    pub fields: Vec<Field>,
}

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type in C, as the file says it.
    pub ty: String,
    /// First byte.
    pub offset: usize,
    /// Bytes.
    pub size: usize,
    /// Whether a number may be negative.
    pub signed: bool,
    /// How it is laid out.
    pub kind: Kind,
}

/// How a field is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number.
    Number,
    /// A pointer, or a number that is best read in hexadecimal.
    Address,
    /// Characters in place.
    Text,
    /// Several numbers in place, each of so many bytes.
    Numbers(usize),
    /// Where the data lies: offset and length in one number, from the record's beginning.
    Elsewhere {
        /// Whether it is text.
        text: bool,
        /// Whether the offset counts from the field's end.
        relative: bool,
        /// Bytes of an element.
        element: usize,
    },
}

/// Values of one array that are shown.
const MOST_VALUES: usize = 64;

impl Format {
    /// Reads a `format` file; `None` if it is none.
    pub fn parse(text: &str) -> Option<Format> {
        let mut format = Format::default();
        let mut has_id = false;
        for line in text.lines() {
            let line = line.trim();
            if let Some(id) = line.strip_prefix("ID:") {
                format.id = id.trim().parse().ok()?;
                has_id = true;
            } else if let Some(field) = line.strip_prefix("field:") {
                let field = Field::parse(field)?;
                if !field.name.starts_with("common_") {
                    format.fields.push(field);
                }
            } else if line.starts_with("print fmt:") {
                break;
            }
        }
        has_id.then_some(format)
    }

    /// `name=value` of every field, as far as the bytes reach.
    pub fn show(&self, raw: &[u8]) -> String {
        let mut text = String::new();
        for field in &self.fields {
            let space = if text.is_empty() { "" } else { " " };
            let value = field.value(raw).unwrap_or_else(|| "?".to_owned());
            // Writing to a string cannot fail.
            let _ = write!(text, "{space}{}={value}", field.name);
        }
        text
    }
}

impl Field {
    fn parse(line: &str) -> Option<Field> {
        let mut parts = line.split(';').map(str::trim);
        let declared = parts.next()?;
        let mut number = |key: &str| {
            let (found, value) = parts.next()?.split_once(':')?;
            (found == key).then(|| value.trim().parse::<usize>().ok())?
        };
        let (offset, size) = (number("offset")?, number("size")?);
        let signed = number("signed").unwrap_or(0) == 1;
        let (declared, array) = match declared.split_once('[') {
            // `__data_loc char[] name` names the field behind the brackets.
            Some((before, after)) => match after.split_once(']')?.1.trim() {
                "" => (before.to_owned(), true),
                name => (format!("{before} {name}"), true),
            },
            None => (declared.to_owned(), false),
        };
        let (ty, name) = declared.rsplit_once([' ', '*'])?;
        let pointer = declared[ty.len()..].starts_with('*') || ty.contains('*');
        let ty = ty.trim().to_owned();
        let base = ty
            .trim_start_matches("__data_loc ")
            .trim_start_matches("__rel_loc ");
        let text = array && base.trim_start_matches("const ").ends_with("char");
        let element = element_size(base);
        let kind = if ty.starts_with("__data_loc ") || ty.starts_with("__rel_loc ") {
            Kind::Elsewhere {
                text,
                relative: ty.starts_with("__rel_loc "),
                element,
            }
        } else if array && text {
            Kind::Text
        } else if array {
            Kind::Numbers(element)
        } else if pointer {
            Kind::Address
        } else {
            Kind::Number
        };
        Some(Field {
            name: name.trim().to_owned(),
            ty: if pointer && !ty.ends_with('*') {
                format!("{ty} *")
            } else {
                ty
            },
            offset,
            size,
            signed,
            kind,
        })
    }

    /// The field's value as text; `None` if the bytes end before it.
    pub fn value(&self, raw: &[u8]) -> Option<String> {
        let end = self.offset.checked_add(self.size)?;
        let own = raw.get(self.offset..end)?;
        Some(match self.kind {
            Kind::Number => number(own, self.signed)?,
            Kind::Address => format!("{:#x}", unsigned(own)?),
            Kind::Text => text(own),
            Kind::Numbers(element) => numbers(own, element, self.signed),
            Kind::Elsewhere {
                text: is_text,
                relative,
                element,
            } => {
                let place = unsigned(own)?;
                let from = (place & 0xffff) as usize + if relative { end } else { 0 };
                let bytes = raw.get(from..from.checked_add((place >> 16 & 0xffff) as usize)?)?;
                if is_text {
                    text(bytes)
                } else {
                    numbers(bytes, element, self.signed)
                }
            }
        })
    }
}

/// Bytes of one element, by its type's name.
fn element_size(ty: &str) -> usize {
    match ty
        .trim_start_matches("const ")
        .trim_start_matches("unsigned ")
    {
        "char" | "u8" | "__u8" | "s8" | "bool" => 1,
        "short" | "u16" | "__u16" | "s16" | "__be16" => 2,
        "long" | "u64" | "__u64" | "s64" | "long long" => 8,
        _ => 4,
    }
}

fn unsigned(bytes: &[u8]) -> Option<u64> {
    let mut word = [0; 8];
    word.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(u64::from_le_bytes(word))
}

fn number(bytes: &[u8], signed: bool) -> Option<String> {
    let value = unsigned(bytes)?;
    let unused = 64 - 8 * bytes.len() as u32;
    if signed && unused < 64 {
        return Some((((value << unused) as i64) >> unused).to_string());
    }
    Some(value.to_string())
}

fn numbers(bytes: &[u8], element: usize, signed: bool) -> String {
    let parts = bytes.chunks_exact(element.max(1)).take(MOST_VALUES);
    let shown: Vec<_> = parts.filter_map(|part| number(part, signed)).collect();
    format!("{{{}}}", shown.join(","))
}

/// Text up to its end, in quotes if it has spaces.
fn text(bytes: &[u8]) -> String {
    let len = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(&bytes[..len]);
    let plain = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    if plain {
        text.into_owned()
    } else {
        format!("{text:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RECEIVE: &str = "name: netif_receive_skb\nID: 2303\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
        \tfield:void * skbaddr;\toffset:8;\tsize:8;\tsigned:0;\n\
        \tfield:unsigned int len;\toffset:16;\tsize:4;\tsigned:0;\n\
        \tfield:__data_loc char[] name;\toffset:20;\tsize:4;\tsigned:0;\n\
        \tfield:char comm[8];\toffset:24;\tsize:8;\tsigned:0;\n\
        \tfield:__u8 saddr[4];\toffset:32;\tsize:4;\tsigned:0;\n\
        \tfield:long state;\toffset:36;\tsize:8;\tsigned:1;\n\n\
        print fmt: \"field:no field\", REC->len\n";

    /// Every kind of field of a file as kernels write it.
    #[test]
    fn fields() {
        let format = Format::parse(RECEIVE).unwrap();
        assert_eq!(format.id, 2303);
        let mut raw = vec![0; 44];
        raw[8..16].copy_from_slice(&0xffff_8880_0000_1000u64.to_le_bytes());
        raw[16..20].copy_from_slice(&1500u32.to_le_bytes());
        raw[20..24].copy_from_slice(&(44u32 | 5 << 16).to_le_bytes());
        raw[24..28].copy_from_slice(b"ht d");
        raw[32..36].copy_from_slice(&[10, 0, 0, 1]);
        raw[36..44].copy_from_slice(&(-2i64).to_le_bytes());
        raw.extend_from_slice(b"eth0\0");
        assert_eq!(
            format.show(&raw),
            "skbaddr=0xffff888000001000 len=1500 name=eth0 comm=\"ht d\" saddr={10,0,0,1} state=-2"
        );
        let cut = format.show(&raw[..20]);
        assert_eq!(
            cut,
            "skbaddr=0xffff888000001000 len=1500 name=? comm=? saddr=? state=?"
        );
        assert_eq!(Format::parse("format:\n"), None);
        assert_eq!(Format::parse("ID: x\n"), None);
    }

    proptest! {
        /// Any text and any bytes: no panic, and no more text than the bytes account for.
        #[test]
        fn anything(lines in proptest::collection::vec("field:(__data_loc |__rel_loc )?[a-z *]{0,9}(\\[[0-9]?\\])? ?[a-z]{0,3};\toffset:[0-9]{1,4};\tsize:[0-9]{1,3};\tsigned:[01];", 0..6),
            raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            let text = format!("ID: 1\n{}", lines.join("\n"));
            if let Some(format) = Format::parse(&text) {
                let shown = format.show(&raw);
                prop_assert!(shown.len() <= (200 * 24 + 100) * (lines.len() + 1));
            }
        }
    }
}
