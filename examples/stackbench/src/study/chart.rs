//! A chart of lines as one self-contained SVG.
//!
//! In: named lines of points with their spread, two axes; out: SVG, the same for the same input. Lines are told apart by
//! colour, by dashes and by markers, each of which would do alone, so that black and white paper and colour-blind eyes
//! lose nothing; the palette is that of Okabe and Ito (2008). It refuses to know what the lines are.

use crate::spread::Spread;
use std::fmt::Write;

/// A chart.
pub struct Chart {
    /// First line.
    pub title: String,
    /// Second line.
    pub subtitle: String,
    /// What is swept.
    pub x: Axis,
    /// What was measured; ticks are found.
    pub y: String,
    /// What is drawn, the first one on top.
    pub lines: Vec<Line>,
}

/// The horizontal axis.
pub struct Axis {
    /// Its title.
    pub title: String,
    /// Places and their words, from left to right, as far apart as their places are.
    pub ticks: Vec<(f64, String)>,
}

/// A line.
pub struct Line {
    /// What stands at its end.
    pub name: String,
    /// Which of the [`STYLES`].
    pub style: usize,
    /// Places on the horizontal axis with what was measured there, which is more than nothing.
    pub points: Vec<(f64, Spread)>,
}

/// Colour, dashes, marker.
const STYLES: [(&str, &str, Marker); 8] = [
    ("#000000", "", Marker::Disc),
    ("#e69f00", "7 3", Marker::Square),
    ("#56b4e9", "2 3", Marker::Triangle),
    ("#d55e00", "", Marker::Diamond),
    ("#009e73", "10 3 2 3", Marker::Cross),
    ("#0072b2", "5 2", Marker::Ring),
    ("#cc79a7", "12 4", Marker::Frame),
    ("#777777", "1 2", Marker::Down),
];

#[derive(Clone, Copy)]
enum Marker {
    Disc,
    Square,
    Triangle,
    Diamond,
    Cross,
    Ring,
    Frame,
    Down,
}

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 660.0;
const TOP: f64 = 58.0;
const BOTTOM: f64 = 400.0;
/// Between names at the lines' ends.
const APART: f64 = 17.0;

/// Between words below the axis.
const WORDS_APART: f64 = 43.0;

/// Places of both axes.
struct Frame {
    x: (f64, f64),
    y: (f64, f64),
}

impl Frame {
    fn of(chart: &Chart) -> Option<Frame> {
        let (first, last) = (chart.x.ticks.first()?.0, chart.x.ticks.last()?.0);
        let spreads = || chart.lines.iter().flat_map(|line| &line.points);
        let least = spreads()
            .map(|(_, s)| s.least)
            .fold(f64::INFINITY, f64::min);
        let most = spreads().map(|(_, s)| s.most).fold(0.0, f64::max);
        if least <= 0.0 || most < least {
            return None;
        }
        // A tenth of room on both sides, in the logarithm.
        let room = ((most / least).log10() * 0.06).max(0.05);
        let one = if first == last { 1.0 } else { 0.0 };
        Some(Frame {
            x: (first - one, last + one),
            y: (least.log10() - room, most.log10() + room),
        })
    }

    fn x(&self, at: f64) -> f64 {
        LEFT + (at - self.x.0) / (self.x.1 - self.x.0) * (RIGHT - LEFT)
    }

    fn y(&self, value: f64) -> f64 {
        BOTTOM - (value.log10() - self.y.0) / (self.y.1 - self.y.0) * (BOTTOM - TOP)
    }

    /// 1, 2 and 5 of each decade in sight, or the ones alone where there are many.
    fn ticks(&self) -> Vec<f64> {
        let steps: &[f64] = match self.y.1 - self.y.0 {
            decades if decades > 3.5 => &[1.0],
            decades if decades > 0.9 => &[1.0, 2.0, 5.0],
            _ => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
        };
        let decades = (self.y.0.floor() as i32)..=(self.y.1.ceil() as i32);
        let all = decades.flat_map(|decade| steps.iter().map(move |s| s * 10f64.powi(decade)));
        all.filter(|tick| (self.y.0..=self.y.1).contains(&tick.log10()))
            .collect()
    }
}

/// The chart, unless there is nothing to draw.
pub fn svg(chart: &Chart) -> Option<String> {
    let frame = Frame::of(chart)?;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         role=\"img\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"13\">\n<title>{0}</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"16\" y=\"24\" font-size=\"17\" font-weight=\"bold\">{0}</text>\n\
         <text x=\"16\" y=\"43\" fill=\"#444\">{1}</text>\n",
        escape(&chart.title),
        escape(&chart.subtitle)
    );
    axes(chart, &frame, &mut out);
    // What is first in the list is drawn last, over the others.
    for line in chart.lines.iter().rev() {
        draw(line, &frame, &mut out);
    }
    names(chart, &frame, &mut out);
    out.push_str("</svg>\n");
    Some(out)
}

// Writing to a string cannot fail, here and below.
fn axes(chart: &Chart, frame: &Frame, out: &mut String) {
    for tick in frame.ticks() {
        let y = frame.y(tick);
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            y + 4.5,
            number(tick)
        );
    }
    let mut named = f64::NEG_INFINITY;
    for (at, words) in &chart.x.ticks {
        let x = frame.x(*at);
        let _ = writeln!(
            out,
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{BOTTOM}\" stroke=\"#eee\"/>"
        );
        // Words that lie on each other are read by nobody.
        if x - named < WORDS_APART {
            continue;
        }
        named = x;
        let _ = writeln!(
            out,
            "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            BOTTOM + 19.0,
            escape(words)
        );
    }
    let middle = (TOP + BOTTOM) / 2.0;
    let _ = writeln!(
        out,
        "<path d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\" fill=\"none\" stroke=\"#444\"/>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"middle\" font-weight=\"bold\">{}</text>\
         <text transform=\"translate(18 {middle}) rotate(-90)\" text-anchor=\"middle\" font-weight=\"bold\">{}</text>",
        (LEFT + RIGHT) / 2.0,
        BOTTOM + 44.0,
        escape(&chart.x.title),
        escape(&chart.y)
    );
}

fn draw(line: &Line, frame: &Frame, out: &mut String) {
    let (colour, dashes, marker) = STYLES[line.style % STYLES.len()];
    let places = line.points.iter().map(|(at, s)| {
        let (x, y) = (frame.x(*at), frame.y(s.median));
        (x, y, frame.y(s.most), frame.y(s.least))
    });
    let places: Vec<_> = places.collect();
    let _ = write!(
        out,
        "<g stroke=\"{colour}\" fill=\"none\" stroke-width=\"2\">"
    );
    let corners: Vec<_> = places
        .iter()
        .map(|(x, y, ..)| format!("{x:.1} {y:.1}"))
        .collect();
    let _ = write!(
        out,
        "<polyline points=\"{}\" stroke-dasharray=\"{dashes}\"/>",
        corners.join(" ")
    );
    for (x, y, top, bottom) in places {
        if bottom - top > 1.0 {
            let (l, r) = (x - 4.0, x + 4.0);
            let _ = write!(
                out,
                "<path stroke-width=\"1\" d=\"M{l:.1} {top:.1}H{r:.1}M{x:.1} {top:.1}V{bottom:.1}M{l:.1} {bottom:.1}H{r:.1}\"/>"
            );
        }
        out.push_str(&mark(marker, colour, x, y));
    }
    out.push_str("</g>\n");
}

fn mark(marker: Marker, colour: &str, x: f64, y: f64) -> String {
    let path =
        |d: String, fill: &str| format!("<path fill=\"{fill}\" stroke-width=\"1.5\" d=\"{d}\"/>");
    let round = |fill: &str| {
        format!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{fill}\" stroke-width=\"1.5\"/>"
        )
    };
    let box_ = format!("M{:.1} {:.1}h8v8h-8z", x - 4.0, y - 4.0);
    match marker {
        Marker::Disc => round(colour),
        Marker::Ring => round("#fff"),
        Marker::Square => path(box_, colour),
        Marker::Frame => path(box_, "#fff"),
        Marker::Triangle => path(format!("M{x:.1} {:.1}l5 9h-10z", y - 5.5), colour),
        Marker::Down => path(format!("M{x:.1} {:.1}l5 -9h-10z", y + 5.5), "#fff"),
        Marker::Diamond => path(format!("M{x:.1} {:.1}l5 5l-5 5l-5 -5z", y - 5.0), colour),
        Marker::Cross => path(
            format!("M{:.1} {:.1}l8 8m0 -8l-8 8", x - 4.0, y - 4.0),
            "none",
        ),
    }
}

/// Each line's name beside its end, moved as far as it takes for names not to lie on each other.
fn names(chart: &Chart, frame: &Frame, out: &mut String) {
    let end = |line: &Line| {
        let (at, spread) = line.points.last()?;
        Some((frame.x(*at), frame.y(spread.median)))
    };
    let mut ends: Vec<_> = chart
        .lines
        .iter()
        .filter_map(|line| Some((line, end(line)?)))
        .collect();
    ends.sort_by(|a, b| a.1.1.total_cmp(&b.1.1));
    let wanted: Vec<f64> = ends.iter().map(|(_, (_, y))| *y).collect();
    for ((line, (x, y)), place) in ends.iter().zip(apart(&wanted)) {
        let (colour, dashes, marker) = STYLES[line.style % STYLES.len()];
        let to = RIGHT + 16.0;
        let _ = writeln!(
            out,
            "<g stroke=\"{colour}\"><path fill=\"none\" stroke-width=\"0.7\" d=\"M{:.1} {y:.1}L{to} {place:.1}\"/>\
             <path fill=\"none\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\" d=\"M{to} {place:.1}h26\"/>{}</g>\
             <text x=\"{}\" y=\"{:.1}\">{}</text>",
            x + 6.0,
            mark(marker, colour, to + 13.0, place),
            to + 32.0,
            place + 4.5,
            escape(&line.name)
        );
    }
}

/// Places in order, moved apart and kept inside.
fn apart(wanted: &[f64]) -> Vec<f64> {
    let mut places = wanted.to_vec();
    for at in 1..places.len() {
        places[at] = places[at].max(places[at - 1] + APART);
    }
    let mut bottom = BOTTOM + 8.0;
    for place in places.iter_mut().rev() {
        *place = place.min(bottom);
        bottom = *place - APART;
    }
    places
}

/// `12k`, `0.5`.
fn number(value: f64) -> String {
    let (value, unit) = match value {
        v if v >= 1e6 => (v / 1e6, "M"),
        v if v >= 1e4 => (v / 1e3, "k"),
        v => (v, ""),
    };
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(value: f64) -> Spread {
        Spread::of([value * 0.9, value, value * 1.1]).unwrap()
    }

    /// No two styles share a colour or a pair of dashes and marker, so that each is enough; nothing to draw is no picture.
    #[test]
    fn lines_are_told_apart() {
        let line = |style: usize| Line {
            name: format!("row<{style}"),
            style,
            points: vec![(1.0, spread(10.0 + style as f64)), (2.0, spread(1000.0))],
        };
        let mut chart = Chart {
            title: "a & b".into(),
            subtitle: String::new(),
            x: Axis {
                title: "x".into(),
                ticks: vec![(1.0, "1".into()), (2.0, "2".into())],
            },
            y: "y".into(),
            lines: (0..STYLES.len()).map(line).collect(),
        };
        let text = svg(&chart).unwrap();
        assert!(text.contains("a &amp; b") && text.contains("row&lt;3"));
        assert_eq!(text, svg(&chart).unwrap());
        for (at, (colour, dashes, marker)) in STYLES.iter().enumerate() {
            for (other, d, m) in &STYLES[..at] {
                assert_ne!(colour, other);
                let draws = |marker| mark(marker, "#000", 0.0, 0.0);
                assert!(dashes != d || draws(*marker) != draws(*m));
            }
        }
        chart.lines.clear();
        assert!(svg(&chart).is_none());
    }

    /// Names keep their order and their distance and stay inside.
    #[test]
    fn names_do_not_lie_on_each_other() {
        let places = apart(&[100.0, 101.0, 102.0, 399.0, 400.0]);
        assert!(places.windows(2).all(|two| two[1] - two[0] >= APART - 1e-9));
        assert!(places.iter().all(|place| *place <= BOTTOM + 8.0));
        assert_eq!(
            [5000.0, 20_000.0, 0.5, 1e6].map(number),
            ["5000", "20k", "0.5", "1M"]
        );
    }
}
