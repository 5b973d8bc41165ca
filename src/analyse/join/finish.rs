//! The end of the pass: what was joined becomes a [`Profile`].
//!
//! In: a pass that has seen all; out: threads that ran, weights, totals and how far to trust them.

use super::Join;
use super::thread::{Finished, Thread};
use crate::analyse::classify;
use crate::analyse::grouped::Grouped;
use crate::analyse::profile::{Cell, Profile, Slice, Work};
use crate::analyse::timeline::Cpu;

impl Join {
    /// Ends the pass. `damage` says what is wrong with the file, if anything.
    pub fn finish(mut self, damage: Option<String>) -> Profile {
        for ring in self.rings.values_mut() {
            let Some(thread) = self.threads.get_mut(ring.owner) else {
                continue;
            };
            let (states, timeline) = (&mut ring.states, &mut thread.timeline);
            let placed = self.facts.clock.is_some();
            ring.decoder.flush(&mut |event| {
                if placed {
                    states.event(&event, &mut |t| timeline.transition(t));
                }
            });
        }
        self.finish_trust(damage);
        let end = self.facts.end.unwrap_or(self.newest).min(self.facts.span.1);
        let end_ticks = self.ticks(end);
        let mut threads = Vec::new();
        let (mut weights, mut cells) = (Vec::new(), Vec::new());
        let mut grouped = Grouped {
            names: self.facts.group_of(self.sampled_event),
            ..Grouped::default()
        };
        let mut slices = vec![Slice::default(); self.edges.len()];
        for ((pid, tid), thread) in std::mem::take(&mut self.threads).into_sorted() {
            if !thread.wanted {
                continue;
            }
            let place = threads.len();
            self.trust.late_records += thread.timeline.late();
            let never_switched = self.before_any_switch(&thread);
            let Finished {
                row,
                sums: of_thread,
                slices: of_slices,
            } = thread.finish(pid, tid, end_ticks, never_switched, &self.edges);
            // A thread that neither ran nor has probes has nothing to show, and one with probes has not when it is not
            // in the part that is asked for.
            let lives = row.probes && (self.filter.is_open() || row.shares.total() > 0);
            if row.samples == 0 && !lives && row.on_cpu() == 0.0 {
                continue;
            }
            threads.push(row);
            let placed = |((root, node), w)| ((place, root, node), w);
            weights.extend(of_thread.weights.into_iter().map(placed));
            let of_cells = of_thread.cells.map(|(_, cells)| cells).unwrap_or_default();
            cells.extend(of_cells.into_iter().map(|((window, cpu, root, node), w)| {
                let cell = Cell {
                    thread: place,
                    window,
                    cpu,
                    root,
                    node,
                };
                (cell, w)
            }));
            let counts = of_thread.counts.into_iter();
            grouped
                .counts
                .extend(counts.map(|((root, node), c)| ((place, root, node), c)));
            for (slice, (shares, weights)) in slices.iter_mut().zip(of_slices) {
                slice.shares.push(shares);
                slice.weights.extend(weights.into_iter().map(placed));
            }
        }
        let event = self
            .facts
            .session
            .events
            .get(usize::from(self.sampled_event));
        let mut profile = Profile {
            event: event.map_or_else(String::new, |e| e.name.clone()),
            user_only: event.is_some_and(|e| e.user_only),
            wall_ns: end
                .since(self.facts.session.started.max(self.facts.span.0))
                .ns(),
            ns_per_tick: self.facts.clock.map(|c| c.ns_per_tick()),
            totals: self.facts.work(),
            session: self.facts.session,
            notices: self.facts.notices,
            packs: Vec::new(),
            architecture: String::new(),
            threads,
            stacks: self.stacks,
            weights: weights.into_iter().collect(),
            cells,
            grouped,
            slices,
            trust: self.trust,
        };
        if let Some(stretches) = &self.stretches {
            // Nothing else is counted by request.
            profile.totals = Work {
                requests: stretches.requests,
                ..Work::default()
            };
        }
        classify::classify(&mut profile, &self.packs);
        profile
    }

    /// Where a thread is that never switches: where it was seen to run.
    fn before_any_switch(&self, thread: &Thread) -> Cpu {
        if self.facts.session.switches_unknown {
            return Cpu::Elsewhere;
        }
        let left_out = !self.filter.cpus.is_empty();
        let here = !left_out || thread.cpu.is_some_and(|cpu| self.filter.has_cpu(cpu));
        match (thread.seen_running && here, left_out) {
            (true, _) => Cpu::On,
            (false, true) => Cpu::Elsewhere,
            (false, false) => Cpu::Off,
        }
    }

    fn finish_trust(&mut self, damage: Option<String>) {
        let part = |weight: u64| weight as f64 / self.weight_seen.max(1) as f64;
        self.trust.stacks_truncated_share = part(self.weight_truncated);
        self.trust.stacks_unknown_share = part(self.weight_unknown);
        self.trust.samples_lost = self.facts.samples_lost;
        self.trust.rings_unreached = self.facts.rings_unreached;
        for (id, ring) in &self.rings {
            let counts = ring.decoder.counts();
            self.trust.events += counts.events;
            // The writer's own count and what is missing in the recording overlap: the larger one is the loss.
            let seen = counts.lost_slots.saturating_add(ring.lost);
            let told = self.facts.totals.get(id).map_or(0, |t| t.dropped_slots);
            let dropped = seen.max(told);
            self.trust.events_dropped = self.trust.events_dropped.saturating_add(dropped);
        }
        self.trust.clock_error_ns = self.facts.clock.map(|c| c.error().ns());
        let wall = self
            .facts
            .end
            .map(|e| e.since(self.facts.session.started).ns());
        self.trust.observer_share = match (self.facts.recorder_cpu_ns, wall) {
            (Some(cpu), Some(wall)) if wall > 0 => Some(cpu as f64 / wall as f64),
            _ => None,
        };
        self.trust.damage = damage;
        let parts = [
            self.filter.line(),
            self.stretches.as_ref().map(|s| s.line.clone()),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        self.trust.filtered = (!parts.is_empty()).then(|| parts.join(", "));
    }
}
