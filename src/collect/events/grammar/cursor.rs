//! The text of events, read from left to right.
//!
//! In: text; out: what stands there, or what was expected and where. It refuses to look ahead further than it must.

use super::{Group, Memory, Spec, SyntaxError, Term, Uprobe, Value, What, raw};
use crate::collect::events::generic::generic;
use crate::collect::events::modifiers::Modifiers;

/// Text and how far it was read.
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-.*?[]!".contains(c)
}

impl<'a> Cursor<'a> {
    /// At the beginning.
    pub(super) fn new(text: &'a str) -> Cursor<'a> {
        Cursor { text, at: 0 }
    }

    /// What is left.
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// What is wrong here.
    pub(super) fn wrong(&self, what: impl Into<String>) -> SyntaxError {
        SyntaxError {
            text: self.text.to_owned(),
            at: self.text[..self.at].chars().count() + 1,
            what: what.into(),
        }
    }

    fn take(&mut self, c: char) -> bool {
        let found = self.rest().starts_with(c);
        self.at += if found { c.len_utf8() } else { 0 };
        found
    }

    /// Passes by a character that must be there.
    pub(super) fn expect(&mut self, c: char, what: &str) -> Result<(), SyntaxError> {
        if self.take(c) {
            Ok(())
        } else {
            Err(self.wrong(format!("{what} is expected")))
        }
    }

    fn take_while(&mut self, mut wanted: impl FnMut(char) -> bool) -> &'a str {
        let rest = self.rest();
        let len = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    /// An event or a group.
    pub(super) fn group(&mut self) -> Result<Group, SyntaxError> {
        let began = self.at;
        let name = self.take_while(is_name);
        if !self.take('{') {
            self.at = began;
            return Ok(Group {
                name: String::new(),
                braced: false,
                events: vec![self.event()?],
                modifiers: Modifiers::default(),
            });
        }
        let mut events = vec![self.event()?];
        while !self.take('}') {
            self.expect(',', "a comma or `}`")?;
            events.push(self.event()?);
        }
        let modifiers = self.modifiers_behind_colon()?;
        Ok(Group {
            name: name.to_owned(),
            braced: true,
            events,
            modifiers,
        })
    }

    fn modifiers(&mut self) -> Result<Modifiers, SyntaxError> {
        let began = self.at;
        let text = self.take_while(|c| c.is_ascii_alphanumeric());
        text.parse().map_err(|what: String| {
            self.at = began;
            self.wrong(what)
        })
    }

    /// A colon without modifiers is a mistake; no colon is none.
    fn modifiers_behind_colon(&mut self) -> Result<Modifiers, SyntaxError> {
        if !self.take(':') {
            return Ok(Modifiers::default());
        }
        if !self.rest().starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(self.wrong("modifiers are expected"));
        }
        self.modifiers()
    }

    fn event(&mut self) -> Result<Spec, SyntaxError> {
        let rest = self.rest();
        if ["/", "./", "../"].iter().any(|p| rest.starts_with(p)) {
            return self.uprobe();
        }
        if rest.starts_with("mem:") {
            self.at += "mem:".len();
            return self.memory();
        }
        let began = self.at;
        let name = self.take_while(is_name);
        if name.is_empty() {
            return Err(self.wrong("the name of an event is expected"));
        }
        if self.take('/') {
            let terms = self.terms("/")?;
            self.expect('/', "`/` at the end of the options")?;
            let modifiers = if self.rest().starts_with(':') {
                self.modifiers_behind_colon()?
            } else {
                self.modifiers()?
            };
            return Ok(Spec {
                what: What::Options(name.to_owned(), terms),
                modifiers,
            });
        }
        if !self.rest().starts_with(':') {
            let what = match raw(name) {
                Some(number) => What::Raw(number),
                None => What::Name(name.to_owned()),
            };
            let modifiers = Modifiers::default();
            return Ok(Spec { what, modifiers });
        }
        self.at += 1;
        let second_at = self.at;
        let second = self.take_while(is_name);
        let number = |text| number(text).map_err(|()| "that number has more than 64 bits");
        if let Some(ty) = number(name).map_err(|e| self.wrong(e))? {
            let ty = u32::try_from(ty).map_err(|_| self.wrong("a type has 32 bits"))?;
            let config = number(second).map_err(|e| self.wrong(e))?;
            let config = config.ok_or_else(|| self.wrong("a number is expected"))?;
            return self.modified(What::Number(ty, config));
        }
        if second.is_empty() {
            self.at = second_at;
            return Err(self.wrong("modifiers or the name of a tracepoint are expected"));
        }
        let of_one = generic(name).is_some() || raw(name).is_some();
        if of_one && second.parse::<Modifiers>().is_err() {
            self.at = second_at;
            self.modifiers()?;
        }
        if !self.rest().starts_with(':')
            && let Ok(modifiers) = second.parse::<Modifiers>()
        {
            let what = match raw(name) {
                Some(number) => What::Raw(number),
                None => What::Name(name.to_owned()),
            };
            return Ok(Spec { what, modifiers });
        }
        // What follows a name with a `+`, `%` or `::` is a function of a program in this directory.
        if self.rest().starts_with(['+', '%']) || self.rest().starts_with("::") {
            self.at = began;
            return self.uprobe();
        }
        self.modified(What::Tracepoint(name.to_owned(), second.to_owned()))
    }

    fn modified(&mut self, what: What) -> Result<Spec, SyntaxError> {
        let modifiers = self.modifiers_behind_colon()?;
        Ok(Spec { what, modifiers })
    }

    fn memory(&mut self) -> Result<Spec, SyntaxError> {
        let address = self.number()?;
        let len = if self.take('/') {
            Some(self.number()?)
        } else {
            None
        };
        let mut memory = Memory {
            address,
            len,
            read: false,
            write: false,
            execute: false,
        };
        if self.rest().starts_with(':') {
            let began = self.at;
            self.at += 1;
            let access = self.take_while(|c| c.is_ascii_alphanumeric());
            if access.is_empty() || !access.chars().all(|c| "rwx".contains(c)) {
                // No access: these are the modifiers.
                self.at = began;
            } else {
                memory.read = access.contains('r');
                memory.write = access.contains('w');
                memory.execute = access.contains('x');
            }
        }
        if !(memory.read || memory.write || memory.execute) {
            (memory.read, memory.write) = (true, true);
        }
        self.modified(What::Memory(memory))
    }

    fn uprobe(&mut self) -> Result<Spec, SyntaxError> {
        let path = self.take_while(|c| !":,{}".contains(c)).to_owned();
        self.expect(':', "`:` and the name of a function")?;
        let rest = self.rest();
        let mut len = 0;
        // A name may hold `::`, but not a single colon.
        while let Some(c) = rest[len..].chars().next() {
            let pair = rest[len..].starts_with("::");
            if "+%,{}".contains(c) || (c == ':' && !pair) {
                break;
            }
            len += if pair { 2 } else { c.len_utf8() };
        }
        let symbol = rest[..len].to_owned();
        if symbol.is_empty() {
            return Err(self.wrong("the name of a function is expected"));
        }
        self.at += len;
        let offset = if self.take('+') { self.number()? } else { 0 };
        let ret = self.take('%');
        if ret && self.take_while(|c| c.is_ascii_alphabetic()) != "return" {
            return Err(self.wrong("`return` is expected"));
        }
        self.modified(What::Uprobe(Uprobe {
            path,
            symbol,
            offset,
            ret,
        }))
    }

    fn number(&mut self) -> Result<u64, SyntaxError> {
        let text = self.take_while(|c| c.is_ascii_alphanumeric());
        match number(text) {
            Ok(Some(number)) => Ok(number),
            Ok(None) => Err(self.wrong("a number is expected")),
            Err(()) => Err(self.wrong("that number has more than 64 bits")),
        }
    }

    /// Options up to one of the characters of `end`, or to the end of the text.
    pub(super) fn terms(&mut self, end: &str) -> Result<Vec<Term>, SyntaxError> {
        let mut terms = Vec::new();
        loop {
            let at_end = self.rest().is_empty() || self.rest().starts_with(|c| end.contains(c));
            if at_end && terms.is_empty() {
                return Ok(terms);
            }
            let key = self.take_while(is_name);
            if key.is_empty() {
                return Err(self.wrong("an option is expected"));
            }
            let value = if self.take('=') {
                let text = self.take_while(|c| !",/{}".contains(c) && !c.is_control());
                match number(text) {
                    Ok(Some(number)) => Some(Value::Number(number)),
                    Ok(None) if text.is_empty() => {
                        return Err(self.wrong("a value is expected"));
                    }
                    Ok(None) => Some(Value::Text(text.to_owned())),
                    Err(()) => return Err(self.wrong("that number has more than 64 bits")),
                }
            } else {
                None
            };
            let key = key.to_owned();
            terms.push(Term { key, value });
            if !self.take(',') {
                return Ok(terms);
            }
        }
    }
}

/// A decimal or hexadecimal number; `None` if it is something else, an error if it is too large.
fn number(text: &str) -> Result<Option<u64>, ()> {
    let (digits, radix) = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None => (text, 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Ok(None);
    }
    u64::from_str_radix(digits, radix).map(Some).map_err(drop)
}
