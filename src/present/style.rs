//! Colour, width and number formats: good manners at a terminal.

use std::io::IsTerminal;

/// How to write on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Columns a line may have; `None` without a limit.
    pub width: Option<usize>,
    /// Whether escape sequences are welcome.
    pub colour: bool,
}

impl Style {
    /// Nothing but text, lines as long as they are.
    pub const PLAIN: Style = Style {
        width: None,
        colour: false,
    };

    /// What standard output is: pipes and files get plain text, and `NO_COLOR` is honoured.
    pub fn of_stdout() -> Style {
        let out = std::io::stdout();
        if !out.is_terminal() {
            return Style::PLAIN;
        }
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        Style {
            width: terminal_size::terminal_size_of(&out).map(|(w, _)| usize::from(w.0)),
            colour: !no_colour && !dumb,
        }
    }

    /// Text that stands out.
    pub fn bold(self, text: &str) -> String {
        if self.colour {
            format!("\x1b[1m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// Text that steps back.
    pub fn dim(self, text: &str) -> String {
        if self.colour {
            format!("\x1b[2m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// The text cut to the width, with dots where something is missing.
    pub fn fit(self, text: &str) -> String {
        match self.width {
            Some(width) if width > 2 && text.chars().count() > width => {
                let kept: String = text.chars().take(width - 2).collect();
                kept + ".."
            }
            _ => text.to_owned(),
        }
    }
}

/// A share of 1 as per cent, or a dash where it is not known.
pub fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |s| format!("{:.1}", s * 100.0))
}

/// Nanoseconds in the unit that suits them.
pub fn duration(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

/// Control characters in names from outside must not reach a terminal, nor marks that turn the direction of the text
/// around them or end its line, nor what XML cannot hold.
pub fn printable(text: &str) -> String {
    let safe = |c: char| match c {
        '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(safe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines fit, escape sequences in names do not get through, times have units.
    #[test]
    fn formats() {
        let narrow = Style {
            width: Some(6),
            colour: false,
        };
        assert_eq!(narrow.fit("a long line"), "a lo..");
        assert_eq!(Style::PLAIN.fit("a long line"), "a long line");
        assert_eq!(printable("a\x1b[31mb"), "a\u{fffd}[31mb");
        assert_eq!(printable("\u{202e}a\u{ffff} ü"), "\u{fffd}a\u{fffd} ü");
        assert_eq!(percent(Some(0.1234)), "12.3");
        assert_eq!(percent(None), "-");
        let units = [5, 5_000, 5_000_000, 5_000_000_000].map(duration);
        assert_eq!(units, ["5 ns", "5.0 us", "5.0 ms", "5.00 s"]);
    }
}
