//! What is legal in a pack and still not meant.
//!
//! In: a [`Pack`]; out: remarks with lines. It refuses to judge rules by any one recording: how much of one they cover
//! is told apart from this.

use super::file::{Pack, Rule};
use super::glob::Glob;

/// Something in a pack that cannot have been meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Line in the pack's file.
    pub line: usize,
    /// What is odd, and why.
    pub what: String,
}

/// All remarks about a pack, by line.
pub fn lint(pack: &Pack) -> Vec<Remark> {
    let mut remarks = never_asked(pack);
    if !pack.base && pack.symbols.is_empty() {
        remarks.push(Remark {
            line: 1,
            what: "`symbols` is empty: no recording will show that this stack is in it".into(),
        });
    }
    for caller in &pack.callers {
        if caller.chain.len() == 1
            && caller
                .unless_below
                .iter()
                .any(|u| u.covers(&caller.chain[0]))
        {
            remarks.push(Remark {
                line: caller.line,
                what: "`unless_below` names the chain itself: the rule is always off".into(),
            });
        }
    }
    remarks.sort_by_key(|r| r.line);
    remarks
}

/// Patterns that an earlier one covers.
fn never_asked(pack: &Pack) -> Vec<Remark> {
    let mut remarks = Vec::new();
    let mut seen: Vec<(&Rule, &Glob, usize)> = Vec::new();
    let mut rules: Vec<_> = pack.rules.iter().collect();
    rules.sort_by_key(|r| r.order);
    for rule in rules {
        for (glob, line) in &rule.symbols {
            let covers = |(earlier, by, _): &&(&Rule, &Glob, usize)| {
                let space = earlier.space.is_none() || earlier.space == rule.space;
                space && by.covers(glob)
            };
            if let Some((earlier, by, by_line)) = seen.iter().find(covers) {
                let verdict = if (earlier.phase, earlier.polls, earlier.steady)
                    == (rule.phase, rule.polls, rule.steady)
                {
                    "it is not needed"
                } else {
                    "it is never asked"
                };
                remarks.push(Remark {
                    line: *line,
                    what: format!(
                        "`{}`: `{}` on line {by_line} comes first, {verdict}",
                        glob.text(),
                        by.text()
                    ),
                });
            }
            seen.push((rule, glob, *line));
        }
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Patterns that can never decide are named with the one that decides instead.
    #[test]
    fn covered_patterns() {
        let text = r#"
name = "x"
about = ""
symbols = ["x_init"]
[[rule]]
phase = "tcp_rx"
symbols = ["x_*"]
[[rule]]
phase = "tcp_tx"
symbols = [
  "x_out",
  "y_out",
]
[[rule]]
phase = "copy"
order = "first"
symbols = ["x_copy"]
"#;
        let remarks = lint(&Pack::parse("x.toml", text).unwrap());
        assert_eq!(remarks.len(), 1, "{remarks:?}");
        assert_eq!(remarks[0].line, 11);
        assert_eq!(
            remarks[0].what,
            "`x_out`: `x_*` on line 7 comes first, it is never asked"
        );
    }
}
