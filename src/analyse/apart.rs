//! Threads' counts one by one, and what of all counts is no thread's own.
//!
//! In: the counts of all together and of each thread; out: [`Apart`]. It refuses to know why a part is no thread's own.

use super::counts::{Count, Counts};

/// One thread's counts.
#[derive(Clone, Debug, PartialEq)]
pub struct ThreadCounts {
    /// Its number.
    pub tid: u32,
    /// Its name; empty if that is not known.
    pub name: String,
    /// What was counted of it.
    pub counts: Counts,
}

/// All threads, and the rest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Apart {
    /// Those with the most of the first event first.
    pub threads: Vec<ThreadCounts>,
    /// What was counted of all together beyond what each was counted by itself.
    pub rest: Vec<Count>,
}

impl Apart {
    /// `all`: of the same run.
    pub fn of(all: &Counts, mut threads: Vec<ThreadCounts>) -> Apart {
        let leading = all.counts.iter().position(|c| c.value.is_some());
        let value = |thread: &ThreadCounts, at: usize| {
            thread
                .counts
                .counts
                .get(at)
                .and_then(|c| c.value)
                .unwrap_or(0.0)
        };
        if let Some(at) = leading {
            threads.sort_by(|a, b| value(b, at).total_cmp(&value(a, at)));
        }
        let rest = |(at, count): (usize, &Count)| {
            let own: f64 = threads.iter().map(|t| value(t, at)).sum();
            Count {
                name: count.name.clone(),
                unit: count.unit.clone(),
                why: count.why.clone(),
                // Scaled counts are estimates: their sum may be more than the whole.
                value: count.value.map(|all| (all - own).max(0.0)),
                ..Count::default()
            }
        };
        Apart {
            rest: all.counts.iter().enumerate().map(rest).collect(),
            threads,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(values: &[Option<f64>]) -> Counts {
        let count = |(at, &value): (usize, &Option<f64>)| Count {
            name: format!("event-{at}"),
            value,
            ..Count::default()
        };
        Counts {
            counts: values.iter().enumerate().map(count).collect(),
            ..Counts::default()
        }
    }

    /// The rest is what no thread has; the order is that of the first event that could be counted.
    #[test]
    fn the_rest() {
        let all = counts(&[None, Some(100.0), Some(7.0)]);
        let thread = |tid, values: &[Option<f64>]| ThreadCounts {
            tid,
            name: String::new(),
            counts: counts(values),
        };
        let threads = vec![
            thread(1, &[None, Some(20.0), Some(5.0)]),
            thread(2, &[None, Some(70.0), Some(4.0)]),
        ];
        let apart = Apart::of(&all, threads);
        let order: Vec<_> = apart.threads.iter().map(|t| t.tid).collect();
        assert_eq!(order, [2, 1]);
        let rest: Vec<_> = apart.rest.iter().map(|c| c.value).collect();
        assert_eq!(rest, [None, Some(10.0), Some(0.0)]);
    }
}
