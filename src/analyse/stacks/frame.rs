//! One frame of a stack: a function, an address without a name, or what is to be said of the stack.
//!
//! In: the place that was found for an address; out: what outputs and rules ask about it. It refuses to know callers.

use crate::analyse::packs::glob;
use crate::resolve::Place;
use crate::trace::folded::FOLDED;
use crate::trace::record::NamedFrame;
use std::ops::Range;

/// A function or an address without a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its name; module and position in brackets where there is none.
    pub name: String,
    /// The module it lies in.
    pub module: String,
    /// Source file and line first seen; empty if not known.
    pub file: String,
    /// The line.
    pub line: u32,
    /// Whether it is the kernel's; `None` where that was not recorded.
    pub kernel: Option<bool>,
    /// Its module as rules name it: `[libc.so.6]`.
    pub module_in_brackets: String,
    /// Why it has no name.
    pub why: Option<String>,
    /// Which part of the name is left without its marks: see [`glob::plain`].
    plain: Range<usize>,
}

impl Frame {
    /// Its name without marks of compilers and linkers, as rules ask for it.
    pub fn plain(&self) -> &str {
        &self.name[self.plain.clone()]
    }

    /// Whether it has no name of its own: `[libc.so.6]`, `[unknown]`.
    pub fn is_unnamed(&self) -> bool {
        self.why.is_some() || (self.name.starts_with('[') && self.name.ends_with(']'))
    }

    /// A function at a place, which may have been inlined there.
    pub(super) fn named(function: &NamedFrame, place: &Place, kernel: bool) -> Frame {
        Frame {
            kernel: (*place.module != *FOLDED).then_some(kernel),
            file: function.file.clone(),
            line: function.line,
            ..Frame::called(&function.name, &place.module)
        }
    }

    /// A place of which no name is known.
    pub(super) fn unnamed(place: &Place, kernel: bool) -> Frame {
        let why = place.names.why.clone();
        Frame {
            kernel: Some(kernel),
            why: Some(why.unwrap_or_else(|| "no name was found".into())),
            ..Frame::called(&place.anonymous(), &place.module)
        }
    }

    /// What is to be said of a stack: a text in brackets.
    pub(super) fn mark(text: &str) -> Frame {
        Frame {
            why: Some(text.trim_matches(['[', ']']).to_owned()),
            ..Frame::called(text, "[unknown]")
        }
    }

    /// A name and its module.
    pub(super) fn called(name: &str, module: &str) -> Frame {
        let plain = glob::plain(name);
        let begin = plain.as_ptr() as usize - name.as_ptr() as usize;
        Frame {
            name: name.to_owned(),
            module: module.to_owned(),
            module_in_brackets: format!("[{}]", module.trim_matches(['[', ']'])),
            file: String::new(),
            line: 0,
            kernel: None,
            why: None,
            plain: begin..begin + plain.len(),
        }
    }
}
