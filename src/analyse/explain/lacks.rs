//! What a recording lacks, so that less can be said of it than could be: and what to record next.
//!
//! In: facts; out: a sentence for each. It refuses to know what was found.

use super::Facts;
use super::facts::Events;
use crate::analyse::estimate::Share;

/// Samples below which no rule that rests on them speaks: as few as no interval is worth anything for.
pub const FEW: u64 = 30;
/// Samples below which it is told how little a share of them says: to about 5 points in 100.
const SOME: u64 = 400;

/// What is missing, the gravest first.
pub fn lacks(facts: &Facts) -> Vec<String> {
    let mut lacks = Vec::new();
    match facts.samples {
        Some(n) if n < FEW => lacks.push(format!(
            "{n} samples are too few for rules that rest on them: record for longer, or more often (`record -F`)"
        )),
        Some(n) if n < SOME => {
            let half = Share::sampled(0.5, 1.0, n as f64);
            let points = 50.0 * (half.high - half.low);
            lacks.push(format!(
                "{n} samples tell a share of them to {points:.0} points in 100 (95 %): record for longer, or more often (`record -F`)"
            ));
        }
        _ => {}
    }
    match facts.events {
        Some(Events::None) => lacks.push(
            "no events: record a program with probes to see where requests wait, and to be sure of what is suspected"
                .into(),
        ),
        Some(Events::NoRequests) => lacks.push(
            "no request is told from beginning to end: record while it serves, with the points app_start and app_end, to see where requests wait"
                .into(),
        ),
        Some(Events::Lost(share)) => lacks.push(format!(
            "{:.1} % of the events were lost: record with larger rings (BYPASSPROF_RING_SLOTS), or the recorder on a CPU of its own (--housekeeping-cpus)",
            100.0 * share
        )),
        Some(Events::Whole) | None => {}
    }
    if facts.kernel_unseen && facts.stack == "linux" {
        lacks.push(
            "the kernel was not sampled, in which this stack runs: record as root, or as docs/guide/permissions.md says"
                .into(),
        );
    }
    lacks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyse::explain::explain;

    /// Each thing that is missing is told with what to do about it; where nothing is missing, nothing is said.
    #[test]
    fn each() {
        let whole = Facts {
            samples: Some(SOME),
            events: Some(Events::Whole),
            ..Facts::default()
        };
        assert_eq!(lacks(&whole), [""; 0]);
        let with = |change: fn(&mut Facts)| {
            let mut facts = whole.clone();
            change(&mut facts);
            lacks(&facts).join("\n")
        };
        assert!(with(|f| f.samples = Some(FEW - 1)).contains("too few"));
        assert!(with(|f| f.samples = Some(FEW)).contains("to 17 points"));
        assert!(with(|f| f.samples = Some(SOME - 1)).contains("to 5 points"));
        assert!(with(|f| f.events = Some(Events::None)).contains("with probes"));
        assert!(with(|f| f.events = Some(Events::NoRequests)).contains("app_start"));
        assert!(with(|f| f.events = Some(Events::Lost(0.25))).contains("25.0 %"));
        let unseen = |stack: &str| Facts {
            kernel_unseen: true,
            stack: stack.into(),
            ..whole.clone()
        };
        assert!(lacks(&unseen("linux"))[0].contains("as root"));
        assert_eq!(lacks(&unseen("ix")), [""; 0]);
    }

    /// A dozen samples show no cause, however many of them lie in one place; what events show they show all the same.
    #[test]
    fn few_samples_show_nothing() {
        let found = |samples, stack: &str| {
            let facts = Facts {
                samples,
                stack: stack.into(),
                busy: 0.9,
                phases: [("tcp_timer".to_owned(), 0.3)].into(),
                requests: 100,
                detours_per_request: 1.0,
                ..Facts::default()
            };
            explain(&facts).iter().map(|f| f.id).collect::<Vec<_>>()
        };
        assert_eq!(found(Some(FEW), "tas"), ["T4", "T7"]);
        assert_eq!(found(Some(FEW - 1), "tas"), ["T7"]);
    }
}
