//! What was measured, by row and point: medians with their spread, and two rows compared run by run.
//!
//! In: the journal's runs without the recorded ones; out: spreads, and ratios of rows with their 95 % intervals. Rows are
//! compared within each repetition, in which they ran after each other, so that what the machine did in one repetition and
//! not in another does not widen the interval.

use super::journal::{Journal, Run};
use super::points::{Point, Workload};
use crate::interval::Interval;
use crate::measure::{Measured, Outcome};
use crate::site::Stack;
use crate::spread::Spread;

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Replies per second.
    Requests,
    /// Bytes received, in MB/s.
    Megabytes,
    /// The middle latency in us.
    P50,
    /// What one reply in a hundred took longer than, in us.
    P99,
    /// The server's work for a request in us.
    Work,
}

impl Figure {
    /// Of a run; a latency of none is none.
    pub fn of(self, measured: &Measured) -> Option<f64> {
        let figures = &measured.figures;
        let us = |ns: u64| (figures.requests > 0).then_some(ns as f64 / 1e3);
        match self {
            Figure::Requests => Some(figures.requests_per_second),
            Figure::Megabytes => Some(figures.bytes_per_second / 1e6),
            Figure::P50 => us(figures.latency_ns.p50),
            Figure::P99 => us(figures.latency_ns.p99),
            Figure::Work => measured.work_ns.map(|ns| ns / 1e3),
        }
    }

    /// Which says who wins a workload.
    pub fn that_counts(workload: Workload) -> Figure {
        match workload {
            Workload::LargeSend => Figure::Megabytes,
            Workload::IdleLatency => Figure::P50,
            Workload::Connections | Workload::Multicore => Figure::Requests,
        }
    }

    /// Whether less is better.
    pub fn less_is_better(self) -> bool {
        matches!(self, Figure::P50 | Figure::P99 | Figure::Work)
    }

    /// Its name with its unit.
    pub fn title(self) -> &'static str {
        match self {
            Figure::Requests => "requests/s",
            Figure::Megabytes => "MB/s",
            Figure::P50 => "latency, median, us",
            Figure::P99 => "latency, 99 %, us",
            Figure::Work => "the server's work for a request, us",
        }
    }
}

/// A row: a stack as it is, or as an experiment changes it.
pub type Row<'a> = (Stack, Option<&'a str>);

/// A row's runs at a point, recorded ones left out; of one that was tried again the last.
pub fn runs<'a>(journal: &'a Journal, point: Point, row: Row) -> Vec<&'a Run> {
    let mut runs: Vec<&Run> = Vec::new();
    for run in &journal.runs {
        let of_row = (run.stack, run.experiment.as_deref()) == row && run.point == point;
        if of_row && run.recording.is_none() {
            runs.retain(|earlier| earlier.repetition != run.repetition);
            runs.push(run);
        }
    }
    runs
}

/// A figure's median and spread.
pub fn spread(journal: &Journal, point: Point, row: Row, figure: Figure) -> Option<Spread> {
    let runs = runs(journal, point, row);
    Spread::of(runs.iter().filter_map(|run| figure.of(run.measured()?)))
}

/// Why a row has no figure at a point, in a word.
pub fn why_none(journal: &Journal, point: Point, row: Row) -> &'static str {
    match runs(journal, point, row).last().map(|run| &run.run) {
        Some(Outcome::Absent { .. }) => "absent",
        Some(Outcome::Refused { .. }) => "refused",
        Some(Outcome::Failed { .. }) => "failed",
        _ => "-",
    }
}

/// A ratio with the interval that holds the true one with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// The middle.
    pub of: f64,
    /// From here.
    pub low: f64,
    /// To here; infinite with a single repetition.
    pub high: f64,
}

impl Ratio {
    /// Of one row's figure to another's, repetition by repetition.
    pub fn between(
        journal: &Journal,
        point: Point,
        [row, other]: [Row; 2],
        figure: Figure,
    ) -> Option<Ratio> {
        let value = |run: &&Run| Some((run.repetition, figure.of(run.measured()?)?));
        let others: Vec<_> = runs(journal, point, other)
            .iter()
            .filter_map(value)
            .collect();
        let own = runs(journal, point, row);
        let logs: Vec<f64> = own
            .iter()
            .filter_map(value)
            .filter_map(|(repetition, own)| {
                let other = others.iter().find(|(r, _)| *r == repetition)?.1;
                (own > 0.0 && other > 0.0).then(|| (own / other).ln())
            })
            .collect();
        if logs.is_empty() {
            return None;
        }
        let mean = Interval::of(&logs);
        Some(Ratio {
            of: mean.mean.exp(),
            low: (mean.mean - mean.half).exp(),
            high: (mean.mean + mean.half).exp(),
        })
    }

    /// `1.52 (1.41 to 1.63)`.
    pub fn words(&self) -> String {
        match self.high.is_finite() {
            true => format!("{:.2} ({:.2} to {:.2})", self.of, self.low, self.high),
            false => format!("{:.2} (one run: no interval)", self.of),
        }
    }
}

/// Rows that have a figure at a point, the best one first.
pub fn ranked(
    journal: &Journal,
    point: Point,
    rows: &[Stack],
    figure: Figure,
) -> Vec<(Stack, Spread)> {
    let of = |&stack: &Stack| Some((stack, spread(journal, point, (stack, None), figure)?));
    let mut ranked: Vec<_> = rows.iter().filter_map(of).collect();
    ranked.sort_by(|(_, a), (_, b)| a.median.total_cmp(&b.median));
    if !figure.less_is_better() {
        ranked.reverse();
    }
    ranked
}
