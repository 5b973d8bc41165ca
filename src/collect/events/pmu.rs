//! PMUs as the kernel lists them under `/sys/bus/event_source/devices`: the events they name and the bits they take.
//!
//! In: that directory, or texts from it; out: [`Pmu`]s, and configuration words from options. It refuses to know how an
//! event is opened.

use super::grammar::{Term, Value, parse_terms};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// One PMU.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pmu {
    /// Its name.
    pub name: String,
    /// Its number.
    pub ty: u32,
    /// Options by name.
    pub formats: BTreeMap<String, Format>,
    /// Events that it names.
    pub events: BTreeMap<String, Named>,
    /// The CPUs it must be opened on, if it does not count for tasks.
    pub cpus: Option<String>,
}

/// An event that a PMU names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Named {
    /// The options it stands for, as they are written.
    pub terms: String,
    /// What a count is multiplied by for its unit.
    pub scale: Option<f64>,
    /// The unit.
    pub unit: String,
}

/// Where an option's bits go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// Which word.
    pub word: Word,
    /// Which of its bits.
    pub mask: u64,
}

/// A word of an event's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// The first.
    Config,
    /// The second.
    Config1,
    /// The third.
    Config2,
    /// The fourth, of Linux 6.3 and later.
    Config3,
}

/// The words of an event's configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// The first.
    pub config: u64,
    /// The second.
    pub config1: u64,
    /// The third.
    pub config2: u64,
    /// The fourth.
    pub config3: u64,
}

impl Words {
    fn word(&mut self, word: Word) -> &mut u64 {
        match word {
            Word::Config => &mut self.config,
            Word::Config1 => &mut self.config1,
            Word::Config2 => &mut self.config2,
            Word::Config3 => &mut self.config3,
        }
    }
}

impl Format {
    /// Reads `config:0-7,32-35`.
    pub fn parse(text: &str) -> Option<Format> {
        let (word, ranges) = text.trim().split_once(':')?;
        let word = match word {
            "config" => Word::Config,
            "config1" => Word::Config1,
            "config2" => Word::Config2,
            "config3" => Word::Config3,
            _ => return None,
        };
        let mut mask = 0u64;
        for range in ranges.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let first: u32 = first.trim().parse().ok()?;
            let last: u32 = last.trim().parse().ok()?;
            if first > last || last > 63 {
                return None;
            }
            mask |= (u64::MAX >> (63 - (last - first))) << first;
        }
        Some(Format { word, mask })
    }

    /// The largest value that fits.
    pub fn most(&self) -> u64 {
        u64::MAX
            .checked_shr(64 - self.mask.count_ones())
            .unwrap_or(0)
    }

    /// The value's bits at their places, the lowest first.
    fn spread(&self, value: u64) -> u64 {
        let places = (0..64).filter(|bit| self.mask >> bit & 1 == 1);
        places.enumerate().fold(0, |word, (from, to)| {
            word | (value.checked_shr(from as u32).unwrap_or(0) & 1) << to
        })
    }

    /// Sets the option in its word.
    pub fn set(&self, value: u64, words: &mut Words) -> bool {
        if value > self.most() {
            return false;
        }
        let word = words.word(self.word);
        *word = (*word & !self.mask) | self.spread(value);
        true
    }
}

/// What options between slashes ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// The words.
    pub words: Words,
    /// A name of the user's own.
    pub name: Option<String>,
    /// Sample every so many.
    pub period: Option<u64>,
    /// Sample so often in a second.
    pub frequency_hz: Option<u64>,
    /// What a count is multiplied by.
    pub scale: Option<f64>,
    /// The unit it is in then.
    pub unit: String,
}

/// An option that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TermError {
    /// There is no option or event of that name.
    Unknown(String),
    /// The value does not fit.
    TooLarge {
        /// The option.
        key: String,
        /// The largest that does.
        most: u64,
    },
    /// It takes a value of another kind.
    Value(String),
    /// An option of perf's that has no meaning here.
    Unsupported(String),
    /// The machine's own file cannot be read.
    File(String),
}

/// Options of perf that concern its recording, not the event.
const OF_PERF: &[&str] = &[
    "call-graph",
    "stack-size",
    "time",
    "nr",
    "inherit",
    "no-inherit",
    "max-stack",
    "overwrite",
    "no-overwrite",
    "branch_type",
    "percore",
    "aux-output",
    "aux-sample-size",
    "metric-id",
    "driver-config",
];

impl Options {
    /// Sets options that are the same for all events; those that are left belong to the PMU.
    fn common<'t>(&mut self, terms: &'t [Term]) -> Result<Vec<&'t Term>, TermError> {
        let mut left = Vec::new();
        for term in terms {
            let number = || match term.value {
                Some(Value::Number(number)) => Ok(number),
                _ => Err(TermError::Value(term.key.clone())),
            };
            match term.key.as_str() {
                "config" => self.words.config = number()?,
                "config1" => self.words.config1 = number()?,
                "config2" => self.words.config2 = number()?,
                "config3" => self.words.config3 = number()?,
                "period" => self.period = Some(number()?),
                "freq" => self.frequency_hz = Some(number()?),
                "name" => {
                    self.name = Some(match &term.value {
                        Some(Value::Text(text)) => text.trim_matches(['\'', '"']).to_owned(),
                        Some(Value::Number(number)) => number.to_string(),
                        None => return Err(TermError::Value(term.key.clone())),
                    });
                }
                key if OF_PERF.contains(&key) => {
                    return Err(TermError::Unsupported(key.to_owned()));
                }
                key => match super::grammar::raw(key).filter(|_| term.value.is_none()) {
                    Some(raw) => self.words.config = raw,
                    None => left.push(term),
                },
            }
        }
        Ok(left)
    }

    /// Of a generic event, which has no options of its own.
    pub fn of_generic(config: u64, terms: &[Term]) -> Result<Options, TermError> {
        let mut options = Options::default();
        options.words.config = config;
        match options.common(terms)?.first() {
            Some(term) => Err(TermError::Unknown(term.key.clone())),
            None => Ok(options),
        }
    }
}

impl Pmu {
    /// Reads one from its directory; `None` if it is none.
    pub fn read(dir: &Path) -> Option<Pmu> {
        let text = |path: &Path| fs::read_to_string(path).ok();
        let ty = text(&dir.join("type"))?.trim().parse().ok()?;
        let mut pmu = Pmu {
            name: dir.file_name()?.to_str()?.to_owned(),
            ty,
            cpus: text(&dir.join("cpumask")).map(|t| t.trim().to_owned()),
            ..Pmu::default()
        };
        for (name, format) in files(&dir.join("format")) {
            if let Some(format) = Format::parse(&format) {
                pmu.formats.insert(name, format);
            }
        }
        let mut events = files(&dir.join("events"));
        events.sort();
        for (name, terms) in events {
            let beside = |ending: &str| text(&dir.join("events").join(format!("{name}.{ending}")));
            let is_part = [".scale", ".unit", ".per-pkg", ".snapshot"];
            if is_part.iter().any(|part| name.ends_with(part)) {
                continue;
            }
            let named = Named {
                terms: terms.trim().to_owned(),
                scale: beside("scale").and_then(|s| s.trim().parse().ok()),
                unit: beside("unit").unwrap_or_default().trim().to_owned(),
            };
            pmu.events.insert(name, named);
        }
        Some(pmu)
    }

    /// What options ask of this PMU: names of its events stand for their options.
    pub fn options(&self, terms: &[Term]) -> Result<Options, TermError> {
        let mut options = Options::default();
        let mut flat = Vec::new();
        for term in terms {
            let named = self.events.get(&term.key).filter(|_| term.value.is_none());
            let Some(named) = named else {
                flat.push(term.clone());
                continue;
            };
            let inner = parse_terms(&named.terms).map_err(|e| TermError::File(e.to_string()))?;
            flat.extend(inner);
            options.scale = named.scale;
            options.unit.clone_from(&named.unit);
        }
        for term in options.common(&flat)? {
            let Some(format) = self.formats.get(&term.key) else {
                return Err(TermError::Unknown(term.key.clone()));
            };
            let value = match term.value {
                None => 1,
                Some(Value::Number(number)) => number,
                // `event=?` of a file: the user has to say it.
                Some(Value::Text(_)) => return Err(TermError::Value(term.key.clone())),
            };
            if !format.set(value, &mut options.words) {
                let key = term.key.clone();
                let most = format.most();
                return Err(TermError::TooLarge { key, most });
            }
        }
        Ok(options)
    }

    /// Whether users may mean this PMU by that name: `uncore_imc` is all of `uncore_imc_0`, `uncore_imc_1`, and `imc`
    /// is short for it.
    pub fn answers_to(&self, name: &str) -> bool {
        let own = self.name.as_str();
        let numbered = |own: &str| {
            let rest = own.strip_prefix(name).map(|r| r.trim_start_matches('_'));
            rest.is_some_and(|r| r.bytes().all(|b| b.is_ascii_digit()))
        };
        own == name || numbered(own) || own.strip_prefix("uncore_").is_some_and(numbered)
    }
}

/// Files of a directory with their contents.
fn files(dir: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let file = |e: fs::DirEntry| {
        let name = e.file_name().into_string().ok()?;
        Some((name, fs::read_to_string(e.path()).ok()?))
    };
    entries.filter_map(file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Ranges as kernels print them, and text that is none.
    #[test]
    fn formats() {
        let format = |text| Format::parse(text);
        let mask = |text| format(text).map(|f| f.mask);
        assert_eq!(mask("config:0-7\n"), Some(0xff));
        assert_eq!(mask("config:0-7,32-35"), Some(0xf_0000_00ff));
        assert_eq!(mask("config1:0-63"), Some(u64::MAX));
        assert_eq!(mask("config:23"), Some(1 << 23));
        for text in [
            "",
            "config",
            "config:",
            "config:8-1",
            "config:64",
            "conf:1",
            "config:0-",
            "config:0-7,",
        ] {
            assert_eq!(format(text), None, "{text}");
        }
        assert_eq!(format("config2:4-5").unwrap().word, Word::Config2);
    }

    /// A value is spread over the bits it is given, and one that is too large is refused.
    #[test]
    fn values() {
        let split = Format::parse("config:0-7,32-35").unwrap();
        let mut words = Words::default();
        assert!(split.set(0x512, &mut words));
        assert_eq!(words.config, 0x5_0000_0012);
        assert!(split.set(0x3c, &mut words));
        assert_eq!(words.config, 0x3c);
        assert!(!split.set(0x1000, &mut words));
        assert_eq!(words.config, 0x3c);
    }

    /// Names of a PMU's family.
    #[test]
    fn families() {
        let pmu = |name: &str| Pmu {
            name: name.to_owned(),
            ..Pmu::default()
        };
        assert!(pmu("uncore_imc_3").answers_to("uncore_imc"));
        assert!(pmu("uncore_imc_3").answers_to("imc"));
        assert!(pmu("cpu").answers_to("cpu"));
        assert!(!pmu("cpu_core").answers_to("cpu"));
        assert!(!pmu("uncore_imc_free_running_0").answers_to("imc"));
    }

    proptest! {
        /// Any text is a format or none; what is set is inside the mask and can be read back.
        #[test]
        fn any_format(text in "config[0-4]?:[0-9,-]{0,12}", value: u64) {
            if let Some(format) = Format::parse(&text) {
                let mut words = Words::default();
                let fits = format.set(value & format.most(), &mut words);
                prop_assert!(fits);
                let word = *words.word(format.word);
                prop_assert_eq!(word & !format.mask, 0);
                prop_assert_eq!(word.count_ones(), (value & format.most()).count_ones());
            }
        }
    }
}
