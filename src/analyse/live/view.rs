//! What is told of an interval: shares of time, rates and means, each `None` where it is not known.
//!
//! In: ticks by state, counts and the time they took; out: plain numbers. All arithmetic of the live view is here. It
//! refuses to know where the numbers come from.

use super::super::profile::Work;
use super::super::timeline::Shares;
use super::super::trust::Trust;
use super::PortKey;
use crate::trace::record::{DevicePort, Pid, Tid};
use crate::units::Nanos;

/// All of an interval.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// From the start to the interval's end.
    pub time_ns: u64,
    /// Its length.
    pub interval_ns: u64,
    /// Of the CPU's counter.
    pub ticks_per_second: f64,
    /// Every thread.
    pub threads: Vec<ThreadView>,
    /// What they counted together.
    pub work: Work,
    /// The same from the start on, of threads that are gone too.
    pub since_start: Work,
    /// The sums of their rates.
    pub rates: Rates,
    /// What devices dropped.
    pub ports: Vec<Port>,
    /// How far to trust it, from the start on.
    pub trust: Trust,
}

/// A thread in an interval.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ThreadView {
    /// Its process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// Its name.
    pub name: String,
    /// Where it was last seen to run.
    pub cpu: Option<u32>,
    /// Whether it has probes.
    pub probes: bool,
    /// Where its time went.
    pub times: Times,
    /// What it did in a second, and what that cost.
    pub rates: Rates,
    /// What it counted.
    pub work: Work,
    /// Times it dropped something, as far as its events say.
    pub drops: u64,
    /// Times it found a queue full.
    pub fulls: u64,
    /// Of the queues that it filled or emptied; `None` if no event told.
    pub depth: Option<Depth>,
    /// Slots of its ring that did not fit: its state is not known meanwhile.
    pub events_lost: u64,
    /// Whether it has ended.
    pub ended: bool,
}

/// Shares of an interval, which add up to 1; `None` where it cannot be told, or nothing of it was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Times {
    /// Ticks of it that were seen.
    pub ticks: u64,
    /// On a CPU.
    pub on_cpu: Option<f64>,
    /// On a CPU, and working.
    pub useful: Option<f64>,
    /// On a CPU, and polling for nothing.
    pub empty_poll: Option<f64>,
    /// On a CPU, and not known to do either.
    pub unknown: Option<f64>,
    /// On none.
    pub off_cpu: Option<f64>,
}

impl Times {
    /// Of ticks by state. A thread that says nothing for an interval but counts rounds, all of them empty, polls.
    pub fn of(spent: &Shares, work: &Work) -> Times {
        let ticks = spent.total();
        let share = |ticks_of: u64| (ticks > 0).then(|| ticks_of as f64 / ticks as f64);
        let [useful, mut empty, mut unknown] = spent.on;
        if useful + empty == 0 && work.rounds > 0 && work.rounds == work.empty_rounds {
            empty = std::mem::take(&mut unknown);
        }
        Times {
            ticks,
            on_cpu: share(spent.on.iter().sum()),
            useful: share(useful),
            empty_poll: share(empty),
            unknown: share(unknown),
            off_cpu: share(spent.off.iter().sum()),
        }
    }

    /// The same of a thread without probes: all that is known is whether it ran.
    #[must_use]
    pub fn untold(self) -> Times {
        Times {
            useful: None,
            empty_poll: None,
            unknown: self.on_cpu,
            ..self
        }
    }
}

/// What was done in a second, and what it cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Frames received.
    pub rx_packets: Option<f64>,
    /// Frames sent.
    pub tx_packets: Option<f64>,
    /// Requests finished.
    pub requests: Option<f64>,
    /// Frames in a receive that found some.
    pub rx_burst: Option<f64>,
    /// Frames in a send.
    pub tx_burst: Option<f64>,
    /// Ticks of work for each frame received.
    pub cycles_per_packet: Option<f64>,
    /// Ticks of work for each request.
    pub cycles_per_request: Option<f64>,
}

impl Rates {
    /// Of counts made in `length`, while a thread's time went like this.
    pub fn of(work: &Work, length: Nanos, times: &Times) -> Rates {
        let seconds = length.ns() as f64 / 1e9;
        let rate = |count: u64| (seconds > 0.0).then(|| count as f64 / seconds);
        let mean = |whole: u64, parts: u64| (parts > 0).then(|| whole as f64 / parts as f64);
        // Counts and states are of nearly the same time, not of the very same: so shares are set beside rates.
        let worked = |count: u64| {
            let useful = times.useful? * times.ticks as f64;
            (count > 0 && useful > 0.0).then(|| useful / count as f64)
        };
        Rates {
            rx_packets: rate(work.rx_packets),
            tx_packets: rate(work.tx_packets),
            requests: rate(work.requests),
            rx_burst: mean(work.rx_packets, work.rx_bursts),
            tx_burst: mean(work.tx_packets, work.tx_bursts),
            cycles_per_packet: worked(work.rx_packets),
            cycles_per_request: worked(work.requests),
        }
    }
}

/// How long queues were.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Depth {
    /// On average over the events that told.
    pub mean: f64,
    /// At most.
    pub max: u32,
}

/// What a device dropped in an interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its program.
    pub pid: Pid,
    /// Its number there.
    pub port: u16,
    /// Its name.
    pub name: String,
    /// Frames that no one fetched in time, that found no memory, and that were broken.
    pub drops: u64,
}

/// What a device calls what it dropped.
const DROPPED: &[&str] = &["imissed", "rx_nombuf", "ierrors", "oerrors"];

impl Port {
    /// Of the statistics at an interval's ends; the end becomes the next one's beginning.
    pub(super) fn between((key, ends): (&PortKey, &mut (DevicePort, DevicePort))) -> Port {
        let of = |port: &DevicePort| -> u64 {
            let counters = port.counters.iter();
            let dropped = counters.filter(|(name, _)| DROPPED.contains(&name.as_str()));
            dropped.map(|(_, n)| n).fold(0, |a, &b| a.saturating_add(b))
        };
        let drops = of(&ends.1).saturating_sub(of(&ends.0));
        ends.0 = ends.1.clone();
        Port {
            pid: key.0,
            port: key.1,
            name: ends.1.name.clone(),
            drops,
        }
    }
}

impl View {
    /// Sums over threads, and what was counted by those that are gone.
    pub(super) fn add_up(&mut self, gone: &[Work]) {
        for thread in &mut self.threads {
            if !thread.probes {
                thread.times = thread.times.untold();
            }
            self.work.add(&thread.work);
        }
        let add = |of: fn(&Rates) -> Option<f64>| {
            let known = self.threads.iter().filter_map(|t| of(&t.rates));
            known.fold(None, |sum: Option<f64>, rate| {
                Some(sum.unwrap_or(0.0) + rate)
            })
        };
        let sums = [
            add(|r| r.rx_packets),
            add(|r| r.tx_packets),
            add(|r| r.requests),
        ];
        gone.iter().for_each(|work| self.work.add(work));
        let useful: f64 = (self.threads.iter())
            .filter_map(|t| Some(t.times.useful? * t.times.ticks as f64))
            .sum();
        let each = |count: u64| (count > 0 && useful > 0.0).then(|| useful / count as f64);
        let mean = |whole: u64, parts: u64| (parts > 0).then(|| whole as f64 / parts as f64);
        let work = &self.work;
        self.rates = Rates {
            rx_packets: sums[0],
            tx_packets: sums[1],
            requests: sums[2],
            rx_burst: mean(work.rx_packets, work.rx_bursts),
            tx_burst: mean(work.tx_packets, work.tx_bursts),
            cycles_per_packet: each(work.rx_packets),
            cycles_per_request: each(work.requests),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = Nanos::from_ns(1_000_000_000);

    /// Shares add up, silence that counts empty rounds is polling, and what was not seen is not known.
    #[test]
    fn shares_of_time() {
        let spent = Shares {
            on: [30, 50, 0],
            off: [5, 15, 0],
        };
        let times = Times::of(&spent, &Work::default());
        let sum = times.useful.unwrap() + times.empty_poll.unwrap() + times.off_cpu.unwrap();
        assert!((sum - 1.0).abs() < 1e-12);
        assert_eq!((times.useful, times.on_cpu), (Some(0.3), Some(0.8)));
        let silent = Shares {
            on: [0, 0, 80],
            off: [0, 0, 20],
        };
        let mut work = Work {
            rounds: 9,
            empty_rounds: 9,
            ..Work::default()
        };
        let times = Times::of(&silent, &work);
        assert_eq!((times.empty_poll, times.unknown), (Some(0.8), Some(0.0)));
        work.empty_rounds = 8;
        assert_eq!(Times::of(&silent, &work).unknown, Some(0.8));
        assert_eq!(Times::of(&Shares::default(), &work).on_cpu, None);
        assert_eq!(times.untold().unknown, Some(0.8));
    }

    /// Rates are of the time between readings, costs of the time that was useful, and nothing is divided by nothing.
    #[test]
    fn rates() {
        let work = Work {
            rx_packets: 500,
            rx_bursts: 100,
            requests: 50,
            ..Work::default()
        };
        let times = Times {
            ticks: 4_000_000,
            useful: Some(0.25),
            ..Times::default()
        };
        let rates = Rates::of(&work, Nanos::from_ns(SECOND.ns() / 2), &times);
        assert_eq!(
            (rates.rx_packets, rates.rx_burst),
            (Some(1000.0), Some(5.0))
        );
        assert_eq!(rates.cycles_per_packet, Some(2000.0));
        assert_eq!(rates.cycles_per_request, Some(20_000.0));
        assert_eq!((rates.tx_packets, rates.tx_burst), (Some(0.0), None));
        assert_eq!(Rates::of(&work, Nanos::default(), &times).requests, None);
        let unknown = Rates::of(&work, SECOND, &Times::default());
        assert_eq!(unknown.cycles_per_packet, None);
    }
}
