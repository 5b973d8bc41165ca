//! One page with everything there is to say of a recording, or of several: HTML that needs nothing but itself.
//!
//! In: answers of `analyse`; out: bytes. The page is files of this folder put together: `page.html` with the style and the
//! scripts in their places, and the answers as compressed JSON. Its size does not grow with the recording's length:
//! `flame` says how samples are added up. It refuses to compute what a command could not print.

mod data;
mod flame;
mod names;
mod place;
mod ranking;

pub use data::Part;
pub use flame::WINDOW;

use crate::analyse::compare::Side;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{self, Write};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPTS: [&str; 5] = [
    include_str!("base.js"),
    include_str!("flame.js"),
    include_str!("ranking.js"),
    include_str!("parts.js"),
    include_str!("app.js"),
];

/// The page, the first recording in front; of several there are `sides` too, in the same order: what ranks them.
pub fn page(parts: &[Part], sides: &[Side]) -> io::Result<Vec<u8>> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    serde_json::to_writer(&mut packed, &data::document(parts, sides))?;
    let packed = packed.finish()?;
    let title = parts
        .first()
        .map_or_else(String::new, |p| escaped(&p.headline()));
    // The scripts are strict each for itself; one beginning says it for all.
    let script = SCRIPTS.join("\n").replace("\"use strict\";\n", "");
    let mut out = Vec::with_capacity(packed.len() * 2);
    let mut rest = PAGE;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        out.write_all(before.as_bytes())?;
        match name {
            "title" => out.write_all(title.as_bytes())?,
            "style" => out.write_all(STYLE.as_bytes())?,
            "script" => write!(out, "\"use strict\";\n{script}")?,
            _ => base64(&packed, &mut out),
        }
        rest = after;
    }
    out.write_all(rest.as_bytes())?;
    Ok(out)
}

fn escaped(text: &str) -> String {
    super::style::printable(text)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let there = digit <= three.len();
            let value = bits >> (18 - 6 * digit) & 63;
            out.push(if there { DIGITS[value as usize] } else { b'=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 4648.
    #[test]
    fn base64_examples() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            let mut out = Vec::new();
            base64(plain.as_bytes(), &mut out);
            assert_eq!(out, coded.as_bytes(), "{plain}");
        }
    }

    /// A name from outside cannot end the page's own elements, and nothing on the page is fetched.
    #[test]
    fn safe() {
        let page = String::from_utf8(page(&[], &[]).unwrap()).unwrap();
        assert!(!page.contains("{{"));
        assert!(!page.contains("https://") && !page.contains("@import") && !page.contains("src="));
        assert_eq!(escaped("</title><b>&"), "&lt;/title>&lt;b>&amp;");
    }
}
