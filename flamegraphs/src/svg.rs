//! Trees into SVG: inferno's layout and zoom, our colours, a line of trust under the title and a legend below.
//!
//! In: a tree or a difference and a [`Picture`]; out: one self-contained SVG. It refuses to leave anything to chance:
//! colours come from the picture alone, frames are in the order of their names.

use crate::diff::{Diff, LESS, MORE};
use crate::fold::{Tree, push_name, shown};
use crate::palette::{Rgb, UNKNOWN_COLOUR, colour_of};
use inferno::flamegraph::color::{BackgroundColor, PaletteMap};
use inferno::flamegraph::{self, Options};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};

/// What a flame graph shows besides its frames.
#[derive(Clone, Debug)]
pub struct Picture {
    /// First line.
    pub title: String,
    /// Second line: how far the picture can be trusted.
    pub subtitle: String,
    /// Unit of the weights once multiplied by `factor`.
    pub unit: String,
    /// What a weight is multiplied with before it is printed.
    pub factor: f64,
    /// Frames of a smaller part of the whole than this, in percent, are left out: they could not be seen.
    pub narrowest: f64,
    /// Phase of each frame, by name; frames that are not here get the colour of the unknown.
    pub phases: BTreeMap<String, String>,
}

impl Default for Picture {
    fn default() -> Picture {
        Picture {
            title: "Flame graph".into(),
            subtitle: String::new(),
            unit: "samples".into(),
            factor: 1.0,
            narrowest: 0.01,
            phases: BTreeMap::new(),
        }
    }
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum DrawError {
    /// A tree without weight has no picture.
    #[error("there is nothing to draw: no stack has any weight")]
    Empty,
    /// Weights whose sum no one can tell have no widths.
    #[error("the weights of all stacks add up to more than 2^64: divide them")]
    TooHeavy,
    /// The output could not be written.
    #[error("the picture could not be written: {0}")]
    Write(#[from] io::Error),
}

/// Draws a tree.
pub fn draw(tree: &Tree, picture: &Picture, out: impl Write) -> Result<(), DrawError> {
    weighed(tree.total())?;
    let mut used: Vec<&str> = Vec::new();
    let mut colours = PaletteMap::default();
    for name in tree.names() {
        let phase = picture.phases.get(name);
        let colour = phase.map_or(UNKNOWN_COLOUR, |p| colour_of(p));
        let mut key = String::new();
        push_name(&mut key, name);
        colours.insert(key, rgb::RGB8::from(<[u8; 3]>::from(colour)));
        used.extend(phase.map(String::as_str));
    }
    // The frame that inferno puts below all others has no name.
    colours.insert("", rgb::RGB8::from(<[u8; 3]>::from(UNKNOWN_COLOUR)));
    used.sort_unstable();
    used.dedup();
    let mut options = options(picture);
    options.palette_map = Some(&mut colours);
    // What is left out needs no callees.
    let least = (tree.total() as f64 * picture.narrowest / 100.0) as u64;
    finish(options, &tree.to_folded_from(least), &used, out)
}

/// Draws the second tree of a difference; red frames grew, blue ones shrank.
pub fn draw_diff(diff: &Diff, picture: &Picture, out: impl Write) -> Result<(), DrawError> {
    let sum = |of: fn(u64, u64) -> u64| {
        let weights = diff.stacks().map(|(_, before, after)| of(before, after));
        weights.fold(0, u64::saturating_add)
    };
    weighed(sum(|before, _| before).max(1))?;
    weighed(sum(|_, after| after))?;
    finish(options(picture), &diff.to_folded(), &[], out)
}

/// Draws both trees of a difference at once, below three roots of these names: what both have (grey), what the second has
/// more of (red) and what it has less of (blue), each as wide as it is; the deeper a colour, the more of the difference
/// is in functions of that name themselves.
pub fn draw_parts(
    diff: &Diff,
    roots: [&str; 3],
    picture: &Picture,
    out: impl Write,
) -> Result<(), DrawError> {
    let tree = diff.parts(roots);
    weighed(tree.total())?;
    let mut own: BTreeMap<&str, u64> = BTreeMap::new();
    tree.each(&mut |stack, weight| {
        for name in stack {
            own.entry(*name).or_default();
        }
        if let Some(leaf) = stack.last() {
            *own.entry(*leaf).or_default() += weight;
        }
    });
    let most = |mark: &str| {
        let marked = own.iter().filter(|(name, _)| name.starts_with(mark));
        marked.map(|(_, weight)| *weight).max().unwrap_or(0).max(1) as f64
    };
    let (more, less) = (most(MORE), most(LESS));
    let mut colours = PaletteMap::default();
    for (name, weight) in &own {
        let depth = |most: f64| (*weight as f64 / most).sqrt();
        let colour = match name {
            n if n.starts_with(MORE) => shade((255, 214, 208), (222, 66, 50), depth(more)),
            n if n.starts_with(LESS) => shade((210, 224, 250), (76, 122, 214), depth(less)),
            n if *n == roots[1] => (240, 140, 128),
            n if *n == roots[2] => (140, 172, 236),
            _ => UNKNOWN_COLOUR,
        };
        let mut key = String::new();
        push_name(&mut key, name);
        colours.insert(key, rgb::RGB8::from(<[u8; 3]>::from(colour)));
    }
    colours.insert("", rgb::RGB8::from(<[u8; 3]>::from(UNKNOWN_COLOUR)));
    let mut options = options(picture);
    options.palette_map = Some(&mut colours);
    finish(options, &tree.to_folded(), &[], out)
}

/// Whether a sum of weights, which stops at the most that it can be, has a picture.
fn weighed(total: u64) -> Result<(), DrawError> {
    match total {
        0 => Err(DrawError::Empty),
        u64::MAX => Err(DrawError::TooHeavy),
        _ => Ok(()),
    }
}

/// Between two colours: 0 is the first, 1 the second.
fn shade(from: Rgb, to: Rgb, depth: f64) -> Rgb {
    let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * depth).round() as u8;
    (mix(from.0, to.0), mix(from.1, to.1), mix(from.2, to.2))
}

fn options<'a>(picture: &Picture) -> Options<'a> {
    let mut options = Options::default();
    let shown = |text: &str| text.chars().map(shown).collect::<String>();
    options.title = shown(&picture.title);
    options.subtitle = (!picture.subtitle.is_empty()).then(|| shown(&picture.subtitle));
    options.count_name = shown(&picture.unit);
    options.factor = picture.factor;
    options.min_width = picture.narrowest;
    options.bgcolors = Some(BackgroundColor::Flat(rgb::RGB8::new(255, 255, 255)));
    options.hash = true;
    options.deterministic = true;
    options
}

fn finish(
    mut options: Options<'_>,
    folded: &str,
    phases: &[&str],
    mut out: impl Write,
) -> Result<(), DrawError> {
    let mut svg = Vec::new();
    flamegraph::from_lines(&mut options, folded.lines(), &mut svg)?;
    let svg = String::from_utf8_lossy(&svg);
    out.write_all(with_legend(&svg, phases).as_bytes())?;
    Ok(out.flush()?)
}

const ROW: usize = 20;
const COLUMN: usize = 130;
const COLUMNS: usize = 9;

/// The picture made taller at its bottom by a legend of the phases in it.
fn with_legend(svg: &str, phases: &[&str]) -> String {
    let Some((head, height)) = (!phases.is_empty()).then(|| head_and_height(svg)).flatten() else {
        return svg.to_owned();
    };
    let Some(end) = svg.rfind("</svg>") else {
        return svg.to_owned();
    };
    let taller = height + ROW * phases.len().div_ceil(COLUMNS);
    let mut text = svg[..head]
        .replace(
            &format!("height=\"{height}\""),
            &format!("height=\"{taller}\""),
        )
        .replace(&format!(" {height}\""), &format!(" {taller}\""));
    // The background rectangle follows the head and has the picture's height too.
    text.push_str(&svg[head..end].replacen(
        &format!("height=\"{height}\" fill=\"url(#background)\""),
        &format!("height=\"{taller}\" fill=\"url(#background)\""),
        1,
    ));
    text.push_str("<g id=\"legend\">");
    for (at, phase) in phases.iter().enumerate() {
        let (x, y) = (10 + COLUMN * (at % COLUMNS), height + ROW * (at / COLUMNS));
        let (r, g, b): Rgb = colour_of(phase);
        let _ = write!(
            text,
            "<rect x=\"{x}\" y=\"{y}\" width=\"14\" height=\"14\" fill=\"rgb({r},{g},{b})\"/>\
             <text x=\"{}\" y=\"{}\">{}</text>",
            x + 19,
            y + 11,
            escape(phase),
        );
    }
    text.push_str("</g>");
    text.push_str(&svg[end..]);
    text
}

/// Where the `<svg ...>` tag ends, and the height it states.
fn head_and_height(svg: &str) -> Option<(usize, usize)> {
    let start = svg.find("<svg")?;
    let end = start + svg[start..].find('>')?;
    let at = svg[start..end].find("height=\"")? + start + "height=\"".len();
    let digits = svg[at..end].split('"').next()?;
    Some((end, digits.parse().ok()?))
}

pub(crate) fn escape(text: &str) -> String {
    let text: String = text.chars().map(shown).collect();
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty tree is an answer, not a broken picture.
    #[test]
    fn nothing_to_draw() {
        let error = draw(&Tree::new(), &Picture::default(), Vec::new()).unwrap_err();
        assert!(matches!(error, DrawError::Empty));
    }

    /// The legend lies inside the picture, and frames have their phase's colour.
    #[test]
    fn legend_and_colours() {
        let tree = Tree::from_folded("useful;serve 10\nempty polling;rx 90").unwrap();
        let picture = Picture {
            phases: [("serve", "app"), ("rx", "driver_rx")]
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
                .into(),
            ..Picture::default()
        };
        let mut svg = Vec::new();
        draw(&tree, &picture, &mut svg).unwrap();
        let svg = String::from_utf8(svg).unwrap();
        let (_, height) = head_and_height(&svg).unwrap();
        let (r, g, b) = colour_of("driver_rx");
        assert_eq!(svg.matches(&format!("rgb({r},{g},{b})")).count(), 2);
        let legend = svg.find("id=\"legend\"").unwrap();
        let y = svg[legend..].split("y=\"").nth(1).unwrap();
        let y: usize = y.split('"').next().unwrap().parse().unwrap();
        assert!(y + ROW <= height + ROW && y < height, "{y} {height}");
        assert!(svg.contains(&format!("viewBox=\"0 0 1200 {height}\"")));
    }
}
