//! Events as users write them, in perf's notation.
//!
//! In: text such as `cycles:u`, `{cycles,instructions}:u`, `cpu/event=0x3c,umask=0x0/`, `r1a8`, `net:netif_receive_skb`,
//! `mem:0x1000/8:w` or `./httpd:handle%return`; out: [`Group`]s of [`Spec`]s that print as what was read. It refuses to
//! know what this machine has.

use super::generic::generic;
use super::modifiers::Modifiers;
use std::fmt;

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
    let mut cursor = Cursor { text, at: 0 };
    let mut groups = vec![cursor.group()?];
    while !cursor.rest().is_empty() {
        cursor.expect(',', "a comma or the end")?;
        groups.push(cursor.group()?);
    }
    Ok(groups)
}

/// Reads the options of a PMU's event, as they lie in its file under `events/`.
pub fn parse_terms(text: &str) -> Result<Vec<Term>, SyntaxError> {
    let mut cursor = Cursor { text, at: 0 };
    let terms = cursor.terms("")?;
    match cursor.rest() {
        "" => Ok(terms),
        _ => Err(cursor.wrong("an option or a comma is expected")),
    }
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-.*?[]!".contains(c)
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn wrong(&self, what: impl Into<String>) -> SyntaxError {
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

    fn expect(&mut self, c: char, what: &str) -> Result<(), SyntaxError> {
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

    fn group(&mut self) -> Result<Group, SyntaxError> {
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
    fn terms(&mut self, end: &str) -> Result<Vec<Term>, SyntaxError> {
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

/// The number of `r1a8`.
pub fn raw(name: &str) -> Option<u64> {
    let digits = name.strip_prefix('r')?;
    let hex = (1..=16).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    hex.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
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

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.braced {
            return self.events.iter().try_for_each(|e| e.fmt(f));
        }
        write!(f, "{}{{", self.name)?;
        for (at, event) in self.events.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{event}")?;
        }
        f.write_str("}")?;
        if self.modifiers != Modifiers::default() {
            write!(f, ":{}", self.modifiers)?;
        }
        Ok(())
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.what.fmt(f)?;
        if self.modifiers == Modifiers::default() {
            return Ok(());
        }
        match &self.what {
            What::Options(..) => self.modifiers.fmt(f),
            _ => write!(f, ":{}", self.modifiers),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Name(name) => f.write_str(name),
            What::Options(name, terms) => {
                write!(f, "{name}/")?;
                for (at, term) in terms.iter().enumerate() {
                    f.write_str(if at > 0 { "," } else { "" })?;
                    f.write_str(&term.key)?;
                    match &term.value {
                        None => {}
                        Some(Value::Number(number)) => write!(f, "={number:#x}")?,
                        Some(Value::Text(text)) => write!(f, "={text}")?,
                    }
                }
                f.write_str("/")
            }
            What::Raw(number) => write!(f, "r{number:x}"),
            What::Number(ty, config) => write!(f, "{ty}:{config:#x}"),
            What::Memory(memory) => {
                write!(f, "mem:{:#x}", memory.address)?;
                if let Some(len) = memory.len {
                    write!(f, "/{len}")?;
                }
                let access = [
                    (memory.read, "r"),
                    (memory.write, "w"),
                    (memory.execute, "x"),
                ];
                f.write_str(":")?;
                let mut kinds = access.iter().filter(|a| a.0);
                kinds.try_for_each(|a| f.write_str(a.1))
            }
            What::Tracepoint(system, name) => write!(f, "{system}:{name}"),
            What::Uprobe(probe) => {
                write!(f, "{}:{}", probe.path, probe.symbol)?;
                // Without a slash in its path it is the offset that tells it from a tracepoint.
                let is_told = probe.ret || probe.path.contains('/');
                if probe.offset > 0 || !is_told {
                    write!(f, "+{:#x}", probe.offset)?;
                }
                f.write_str(if probe.ret { "%return" } else { "" })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> Spec {
        let groups = parse(text).unwrap();
        assert_eq!((groups.len(), groups[0].events.len()), (1, 1), "{text}");
        groups[0].events[0].clone()
    }

    /// Each way of writing an event.
    #[test]
    fn every_kind() {
        let name = |n: &str| What::Name(n.to_owned());
        assert_eq!(one("cycles").what, name("cycles"));
        assert_eq!(one("cycles:u").modifiers.to_string(), "u");
        assert_eq!(
            one("L1-dcache-load-misses").what,
            name("L1-dcache-load-misses")
        );
        assert_eq!(one("r1a8:pp").what, What::Raw(0x1a8));
        assert_eq!(one("4:0x3c").what, What::Number(4, 0x3c));
        assert_eq!(one("net:*").to_string(), "net:*");
        let probe = |path: &str, symbol: &str, offset, ret| {
            What::Uprobe(Uprobe {
                path: path.to_owned(),
                symbol: symbol.to_owned(),
                offset,
                ret,
            })
        };
        assert_eq!(one("./httpd:main").what, probe("./httpd", "main", 0, false));
        let spec = one("/bin/a b:a::b+0x10%return:u");
        assert_eq!(spec.what, probe("/bin/a b", "a::b", 16, true));
        assert_eq!(spec.modifiers.to_string(), "u");
        assert_eq!(
            one("httpd:serve%return").what,
            probe("httpd", "serve", 0, true)
        );
        let spec = one("cpu/event=0x3c,edge,name=mine/u");
        assert_eq!(spec.to_string(), "cpu/event=0x3c,edge,name=mine/u");
        assert_eq!(one("mem:0x1000/8:w:u").to_string(), "mem:0x1000/8:w:u");
        assert_eq!(one("mem:0x1000:k").to_string(), "mem:0x1000:rw:k");
        let groups = parse("cs,mine{cycles,r3c:u}:k,{faults}").unwrap();
        assert_eq!(groups.len(), 3);
        assert_eq!(groups[1].name, "mine");
        assert_eq!(groups[1].modifiers.to_string(), "k");
        assert!(groups[2].braced);
    }

    /// What is refused says where.
    #[test]
    fn refusals() {
        for (text, at) in [
            ("", 1),
            ("cycles,", 8),
            ("{cycles,cs", 11),
            ("{}", 2),
            ("cycles:", 8),
            ("cycles:z", 8),
            ("net:D:", 7),
            ("{cs}:", 6),
            ("cpu/edge/:", 11),
            ("cpu/event=/", 11),
            ("cpu/event=1", 12),
            ("cpu/event=0x1ffffffffffffffff/", 30),
            ("./httpd", 8),
            ("./httpd:", 9),
            ("./httpd:a%back", 15),
            ("mem:here", 9),
            ("cycles:pppp:u", 8),
            ("cycles u", 7),
            ("4:x", 4),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.at, at, "{error}");
        }
    }

    proptest! {
        /// Any text is read or refused, and what was read prints as text with the same meaning.
        #[test]
        fn prints_what_it_read(text in "[a-z{}:/,=+%.0-9x*_ é-]{0,40}") {
            if let Ok(groups) = parse(&text) {
                let shown: Vec<_> = groups.iter().map(Group::to_string).collect();
                let shown = shown.join(",");
                prop_assert_eq!(parse(&shown), Ok(groups), "{}", shown);
            }
        }

        /// The same for text made of parts of events.
        #[test]
        fn likely_text(parts in proptest::collection::vec(prop_oneof![
            Just("cycles"), Just(":"), Just("u"), Just("kpp"), Just("{"), Just("}"), Just(","), Just("/"), Just("event=0x3c"),
            Just("./a"), Just("::"), Just("b"), Just("+4"), Just("+0"), Just("%return"), Just("mem:0x10"), Just("r1f"), Just("4"), Just("net"),
        ], 0..12)) {
            let text = parts.concat();
            if let Ok(groups) = parse(&text) {
                let shown: Vec<_> = groups.iter().map(Group::to_string).collect();
                let shown = shown.join(",");
                prop_assert_eq!(parse(&shown), Ok(groups), "{} as {}", text, shown);
            }
        }
    }
}
