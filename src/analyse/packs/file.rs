//! One pack as it is written: TOML with a line for every mistake.
//!
//! In: a file's name and text; out: a [`Pack`], or what is wrong on which line. What the keys mean is in
//! `docs/reference/packs.md`. It refuses to know recordings.

use super::glob::Glob;
use crate::analyse::phases;
use bypassprof_wire::Point;
use bypassprof_wire::points::CATALOGUE;
use serde::Deserialize;
use toml::Spanned;

/// The rules of one stack.
#[derive(Clone, Debug)]
pub struct Pack {
    /// Its name: what outputs call it and other packs include it by.
    pub name: String,
    /// One line on what it describes.
    pub about: String,
    /// Source trees or documents the rules were written from.
    pub sources: String,
    /// The file it came from.
    pub file: String,
    /// Whether it is in effect for every recording.
    pub base: bool,
    /// Packs whose rules come after its own.
    pub with: Vec<String>,
    /// Functions that show the stack is there.
    pub symbols: Vec<Glob>,
    /// Processes, by thread name, that are not part of any service.
    pub foreign: Vec<Glob>,
    /// Published stacks whose way of working programs follow that it describes.
    pub architectures: Vec<Architecture>,
    /// What its threads are.
    pub roles: Vec<Role>,
    /// Phases that a caller decides.
    pub callers: Vec<Caller>,
    /// Phases that the function itself decides, in order.
    pub rules: Vec<Rule>,
    /// A program's own points that mean one of the catalogue's.
    pub points: Vec<PointRule>,
}

/// What a thread is for.
#[derive(Clone, Debug)]
pub struct Role {
    /// The role's name.
    pub name: String,
    /// Thread names; empty: any.
    pub threads: Vec<Glob>,
    /// Functions of which one lies in the thread's stacks; empty: none needed.
    pub below: Vec<Glob>,
}

/// A stack that works like a published one: what is known of that one's causes holds for it too.
#[derive(Clone, Debug)]
pub struct Architecture {
    /// Name of the published one's pack.
    pub name: String,
    /// Functions that show it.
    pub symbols: Vec<Glob>,
}

/// A chain of callers that decides the phase of all below it.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The phase.
    pub phase: &'static str,
    /// Functions that call each other directly, outermost first.
    pub chain: Vec<Glob>,
    /// The rule is off for a recording in which one of these lies below the chain.
    pub unless_below: Vec<Glob>,
    /// Line in the file.
    pub line: usize,
}

/// When a rule is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Before the rules of stacks.
    First,
    /// With its own stack.
    #[default]
    Own,
    /// After the rules of stacks.
    Last,
}

/// Where a rule's functions live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Space {
    /// In the kernel.
    Kernel,
    /// In programs and libraries.
    User,
}

/// Functions and their phase.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The phase.
    pub phase: &'static str,
    /// When it is asked.
    pub order: Order,
    /// Only functions there; `None`: anywhere.
    pub space: Option<Space>,
    /// Whether a sample in them means that the thread polled for nothing or the CPU idled.
    pub polls: bool,
    /// Whether every round spends the same there, whatever it finds: what a recording and an idle one are compared by.
    pub steady: bool,
    /// The functions, with their lines in the file.
    pub symbols: Vec<(Glob, usize)>,
}

/// A program's own point.
#[derive(Clone, Debug)]
pub struct PointRule {
    /// Its name in the program.
    pub name: Glob,
    /// What it means.
    pub means: Point,
}

/// A mistake in a pack.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {what}")]
pub struct PackError {
    /// The file.
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
    /// What is wrong and what would be right.
    pub what: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PackText {
    name: Spanned<String>,
    about: String,
    #[serde(default)]
    sources: String,
    #[serde(default)]
    base: bool,
    #[serde(default)]
    with: Vec<String>,
    #[serde(default)]
    symbols: Vec<Spanned<String>>,
    #[serde(default)]
    foreign: Vec<Spanned<String>>,
    #[serde(default)]
    architecture: Vec<ArchitectureText>,
    #[serde(default)]
    role: Vec<RoleText>,
    #[serde(default)]
    caller: Vec<CallerText>,
    #[serde(default)]
    rule: Vec<RuleText>,
    #[serde(default)]
    point: Vec<PointText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ArchitectureText {
    name: String,
    symbols: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleText {
    name: String,
    #[serde(default)]
    threads: Vec<Spanned<String>>,
    #[serde(default)]
    below: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallerText {
    phase: Spanned<String>,
    chain: Vec<Spanned<String>>,
    #[serde(default)]
    unless_below: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    phase: Spanned<String>,
    #[serde(default)]
    order: Order,
    space: Option<Space>,
    #[serde(default)]
    polls: bool,
    #[serde(default)]
    steady: bool,
    symbols: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PointText {
    name: Spanned<String>,
    means: Spanned<String>,
}

/// Knows lines.
struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

impl Source<'_> {
    fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().iter().take(at);
        1 + before.filter(|&&b| b == b'\n').count()
    }

    fn error(&self, at: usize, what: impl Into<String>) -> PackError {
        PackError {
            file: self.file.to_owned(),
            line: self.line(at),
            what: what.into(),
        }
    }

    fn glob(&self, text: &Spanned<String>) -> Result<Glob, PackError> {
        match text.get_ref().trim() {
            "" => Err(self.error(text.span().start, "a name is empty")),
            bare if bare.bytes().all(|b| b == b'*') => Err(self.error(
                text.span().start,
                format!("`{bare}` fits every name: a pattern needs something of its own"),
            )),
            name => Ok(Glob::new(name)),
        }
    }

    fn globs(&self, texts: &[Spanned<String>]) -> Result<Vec<Glob>, PackError> {
        texts.iter().map(|t| self.glob(t)).collect()
    }

    fn phase(&self, name: &Spanned<String>) -> Result<&'static str, PackError> {
        phases::named(name.get_ref()).ok_or_else(|| {
            let all: Vec<_> = phases::PHASES.iter().map(|p| p.0).collect();
            let what = format!("there is no phase `{}`: {}", name.get_ref(), all.join(", "));
            self.error(name.span().start, what)
        })
    }

    fn point(&self, name: &Spanned<String>) -> Result<Point, PackError> {
        let place = CATALOGUE.iter().position(|p| p.name == name.get_ref());
        let place = place.and_then(|at| u16::try_from(at + 1).ok());
        place.map(Point::from_id).ok_or_else(|| {
            let all: Vec<_> = CATALOGUE.iter().map(|p| p.name).collect();
            let what = format!("there is no point `{}`: {}", name.get_ref(), all.join(", "));
            self.error(name.span().start, what)
        })
    }

    fn rule(&self, rule: &RuleText) -> Result<Rule, PackError> {
        let symbols = rule.symbols.iter().map(|s| {
            let line = self.line(s.span().start);
            Ok((self.glob(s)?, line))
        });
        Ok(Rule {
            phase: self.phase(&rule.phase)?,
            order: rule.order,
            space: rule.space,
            polls: rule.polls || rule.steady,
            steady: rule.steady,
            symbols: symbols.collect::<Result<_, _>>()?,
        })
    }

    fn caller(&self, caller: &CallerText) -> Result<Caller, PackError> {
        let phase = self.phase(&caller.phase)?;
        let line = self.line(caller.phase.span().start);
        if caller.chain.is_empty() {
            return Err(self.error(caller.phase.span().start, "`chain` names no function"));
        }
        Ok(Caller {
            phase,
            chain: self.globs(&caller.chain)?,
            unless_below: self.globs(&caller.unless_below)?,
            line,
        })
    }
}

impl Pack {
    /// Reads a pack; `file` is what mistakes call it.
    pub fn parse(file: &str, text: &str) -> Result<Pack, PackError> {
        let source = Source { file, text };
        let pack: PackText = toml::from_str(text).map_err(|e| {
            let at = e.span().map_or(0, |s| s.start);
            source.error(at, e.message().trim())
        })?;
        let name = pack.name.get_ref();
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || !name.chars().all(word) {
            let what = format!("`{name}` is no name: small letters, digits and `-`");
            return Err(source.error(pack.name.span().start, what));
        }
        let roles = pack.role.iter().map(|role| {
            Ok(Role {
                name: role.name.clone(),
                threads: source.globs(&role.threads)?,
                below: source.globs(&role.below)?,
            })
        });
        let architectures = pack.architecture.iter().map(|architecture| {
            Ok(Architecture {
                name: architecture.name.clone(),
                symbols: source.globs(&architecture.symbols)?,
            })
        });
        let points = pack.point.iter().map(|point| {
            Ok(PointRule {
                name: source.glob(&point.name)?,
                means: source.point(&point.means)?,
            })
        });
        Ok(Pack {
            architectures: architectures.collect::<Result<_, _>>()?,
            roles: roles.collect::<Result<_, _>>()?,
            points: points.collect::<Result<_, _>>()?,
            callers: (pack.caller.iter())
                .map(|c| source.caller(c))
                .collect::<Result<_, _>>()?,
            rules: (pack.rule.iter())
                .map(|r| source.rule(r))
                .collect::<Result<_, _>>()?,
            symbols: source.globs(&pack.symbols)?,
            foreign: source.globs(&pack.foreign)?,
            name: name.clone(),
            about: pack.about,
            sources: pack.sources,
            file: file.to_owned(),
            base: pack.base,
            with: pack.with,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        let text = format!("name = \"x\"\nabout = \"\"\n{text}");
        Pack::parse("x.toml", &text).unwrap_err().to_string()
    }

    /// Every mistake is told with its file and line, and with what would be right.
    #[test]
    fn mistakes_have_lines() {
        let rule = |phase: &str, more: &str| {
            format!("\n[[rule]]\nphase = \"{phase}\"\nsymbols = [\n  \"a\",\n  {more}\n]\n")
        };
        let message = wrong(&rule("copying", ""));
        assert!(message.starts_with("x.toml:5: there is no phase `copying`: idle, poll,"));
        assert_eq!(
            wrong(&rule("copy", "\"**\"")),
            "x.toml:8: `**` fits every name: a pattern needs something of its own"
        );
        assert!(
            wrong("\n[[rule]]\nphase = \"copy\"\nsymbol = []")
                .starts_with("x.toml:6: unknown field `symbol`")
        );
        assert!(wrong("with = [").starts_with("x.toml:3: "));
        assert!(
            wrong("[[point]]\nname = \"a\"\nmeans = \"rx\"")
                .starts_with("x.toml:5: there is no point `rx`")
        );
        assert_eq!(
            wrong("[[caller]]\nphase = \"copy\"\nchain = []"),
            "x.toml:4: `chain` names no function"
        );
        let error = Pack::parse("y.toml", "about = \"\"").unwrap_err();
        assert!(
            error.to_string().contains("missing field `name`"),
            "{error}"
        );
    }
}
