//! Polls, bursts and frames of device queues: what lcores did with their time, and how even the load lay.
//!
//! In: a profile, and the counts of each thread on each queue; out: rows by thread, by queue and by port. Counts are
//! exact; time comes from the events of the thread's ring, so that it is `None` where those were lost or there are none.

use super::flows::Flows;
use super::{Profile, ThreadRow};
use crate::trace::record::{Device, DevicePool, DevicePort, Pid, Queue, Tid};
use serde::Serialize;
use std::collections::BTreeMap;

/// Burst sizes that are shown together: from this one to below the next.
pub const CLASSES: [u32; 9] = [0, 1, 2, 4, 8, 16, 32, 64, 128];

/// Everything that is known of a program's queues.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Queues {
    /// By thread.
    pub lanes: Vec<Lane>,
    /// By port, queue, direction and thread.
    pub rows: Vec<Row>,
    /// By port and direction.
    pub ports: Vec<Port>,
    /// Memory pools as last read.
    pub pools: Vec<Pool>,
    /// Flows of the frames that were looked at.
    pub flows: Flows,
}

/// What one thread did with its queues.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Lane {
    /// Its process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// Its name.
    pub name: String,
    /// Its lcore, if it is one.
    pub lcore: Option<u32>,
    /// Receive calls.
    pub polls: u64,
    /// Those that found nothing.
    pub empty_polls: u64,
    /// Frames received.
    pub rx_frames: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Its share of time at work, of the time it was on a CPU and known to work or poll.
    pub busy_share: Option<f64>,
    /// Counter ticks at work, for each frame that came in, or else went out.
    pub ticks_per_frame: Option<f64>,
    /// The same in nanoseconds.
    pub ns_per_frame: Option<f64>,
    /// What it could carry, at this cost of a frame, without empty polling: frames a second.
    pub frames_per_second_at_most: Option<f64>,
    /// The share of its time on a CPU in which nothing is known: events were lost.
    pub unknown_share: Option<f64>,
}

/// One thread's counts on one queue.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// The port.
    pub port: u16,
    /// The port's name.
    pub port_name: String,
    /// The queue.
    pub queue: Option<u16>,
    /// Whether frames are received.
    pub receives: bool,
    /// Process and thread.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// The thread's name.
    pub thread: String,
    /// Calls.
    pub calls: u64,
    /// Calls that moved no frame.
    pub empty: u64,
    /// Frames received or sent.
    pub frames: u64,
    /// Frames offered that the device did not take; `None` of receive queues, and where it is not known.
    pub refused: Option<u64>,
    /// Frames of a call that moved any.
    pub mean_burst: Option<f64>,
    /// Calls by burst size as recorded.
    pub sizes: Vec<(u32, u64)>,
    /// Shares of calls by [`CLASSES`].
    pub classes: [f64; CLASSES.len()],
    /// Mean bytes of the frames that were looked at.
    pub mean_bytes: Option<f64>,
    /// How many those are (`--per-packet`).
    pub looked_at: u64,
    /// Frames that were to be looked at, and were not for want of room in the ring.
    pub not_looked_at: u64,
    /// One in how many bursts was an event at the end.
    pub sampled: u64,
}

/// One port's one direction.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Port {
    /// Its process.
    pub pid: Pid,
    /// The port.
    pub port: u16,
    /// Its name.
    pub name: String,
    /// Whether frames are received.
    pub receives: bool,
    /// Queues that were used.
    pub queues: u64,
    /// Frames on all of them.
    pub frames: u64,
    /// The fullest queue's frames over the mean of all: 1 is even, the number of queues is all on one.
    pub imbalance: Option<f64>,
    /// What the device says of itself, as last read.
    pub device: Option<DevicePort>,
}

/// A memory pool of a process.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Pool {
    /// The process.
    pub pid: Pid,
    /// Fewest free objects seen.
    pub fewest_free: Option<u64>,
    /// As last read.
    pub last: DevicePool,
}

impl Queues {
    /// What was counted, sorted.
    pub fn of(profile: &Profile, counted: &[Queue], devices: &[Device], flows: Flows) -> Queues {
        let thread = |q: &Queue| {
            let mine = |t: &&ThreadRow| t.pid == q.pid && t.tid == q.tid;
            profile.threads.iter().find(mine)
        };
        let mut rows: Vec<_> = counted
            .iter()
            .filter(|q| !q.sizes.is_empty())
            .map(|q| row(q, thread(q)))
            .collect();
        rows.sort_by(|a, b| {
            let key = |r: &Row| (r.pid, r.port, !r.receives, r.queue, r.tid);
            key(a).cmp(&key(b))
        });
        let mut lanes = BTreeMap::<(Pid, Tid), (Lane, Option<&ThreadRow>)>::new();
        for queue in counted.iter().filter(|q| !q.sizes.is_empty()) {
            let (lane, row) = lanes.entry((queue.pid, queue.tid)).or_default();
            *row = thread(queue);
            add(lane, queue, *row);
        }
        let ns = profile.ns_per_tick;
        let mut lanes: Vec<_> = lanes
            .into_values()
            .map(|(lane, thread)| timed(lane, thread, ns))
            .collect();
        lanes.sort_by_key(|l| (l.pid, l.lcore.is_none(), l.lcore, l.tid));
        Queues {
            lanes,
            ports: ports(&rows, devices),
            rows,
            pools: pools(devices),
            flows,
        }
    }
}

fn calls(queue: &Queue) -> u64 {
    queue.sizes.iter().map(|s| s.1).sum()
}

fn empty(queue: &Queue) -> u64 {
    queue.sizes.iter().filter(|s| s.0 == 0).map(|s| s.1).sum()
}

fn row(queue: &Queue, thread: Option<&ThreadRow>) -> Row {
    let (all, none) = (calls(queue), empty(queue));
    let class = |size: u32| CLASSES.iter().rposition(|&from| from <= size).unwrap_or(0);
    let mut classes = [0.0; CLASSES.len()];
    for &(size, count) in &queue.sizes {
        classes[class(size)] += count as f64 / all.max(1) as f64;
    }
    let of = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
    Row {
        port: queue.port,
        port_name: queue.port_name.clone(),
        queue: queue.queue,
        receives: queue.receives,
        pid: queue.pid,
        tid: queue.tid,
        thread: thread.map_or_else(String::new, |t| t.name.clone()),
        calls: all,
        empty: none,
        frames: queue.frames,
        refused: (!queue.receives && queue.accepted_known).then_some(queue.refused),
        mean_burst: of(queue.frames, all - none),
        sizes: queue.sizes.clone(),
        classes,
        mean_bytes: of(queue.bytes, queue.bytes_of),
        looked_at: queue.bytes_of,
        not_looked_at: queue.unlooked,
        sampled: queue.sampled,
    }
}

fn add(lane: &mut Lane, queue: &Queue, thread: Option<&ThreadRow>) {
    (lane.pid, lane.tid) = (queue.pid, queue.tid);
    lane.lcore = queue.lcore;
    lane.name = thread.map_or_else(String::new, |t| t.name.clone());
    if queue.receives {
        lane.polls += calls(queue);
        lane.empty_polls += empty(queue);
        lane.rx_frames += queue.frames;
    } else {
        lane.tx_frames += queue.frames;
    }
}

fn timed(mut lane: Lane, thread: Option<&ThreadRow>, ns_per_tick: Option<f64>) -> Lane {
    let Some(thread) = thread.filter(|t| t.probes) else {
        return lane;
    };
    let [working, polling, unknown] = thread.shares.on.map(|ticks| ticks as f64);
    let share = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
    lane.busy_share = share(working, working + polling);
    lane.unknown_share = share(unknown, working + polling + unknown);
    // Frames are counted while nothing is known of the time, so that the time is scaled to all of it.
    let known = share(working + polling, working + polling + unknown);
    let frames = match lane.rx_frames {
        0 => lane.tx_frames,
        received => received,
    };
    lane.ticks_per_frame = known
        .filter(|&known| known > 0.0 && frames > 0)
        .map(|known| working / known / frames as f64);
    lane.ns_per_frame = lane.ticks_per_frame.zip(ns_per_tick).map(|(t, ns)| t * ns);
    lane.frames_per_second_at_most = lane.ns_per_frame.filter(|&ns| ns > 0.0).map(|ns| 1e9 / ns);
    lane
}

fn ports(rows: &[Row], devices: &[Device]) -> Vec<Port> {
    let mut ports = BTreeMap::<(Pid, u16, bool), (Port, BTreeMap<Option<u16>, u64>)>::new();
    for row in rows {
        let (port, queues) = ports.entry((row.pid, row.port, !row.receives)).or_default();
        (port.pid, port.port, port.receives) = (row.pid, row.port, row.receives);
        port.name.clone_from(&row.port_name);
        port.frames += row.frames;
        *queues.entry(row.queue).or_default() += row.frames;
    }
    let told = |(mut port, queues): (Port, BTreeMap<_, u64>)| {
        port.queues = queues.len() as u64;
        let most = queues.values().max().copied().unwrap_or(0);
        port.imbalance =
            (port.frames > 0).then(|| most as f64 * queues.len() as f64 / port.frames as f64);
        let mine = devices.iter().rev().filter(|d| d.pid == port.pid);
        port.device = mine
            .flat_map(|d| &d.ports)
            .find(|d| d.port == port.port)
            .cloned();
        port
    };
    ports.into_values().map(told).collect()
}

fn pools(devices: &[Device]) -> Vec<Pool> {
    let mut pools = BTreeMap::<(Pid, &str), Pool>::new();
    for device in devices {
        for pool in &device.pools {
            let known = pools
                .entry((device.pid, &pool.name))
                .or_insert_with(|| Pool {
                    pid: device.pid,
                    fewest_free: pool.free,
                    last: pool.clone(),
                });
            known.fewest_free = known.fewest_free.into_iter().chain(pool.free).min();
            known.last.clone_from(pool);
        }
    }
    pools.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(queue: u16, receives: bool, sizes: &[(u32, u64)], refused: u64) -> Queue {
        Queue {
            pid: 1,
            tid: 2,
            queue: Some(queue),
            receives,
            accepted_known: true,
            frames: sizes.iter().map(|&(size, n)| u64::from(size) * n).sum(),
            refused,
            sizes: sizes.to_vec(),
            ..Queue::default()
        }
    }

    /// Empty polls, refused frames, classes and imbalance follow from the counts alone.
    #[test]
    fn counts_become_answers() {
        let counted = [
            queue(0, true, &[(0, 60), (1, 10), (32, 30)], 0),
            queue(1, true, &[(0, 100)], 0),
            queue(0, false, &[(16, 10), (32, 10)], 160),
        ];
        let queues = Queues::of(&Profile::default(), &counted, &[], Flows::default());
        let [busy, silent, sent] = &queues.rows[..] else {
            panic!("{:?}", queues.rows)
        };
        assert_eq!((busy.calls, busy.empty, busy.frames), (100, 60, 970));
        assert_eq!(busy.mean_burst, Some(24.25));
        assert_eq!(
            (busy.classes[0], busy.classes[1], busy.classes[6]),
            (0.6, 0.1, 0.3)
        );
        assert_eq!(silent.mean_burst, None);
        assert_eq!((sent.refused, busy.refused), (Some(160), None));
        let [received, sent] = &queues.ports[..] else {
            panic!("{:?}", queues.ports)
        };
        assert_eq!((received.queues, received.imbalance), (2, Some(2.0)));
        assert_eq!(sent.imbalance, Some(1.0));
        let [lane] = &queues.lanes[..] else {
            panic!("{:?}", queues.lanes)
        };
        assert_eq!((lane.polls, lane.empty_polls), (200, 160));
        assert_eq!(
            lane.busy_share, None,
            "without events nothing is known of time"
        );
    }
}
