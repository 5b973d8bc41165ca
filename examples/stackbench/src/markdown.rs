//! Figures and tables as Markdown that is read as plain text too.
//!
//! In: numbers and lines of cells; out: text.

use crate::spread::Spread;

/// `12,345 (11,000 to 13,000)`.
pub fn shown(spread: Spread, digits: usize) -> String {
    let number = |value: f64| thousands(value, digits);
    match spread.least == spread.most {
        true => number(spread.median),
        false => format!(
            "{} ({} to {})",
            number(spread.median),
            number(spread.least),
            number(spread.most)
        ),
    }
}

/// A number with its thousands told apart.
pub fn thousands(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut out = String::new();
    for (at, digit) in whole.chars().enumerate() {
        let left = whole.len() - at;
        if at > 0 && left.is_multiple_of(3) && digit.is_ascii_digit() && !out.ends_with('-') {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

/// Lines of cells, the first one the heading, as aligned Markdown.
pub fn grid(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let length = |text: &String| text.chars().count();
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(length).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut out = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let cell = |(text, width): (&String, &usize)| {
            format!("{text}{}", " ".repeat(width - length(text)))
        };
        let cells: Vec<_> = line.iter().zip(&widths).map(cell).collect();
        out.push(format!("| {} |", cells.join(" | ")));
        if number == 0 {
            let rule: Vec<_> = widths.iter().map(|width| "-".repeat(*width)).collect();
            out.push(format!("| {} |", rule.join(" | ")));
        }
    }
    out.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thousands are told apart, signs and fractions are left alone.
    #[test]
    fn numbers_are_grouped() {
        for (value, digits, text) in [
            (1_234_567.0, 0, "1,234,567"),
            (123.0, 0, "123"),
            (-123_456.0, 0, "-123,456"),
            (1234.56, 1, "1,234.6"),
        ] {
            assert_eq!(thousands(value, digits), text);
        }
    }

    /// Columns are as wide as their widest cell.
    #[test]
    fn grids_are_aligned() {
        let lines = [["row", "a"], ["`x`", "1,000"]];
        let lines = lines.map(|line| line.map(String::from).to_vec());
        assert_eq!(
            grid(&lines),
            "| row | a     |\n| --- | ----- |\n| `x` | 1,000 |"
        );
    }
}
