//! How a sampled event is had together with the members of its group: handed on by the kernel, thread by thread, or not.
//!
//! In: what is to be sampled; out: a [`Plan`] that holds it, with a notice of what cannot be had as it was asked.

use super::attr::{Plan, Sampled};
use perf_event_open::config::{Cpu, Proc};
use perf_event_open::count::Counter;
use perf_event_open::count::group::CounterGroup;
use std::io;

impl Plan {
    /// Adds a leader with its members. Kernels before 6.12 hand no event on to threads made later that is read with its group:
    /// what was `asked` for is opened for each thread then. The usual group is not: threads would lose their first moments,
    /// and those that end sooner would be missed, for what nobody asked for.
    pub(super) fn add(&mut self, sampled: Sampled, asked: bool) {
        self.sampled.push(sampled);
        let last = self.sampled.len() - 1;
        if self.sampled[last].members.is_empty() {
            return;
        }
        match self.opens_group(last) {
            Ok(()) => self.tell_of_clock(last),
            Err(refused) if self.inherit && !self.per_thread => {
                self.per_thread = true;
                let alone = self.opens_group(last);
                self.per_thread = alone.is_ok() && asked;
                match alone {
                    Ok(()) if asked => {
                        self.notice(
                            "group-per-thread",
                            "this kernel hands no group that is read with every sample on to threads made later: it is \
                             opened for each thread, milliseconds after the thread began"
                                .to_string(),
                        );
                        self.tell_of_clock(last);
                    }
                    Ok(()) => self.without_members(last, &not_inherited()),
                    Err(_) => self.without_members(last, &refused.to_string()),
                }
            }
            Err(refused) => self.without_members(last, &refused.to_string()),
        }
    }

    /// Members are counted by themselves.
    fn without_members(&mut self, at: usize, why: &str) {
        let sampled = &mut self.sampled[at];
        let members = std::mem::take(&mut sampled.members);
        let names: Vec<_> = members.iter().map(|m| m.name.as_str()).collect();
        let text = format!(
            "{} cannot be read with every sample of {} ({why}): they are totals only",
            names.join(", "),
            sampled.leader.name
        );
        self.notice("no-group", text);
        self.counted.extend(members);
    }

    /// Threads of one process hand inherited events on to each other when they switch, but not those that are read with
    /// samples, nor those that are a thread's own.
    fn tell_of_clock(&mut self, at: usize) {
        if self.inherit && self.sampled[at].leader.is_a_clock() {
            self.notice(
                "clock-with-group",
                "a clock that is sampled with a group stands still whenever threads switch: threads that run for \
                 less than a tenth of a millisecond at a time are sampled too little; without the braces they are not"
                    .to_string(),
            );
        }
    }

    fn opens_group(&self, at: usize) -> io::Result<()> {
        let sampled = &self.sampled[at];
        let opts = self.sampling(&sampled.leader, false);
        let leader = Counter::new(&sampled.leader, (Proc::CURRENT, Cpu(0)), &opts)?;
        let mut group = CounterGroup::from(leader);
        for member in &sampled.members {
            group.add(member, self.member(member))?;
        }
        Ok(())
    }
}

fn not_inherited() -> String {
    "this kernel hands no such group on to threads made later; named in braces behind -e it is opened for each thread".to_owned()
}
