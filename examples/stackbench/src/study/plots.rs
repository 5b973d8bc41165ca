//! A study's pictures: each figure against what was swept, a line for each row, and the distribution of idle latency.
//!
//! In: a plan and the journal; out: charts with the names of their files.

use super::chart::{Axis, Chart, Line, svg};
use super::figures::{self, Figure};
use super::journal::Journal;
use super::plan::Plan;
use super::points::{Point, Workload, bytes};
use super::tables::{sweeps, told};
use crate::Failure;
use crate::markdown::thousands;
use crate::site::Stack;
use crate::spread::Spread;
use std::fs;
use std::path::Path;

/// A picture: its file's name, what it shows in words, its text.
pub struct Plot {
    /// In which workload's page it belongs.
    pub workload: Workload,
    /// Name of its file.
    pub file: String,
    /// What it shows.
    pub title: String,
    text: String,
}

impl Plot {
    /// Writes it into a folder.
    pub fn write(&self, folder: &Path) -> Result<(), Failure> {
        let path = folder.join(&self.file);
        fs::write(&path, &self.text).map_err(|source| Failure::Write {
            path: path.display().to_string(),
            source,
        })
    }
}

/// All pictures that there is something for.
pub fn all(plan: &Plan, journal: &Journal) -> Vec<Plot> {
    let mut plots = Vec::new();
    for workload in Workload::ALL {
        for sweep in sweeps(plan, workload) {
            // A curve of one point is none.
            if sweep.len() < 2 {
                continue;
            }
            for &figure in told(workload, sweep[0].rate.is_some()) {
                plots.extend(swept(plan, journal, &sweep, figure));
            }
        }
        if workload == Workload::IdleLatency {
            let points = sweeps(plan, workload).into_iter().flatten();
            plots.extend(points.filter_map(|point| distribution(plan, journal, point)));
        }
    }
    plots
}

fn short(figure: Figure) -> &'static str {
    match figure {
        Figure::Requests => "requests",
        Figure::Megabytes => "megabytes",
        Figure::P50 => "p50",
        Figure::P99 => "p99",
        Figure::Work => "work",
    }
}

fn style(stack: Stack) -> usize {
    Stack::ALL.iter().position(|s| *s == stack).unwrap_or(0)
}

fn subtitle(plan: &Plan) -> String {
    let (n, s) = (
        plan.repetitions,
        if plan.repetitions == 1 { "" } else { "s" },
    );
    format!("median of {n} run{s}, bars from the smallest to the largest")
}

fn swept(plan: &Plan, journal: &Journal, sweep: &[Point], figure: Figure) -> Option<Plot> {
    let first = sweep[0];
    let place = |point: &Point| f64::from(point.at).log10();
    let line = |&stack: &Stack| Line {
        name: stack.name().to_string(),
        style: style(stack),
        points: sweep
            .iter()
            .filter_map(|point| {
                let spread = figures::spread(journal, *point, (stack, None), figure)?;
                (spread.least > 0.0).then_some((place(point), spread))
            })
            .collect(),
    };
    let (what, tick): (&str, fn(&Point) -> String) = match first.workload {
        Workload::LargeSend | Workload::IdleLatency => ("length of a reply", |p| bytes(p.at)),
        Workload::Connections => ("connections", |p| thousands(f64::from(p.at), 0)),
        Workload::Multicore => ("threads of the server", |p| p.at.to_string()),
    };
    let open = first.rate.map_or(String::new(), |rate| {
        format!(", {} requests/s asked for", thousands(f64::from(rate), 0))
    });
    let title = format!("{}: {}{open}", first.workload.title(), figure.title());
    let chart = Chart {
        title: title.clone(),
        subtitle: subtitle(plan),
        x: Axis {
            title: what.to_string(),
            ticks: sweep
                .iter()
                .map(|point| (place(point), tick(point)))
                .collect(),
        },
        y: figure.title().to_string(),
        lines: plan.stacks.iter().map(line).collect(),
    };
    let open = if first.rate.is_some() { "-open" } else { "" };
    Some(Plot {
        workload: first.workload,
        file: format!("{}{open}-{}.svg", first.workload.name(), short(figure)),
        title,
        text: svg(&chart)?,
    })
}

/// Parts of the replies that a distribution's axis names.
const NAMED: [(f64, &str); 6] = [
    (0.0, "least"),
    (0.5, "50 %"),
    (0.9, "90 %"),
    (0.99, "99 %"),
    (0.999, "99.9 %"),
    (0.9999, "99.99 %"),
];

/// Those that have a marker.
const DRAWN: [f64; 10] = [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999];

/// How long so large a part of the replies took: to the right, each nine has the same room.
fn distribution(plan: &Plan, journal: &Journal, point: Point) -> Option<Plot> {
    let nines = |part: f64| -(1.0 - part).log10();
    let line = |&stack: &Stack| {
        let runs = figures::runs(journal, point, (stack, None));
        let runs: Vec<_> = runs.iter().filter_map(|run| run.measured()).collect();
        let told = runs.first().map_or(&[][..], |first| {
            first.figures.latency_ns.distribution.as_slice()
        });
        // More would lie on each other; a part of which there is not one reply says nothing.
        let replies = runs.iter().map(|m| m.figures.requests).min().unwrap_or(0);
        let known = |part: &f64| DRAWN.contains(part) && (1.0 - part) * replies as f64 >= 1.0;
        let points = told.iter().enumerate().filter(|(_, (part, _))| known(part));
        let points = points.filter_map(|(at, (part, _))| {
            let of_run = |m: &&crate::measure::Measured| {
                let (_, ns) = m.figures.latency_ns.distribution.get(at)?;
                Some(*ns as f64 / 1e3)
            };
            let spread = Spread::of(runs.iter().filter_map(of_run))?;
            (spread.least > 0.0).then_some((nines(*part), spread))
        });
        Line {
            name: stack.name().to_string(),
            style: style(stack),
            points: points.collect(),
        }
    };
    let title = format!("Idle latency: distribution, replies of {}", bytes(point.at));
    let chart = Chart {
        title: title.clone(),
        subtitle: subtitle(plan),
        x: Axis {
            title: "so many replies took no longer".to_string(),
            ticks: NAMED
                .map(|(part, words)| (nines(part), words.to_string()))
                .into(),
        },
        y: "latency, us".to_string(),
        lines: plan.stacks.iter().map(line).collect(),
    };
    Some(Plot {
        workload: point.workload,
        file: format!("{}-distribution-{}.svg", point.workload.name(), point.at),
        title,
        text: svg(&chart)?,
    })
}
