//! Where requests spend their time as a flame graph: stages outside, what was done or waited for inside.
//!
//! In: [`Latency`], and the profile that its stacks are of; out: SVG in ns per request. Frames of working have their
//! function's phase for colour, waiting is grey.

use super::flame::colours;
use super::style::{duration, printable};
use super::table::command;
use crate::analyse::Profile;
use crate::analyse::latency::{Inside, Latency, Sampled};
use crate::analyse::spans::{BEHIND, Kind, STAGES};
use flamegraphs::{Diff, DrawError, Picture, Tree};
use std::io::Write;

/// Weights are whole numbers: so many of them are a nanosecond of a request.
const PARTS: f64 = 1000.0;

/// What each stage that is waiting waits for.
pub(super) fn waiting_for(stage: usize) -> &'static str {
    match STAGES[stage].name {
        "wait_handoff" => "waiting in a queue between threads",
        "wait_wakeup" => "waiting for the thread to wake up",
        "wait_app" => "waiting for the thread to come to the application",
        "wait_send" => "waiting for the stack to send",
        _ => "waiting for the burst to begin",
    }
}

/// Frames of whom a request was behind, in the order of [`BEHIND`].
const BEHIND_FRAMES: [&str; BEHIND.len()] = [
    "waiting for frames before it in the burst",
    "waiting for earlier requests of its flow",
    "waiting for other requests of the thread",
];
const OFF_CPU: &str = "waiting for a CPU (off CPU)";
const NOT_SAMPLED: &str = "not sampled";

/// Stages, then what they are made of, in `PARTS` of a ns of one request.
pub fn tree(latency: &Latency, sampled: &Sampled, profile: &Profile) -> Tree {
    let mut tree = Tree::new();
    let ticks = latency.requests.max(1) as f64 / profile.ns_per_tick.unwrap_or(1.0) / PARTS;
    // Rounded up to the end of each part, so that all of them are the rounded whole.
    let (mut until, mut given) = (0u64, 0u64);
    for part in latency.parts() {
        until += part.ticks;
        let end = (until as f64 / ticks).round() as u64;
        let weight = end - std::mem::replace(&mut given, end);
        let mut frames = vec![STAGES[part.stage].name.to_owned()];
        match part.inside {
            Inside::Sampled(thread, node) => {
                frames.push(printable(sampled.name(thread)));
                let mut stack: Vec<_> = profile.stacks.innermost_first(node).collect();
                stack.reverse();
                let names = stack.iter().map(|&f| profile.stacks.get(f).name.clone());
                frames.extend(names);
            }
            Inside::NotSampled => frames.push(NOT_SAMPLED.to_owned()),
            Inside::Waiting => frames.push(waiting_for(part.stage).to_owned()),
            Inside::Behind(whom) => frames.push(BEHIND_FRAMES[whom].to_owned()),
            Inside::OffCpu => frames.push(OFF_CPU.to_owned()),
        }
        tree.add(frames, weight);
    }
    tree
}

fn picture(profile: &Profile, title: String, subtitle: String) -> Picture {
    let mut phases = colours(profile);
    let waits = (0..STAGES.len() - 1).filter(|&s| STAGES[s].kind == Kind::Wait);
    for stage in waits {
        phases.insert(STAGES[stage].name.to_owned(), "poll".to_owned());
        phases.insert(waiting_for(stage).to_owned(), "poll".to_owned());
    }
    for frame in BEHIND_FRAMES.iter().chain([&OFF_CPU]) {
        phases.insert((*frame).to_owned(), "poll".to_owned());
    }
    Picture {
        title,
        subtitle,
        unit: "ns a request".to_owned(),
        factor: 1.0 / PARTS,
        phases,
        ..Picture::default()
    }
}

/// The mean way of a request, as text.
fn mean(latency: &Latency, profile: &Profile) -> String {
    let ns = latency.total as f64 * profile.ns_per_tick.unwrap_or(1.0);
    duration((ns / latency.requests.max(1) as f64) as u64)
}

/// Requests as titles say it: how many, and how long they are.
fn some(latency: &Latency, profile: &Profile) -> String {
    format!(
        "{} requests of {} on average",
        latency.requests,
        mean(latency, profile)
    )
}

/// Draws the slowest requests beside the `rest`: what both have, what is more, what is less, in ns a request; gives the
/// line of trust.
pub fn draw_difference(
    (latency, sampled, profile): (&Latency, &Sampled, &Profile),
    rest: &Latency,
    out: impl Write,
) -> Result<String, DrawError> {
    let (slow, others) = (some(latency, profile), some(rest, profile));
    let title = format!(
        "{}: the slowest {slow}, beside the rest {others}",
        command(profile)
    );
    let line = trust(latency, profile);
    let picture = picture(profile, title, line.clone());
    let was = tree(rest, sampled, profile);
    let diff = Diff::unscaled(&was, &tree(latency, sampled, profile));
    flamegraphs::draw_parts(&diff, ["in both", "more", "less"], &picture, out)?;
    Ok(line)
}

/// Draws where requests spend their time; gives the line of trust. If these are only the slowest, `rest` is the others.
pub fn draw(
    (latency, sampled, profile): (&Latency, &Sampled, &Profile),
    rest: Option<&Latency>,
    out: impl Write,
) -> Result<String, DrawError> {
    let mut title = format!("{}: ", command(profile));
    match rest {
        None => title += &some(latency, profile),
        Some(rest) => {
            let (slow, others) = (some(latency, profile), some(rest, profile));
            title += &format!("the slowest {slow}, the rest {others}");
        }
    }
    let line = trust(latency, profile);
    let picture = picture(profile, title, line.clone());
    flamegraphs::draw(&tree(latency, sampled, profile), &picture, out)?;
    Ok(line)
}

/// Functions rest on these samples, and the stages on events.
fn trust(latency: &Latency, profile: &Profile) -> String {
    format!(
        "{}; {} samples in stages of work",
        profile.trust.line(),
        latency.samples
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyse::spans::way::Way;

    /// The picture is as wide as a request is long on average, to a thousandth of a ns, whatever the rounding.
    #[test]
    fn as_wide_as_the_mean() {
        let mut latency = Latency::default();
        for start in [0, 7, 11] {
            let ends = [5, 6, 7, 8, 10, 13, 17, 19, 23].map(|end| Some(start * 2 + end));
            latency.add(
                &Way::new(1, start, ends, [None; 3], [1, 1, 0]),
                &Sampled::default(),
            );
        }
        let profile = Profile {
            ns_per_tick: Some(0.37),
            ..Profile::default()
        };
        let tree = tree(&latency, &Sampled::default(), &profile);
        let mean = latency.total as f64 * 0.37 / 3.0;
        assert_eq!(tree.total(), (mean * PARTS).round() as u64);
        assert_eq!(tree.root().children.len(), 9);
        let waits = &tree.root().children["wait_app"].children;
        assert!(waits.contains_key("waiting for earlier requests of its flow"));
    }
}
