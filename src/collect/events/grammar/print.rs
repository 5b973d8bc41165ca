//! Events as text again.
//!
//! In: events; out: text that is read as the same events.

use super::{Group, Modifiers, Spec, Value, What};
use std::fmt;

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
