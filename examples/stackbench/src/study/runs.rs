//! The runs of a study: which are left, in which order, and doing them.
//!
//! In: a plan and what was done of it; out: a line in the journal for each run. All rows of a point come after each other,
//! in an order that moves on by one with each repetition, and repetitions of a point are as far apart as the study is
//! long, so that what the machine does meanwhile hits all rows alike.

use super::journal::{Journal, Run};
use super::plan::{Experiment, Plan, Recording};
use super::points::Point;
use crate::Failure;
use crate::cpus::Cpus;
use crate::measure::{Bench, Outcome};
use crate::programs::Programs;
use crate::progress::Progress;
use crate::site::Stack;
use crate::stop::Stop;
use netlab::Lab;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Starting, connecting and ending, besides the load itself; recorded, the recorder's own as well.
const AROUND: [Duration; 2] = [Duration::from_millis(400), Duration::from_millis(800)];

/// What runs need.
pub struct Setting<'a> {
    /// The right to make networks.
    pub lab: &'a Lab,
    /// What is run.
    pub programs: &'a Programs,
    /// Ctrl-C.
    pub stop: &'a Stop,
    /// Where files go.
    pub out: &'a Path,
    /// What is done.
    pub plan: &'a Plan,
}

/// One run that is to be done.
#[derive(Clone, Debug)]
pub struct Task {
    stack: Stack,
    experiment: Option<Experiment>,
    point: Point,
    repetition: u32,
    recorded: bool,
}

impl Task {
    fn length(&self, plan: &Plan) -> Duration {
        AROUND[usize::from(self.recorded)] + Duration::from_secs_f64(plan.seconds + plan.warmup)
    }

    fn words(&self, plan: &Plan) -> String {
        format!(
            "repetition {} of {}, {}: {}{}",
            self.repetition,
            plan.repetitions,
            self.point.words(),
            match &self.experiment {
                Some(experiment) => &experiment.name,
                None => self.stack.name(),
            },
            if self.recorded { ", recorded" } else { "" }
        )
    }

    fn name(&self) -> Option<&str> {
        self.experiment.as_ref().map(|e| e.name.as_str())
    }

    fn is(&self, run: &Run) -> bool {
        self.is_row_of(run)
            && self.repetition == run.repetition
            && self.recorded == run.recording.is_some()
    }

    fn is_row_of(&self, run: &Run) -> bool {
        self.point == run.point
            && self.stack == run.stack
            && self.name() == run.experiment.as_deref()
    }
}

/// All runs of a plan, in their order.
fn tasks(plan: &Plan) -> Vec<Task> {
    let mut tasks = Vec::new();
    for repetition in 1..=plan.repetitions {
        for point in plan.points() {
            let mut rows: Vec<_> = plan.stacks.iter().map(|&stack| (stack, None)).collect();
            let here = plan.experiment.iter().filter(|e| e.point() == point);
            rows.extend(here.map(|e| (e.stack, Some(e.clone()))));
            let first = repetition as usize % rows.len();
            rows.rotate_left(first);
            for (stack, experiment) in rows {
                let task = |recorded| Task {
                    stack,
                    experiment: experiment.clone(),
                    point,
                    repetition,
                    recorded,
                };
                tasks.push(task(false));
                if plan.record == Recording::Every || repetition == 1 {
                    tasks.push(task(true));
                }
            }
        }
    }
    tasks
}

/// Those that are not done yet. What failed is tried again.
pub fn left(plan: &Plan, journal: &Journal) -> Vec<Task> {
    let done = |task: &Task| {
        journal
            .runs
            .iter()
            .any(|run| task.is(run) && run.is_final())
    };
    let mut tasks = tasks(plan);
    tasks.retain(|task| !done(task));
    tasks
}

/// How many and how long.
pub fn words(plan: &Plan) -> String {
    let tasks = tasks(plan);
    let length: Duration = tasks.iter().map(|task| task.length(plan)).sum();
    let recorded = tasks.iter().filter(|task| task.recorded).count();
    format!(
        "{} points, {} rows, {} experiments, {} repetitions: {} runs, {recorded} more recorded, about {} minutes\n",
        plan.points().len(),
        plan.stacks.len(),
        plan.experiment.len(),
        plan.repetitions,
        tasks.len() - recorded,
        length.as_secs().div_ceil(60)
    )
}

/// Does them.
pub fn all(setting: &Setting, journal: &mut Journal, tasks: Vec<Task>) -> Result<(), Failure> {
    let plan = setting.plan;
    let length = |task: &Task| task.length(plan);
    let mut progress = Progress::new(tasks.iter().map(length).sum());
    let mut absent = BTreeSet::new();
    for task in &tasks {
        progress.step(&task.words(plan));
        let refused = |run: &Run| matches!(run.run, Outcome::Refused { .. });
        let was_refused = journal
            .runs
            .iter()
            .any(|run| task.is_row_of(run) && refused(run));
        // What was refused once is not asked again, and a row that is not there does not come.
        if !was_refused && !absent.contains(&task.stack) {
            let run = one(setting, journal.sessions.len(), task)?;
            if let Outcome::Absent { .. } = run.run {
                let before = journal.runs.iter().any(|r| {
                    r.stack == run.stack && r.experiment.is_none() && r.measured().is_some()
                });
                // One that was there before, or that an experiment's arguments kept from starting, did not start.
                if !before && run.experiment.is_none() {
                    absent.insert(task.stack);
                }
            }
            journal.run(run)?;
        }
        progress.passed(length(task));
    }
    progress.done();
    Ok(())
}

fn one(setting: &Setting, session: usize, task: &Task) -> Result<Run, Failure> {
    let mut job = task
        .point
        .job(setting.plan, task.stack, task.experiment.as_ref());
    let cpus = Cpus::apart(task.point.cpus(task.stack));
    job.load.threads = cpus.of_client().min(job.load.connections as usize);
    let recording = task.recorded.then(|| {
        let stem = format!("{}-{}", task.stack.name(), job.name);
        format!("{stem}-{}.mcap", task.repetition)
    });
    job.recording = recording.as_ref().map(|name| setting.out.join(name));
    let bench = Bench {
        lab: setting.lab,
        programs: setting.programs,
        stop: setting.stop,
        cpus,
        out: setting.out,
    };
    let run = match task.point.impossible(task.stack) {
        Some(words) => Outcome::Refused {
            words: words.to_string(),
        },
        None => bench.run(task.stack, &job)?,
    };
    if let (Some(file), Outcome::Absent { .. } | Outcome::Refused { .. }) = (&job.recording, &run) {
        // What a server that did not serve left is no recording of anything.
        let _ = fs::remove_file(file);
    }
    Ok(Run {
        stack: task.stack,
        experiment: task.experiment.as_ref().map(|e| e.name.clone()),
        point: task.point,
        repetition: task.repetition,
        session,
        recording,
        run,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows take turns in being first, and every point is recorded once by the reduced plan.
    #[test]
    fn interleaved() {
        let plan = Plan::reduced().unwrap();
        let tasks = tasks(&plan);
        let first = |repetition: u32| {
            let mut own = tasks.iter();
            own.find(|task| task.repetition == repetition)
                .unwrap()
                .stack
        };
        assert_ne!(first(1), first(2));
        assert_ne!(first(2), first(3));
        let rows = plan.points().len() * plan.stacks.len() + plan.experiment.len();
        let recorded = tasks.iter().filter(|task| task.recorded).count();
        assert_eq!(recorded, rows);
        assert_eq!(tasks.len(), rows * (plan.repetitions as usize + 1));
    }
}
