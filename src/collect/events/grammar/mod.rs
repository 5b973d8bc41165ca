//! Events as users write them, in perf's notation.
//!
//! In: text such as `cycles:u`, `{cycles,instructions}:u`, `cpu/event=0x3c,umask=0x0/`, `r1a8`, `net:netif_receive_skb`,
//! `mem:0x1000/8:w` or `./httpd:handle%return`; out: [`Group`]s of [`Spec`]s that print as what was read. It refuses to
//! know what this machine has.

mod cursor;
mod print;
#[cfg(test)]
mod tests;

use super::modifiers::Modifiers;
use cursor::Cursor;

/// Events that are counted together, or one event by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The name before the brace; empty without one.
    pub name: String,
    /// Whether it was written with braces.
    pub braced: bool,
    /// Its events, the leader first.
    pub events: Vec<Spec>,
    /// What was written behind the brace, for all of them.
    pub modifiers: Modifiers,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// What is counted.
    pub what: What,
    /// What was written behind it.
    pub modifiers: Modifiers,
}

/// What is counted, by the way it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// `cycles`, `LLC-load-misses`, `page-faults`, a name under a PMU's `events/`.
    Name(String),
    /// `cpu/event=0x3c,umask=0x0/`: a PMU, or one of the names above, with options between slashes.
    Options(String, Vec<Term>),
    /// `r1a8`: an event of the CPU by its number.
    Raw(u64),
    /// `4:0x3c`: type and configuration as the kernel takes them.
    Number(u32, u64),
    /// `mem:ADDRESS/LENGTH:rwx`.
    Memory(Memory),
    /// `net:netif_receive_skb`; `*` and `?` stand for many.
    Tracepoint(String, String),
    /// `PATH:SYMBOL+OFFSET%return`.
    Uprobe(Uprobe),
}

/// Accesses to a place in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Where.
    pub address: u64,
    /// Bytes; `None` as wide as the kind of access asks for.
    pub len: Option<u64>,
    /// Reads.
    pub read: bool,
    /// Writes.
    pub write: bool,
    /// Instructions executed there.
    pub execute: bool,
}

/// A place in a program's code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uprobe {
    /// The program or library.
    pub path: String,
    /// The function.
    pub symbol: String,
    /// Bytes behind its beginning.
    pub offset: u64,
    /// When it returns, not when it begins.
    pub ret: bool,
}

/// One option between slashes: `event=0x3c`, `edge`, `name=mine`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// What is set.
    pub key: String,
    /// To what; without a value a bit is set, or the key is the name of an event.
    pub value: Option<Value>,
}

/// What an option is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number, decimal or hexadecimal.
    Number(u64),
    /// Anything else.
    Text(String),
}

/// Text that is no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no event: {what}, at character {at}")]
pub struct SyntaxError {
    /// All that was read.
    pub text: String,
    /// Where, from 1.
    pub at: usize,
    /// What is wrong.
    pub what: String,
}

/// Reads a comma-separated list of events and groups.
pub fn parse(text: &str) -> Result<Vec<Group>, SyntaxError> {
    let mut cursor = Cursor::new(text);
    let mut groups = vec![cursor.group()?];
    while !cursor.rest().is_empty() {
        cursor.expect(',', "a comma or the end")?;
        groups.push(cursor.group()?);
    }
    Ok(groups)
}

/// Reads the options of a PMU's event, as they lie in its file under `events/`.
pub fn parse_terms(text: &str) -> Result<Vec<Term>, SyntaxError> {
    let mut cursor = Cursor::new(text);
    let terms = cursor.terms("")?;
    match cursor.rest() {
        "" => Ok(terms),
        _ => Err(cursor.wrong("an option or a comma is expected")),
    }
}

/// The number of `r1a8`.
pub fn raw(name: &str) -> Option<u64> {
    let digits = name.strip_prefix('r')?;
    let hex = (1..=16).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    hex.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}
