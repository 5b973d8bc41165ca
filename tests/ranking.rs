//! Several recordings held against the best of their workload: who that is, what is the same, and what makes the others
//! worse.

use crate::compare::run::{LOAD, Load, compared};
use bypassprof::analyse::compare::Side;
use bypassprof::analyse::explain::across::Of;
use bypassprof::analyse::explain::ranking::{By, Group, groups};

fn ranked(loads: &[Load]) -> (Vec<Side>, Vec<Group>) {
    let sides: Vec<Side> = loads.iter().map(|load| compared("x", load)).collect();
    let groups = groups(&sides);
    (sides, groups)
}

fn order(group: &Group) -> Vec<usize> {
    group.places.iter().map(|place| place.side).collect()
}

/// Workloads apart, the one that answers most first, the slow one last and for the reason that was planted.
#[test]
fn best_first() {
    let large = Load {
        body: 4_096,
        ..LOAD
    };
    let (_, groups) = ranked(&[
        Load {
            drain: 101_000,
            ..LOAD
        },
        Load { seed: 2, ..LOAD },
        large.clone(),
        Load { seed: 3, ..LOAD },
        Load { seed: 4, ..large },
    ]);
    assert_eq!(groups.len(), 2);
    let first = &groups[0];
    assert_eq!((first.by, first.places.len()), (By::Rate, 3));
    assert_eq!(first.places[2].side, 0);
    let differs = |at: usize| {
        let against = first.places[at].against.as_ref().unwrap();
        against.comparison.wall.unwrap().believed
    };
    assert!(first.places[0].against.is_none() && !differs(1) && differs(2));
    let causes = &first.places[2].against.as_ref().unwrap().causes;
    let latency = causes.iter().find(|c| c.of == Of::Latency).unwrap();
    assert_eq!(latency.causes[0].id, "F1", "{latency:#?}");
    let mut rest = order(&groups[1]);
    rest.sort_unstable();
    assert_eq!(rest, [2, 4]);
}

/// Where all answer as many requests a second, time in the server decides; where that is the same too, nothing does.
#[test]
fn as_many_requests() {
    let slow = Load {
        app: 13_000,
        idle: 12_000,
        ..LOAD
    };
    let (_, groups) = ranked(&[slow, Load { seed: 2, ..LOAD }]);
    assert_eq!((groups[0].by, order(&groups[0])), (By::Latency, vec![1, 0]));
    let (_, groups) = ranked(&[LOAD, Load { seed: 2, ..LOAD }]);
    assert_eq!(groups[0].by, By::Rate);
    // Without requests there is nothing to rank.
    let (sides, groups) = ranked(&[
        Load {
            requests: 0,
            ..LOAD
        },
        LOAD,
    ]);
    assert!(groups.is_empty() && sides.len() == 2);
}
