//! One flow's events into requests.
//!
//! In: a flow's events in the order of time; out: [`Request`]s with the stamps of their way. A request begins with the
//! segment (or the delivery) that the application has not begun to handle yet, and ends with the last segment that left
//! before the next one came in. Several requests in one segment are *pipelined*: they share its arrival. Several
//! segments before one request are *split*: the request began with the first.

use super::queue::Queue;
use super::stages::{APP, TCP_IN, WAIT_APP, WAIT_DRAIN, WAIT_SEND};
use super::stamp::Stamp;
use super::turns::Turns;

/// Where a request's bytes came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// The burst it came in.
    pub rx: Stamp,
    /// Another thread put it into a queue to the one that runs TCP.
    pub handed: Stamp,
    /// TCP saw it.
    pub tcp_in: Stamp,
    /// It was made ready for the application.
    pub deliver: Stamp,
    /// The ring that saw it first.
    pub ring: u32,
    /// Ticks of its time in TCP in which other frames of its burst were handled.
    pub behind: u64,
}

impl Arrival {
    fn first(&self) -> Option<u64> {
        let known = [self.rx, self.handed, self.tcp_in, self.deliver];
        known.into_iter().find_map(Stamp::get)
    }
}

/// One request's way; stamps are counter values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The flow.
    pub flow: u32,
    /// How it came in.
    pub arrival: Arrival,
    /// The application's thread was woken up, after the delivery.
    pub wake: Stamp,
    /// The application began.
    pub app_start: u64,
    /// The application was done.
    pub app_end: Stamp,
    /// The last segment of the reply left TCP.
    pub last_out: Stamp,
    /// The burst began that gave it to the device.
    pub burst: Stamp,
    /// The device took it.
    pub tx: Stamp,
    /// Ticks that it waited while the application handled earlier requests of its flow, and others of its thread.
    pub behind: (u64, u64),
    /// Ring of the application's thread.
    pub app_ring: u32,
    /// Ring of the thread that sent.
    pub out_ring: Option<u32>,
    /// Bytes that the application wrote.
    pub owed: u64,
    /// Bytes that left.
    pub out: u64,
    /// Data segments of the reply.
    pub segments: u32,
    /// Segments with nothing but an ACK since it came in.
    pub acks: u32,
    /// Whether it shares its arrival with the one before it.
    pub pipelined: bool,
    /// Whether it came in several segments.
    pub split: bool,
    /// End of the request of its flow before it, if nothing was lost in between.
    pub before: Stamp,
    /// Frames of it that wait for their burst.
    waiting: u32,
    number: u64,
}

impl Request {
    /// When it began to wait for nothing but the application.
    fn ready(&self) -> u64 {
        let ready = self.wake.get().or(self.arrival.deliver.get());
        ready.unwrap_or_else(|| self.start()).min(self.app_start)
    }

    /// When it began.
    pub fn start(&self) -> u64 {
        self.arrival
            .first()
            .unwrap_or(self.app_start)
            .min(self.app_start)
    }

    /// When it was over, as far as anything tells.
    pub fn end(&self) -> u64 {
        let told = [self.app_end, self.last_out, self.tx];
        let last = told.into_iter().filter_map(Stamp::get).max();
        last.unwrap_or_else(|| self.start())
    }

    /// Rings of the threads that received, handled and sent it.
    pub fn rings(&self) -> [Option<u32>; 3] {
        [Some(self.arrival.ring), Some(self.app_ring), self.out_ring]
    }

    fn replied(&self) -> bool {
        !self.app_end.is_none() && self.out >= self.owed
    }
}

/// A request that has begun and is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnItsWay {
    /// Its flow.
    pub flow: u32,
    /// The stage that it is in: an index into [`super::STAGES`].
    pub stage: usize,
    /// When it began.
    pub began: u64,
    /// When it came to this stage.
    pub since: u64,
    /// The ring that told of it last.
    pub ring: u32,
}

/// Most requests of a flow in the making, and most segments that no one has looked at.
const MOST: usize = 1024;

/// A flow's state.
#[derive(Clone, Debug, Default)]
pub struct FlowState {
    arrivals: Queue<Arrival>,
    /// The arrival that the last request took, for those pipelined behind it: if `has_last`.
    last_arrival: Arrival,
    has_last: bool,
    open: Queue<Request>,
    /// End of the last request that was told.
    ended: Stamp,
    /// The flow's stack reports segments: replies end with one.
    has_segments: bool,
    acks: u32,
    count: u64,
    turns: Turns,
    /// Requests that cannot be told any more: too many at once.
    pub overrun: u64,
    /// When it was last heard of.
    pub heard: u64,
    forgotten: u64,
}

impl FlowState {
    /// Something of each of its parts, so that all of it is near. Nothing is asked before it is read: many flows that are
    /// looked at one after the other are waited for together.
    pub fn glance(&self) -> u64 {
        let of_arrival = |a: &Arrival| a.rx.glance() ^ a.behind;
        let of_request = |r: &Request| {
            let stamps = [r.wake, r.tx, r.before].map(Stamp::glance);
            let numbers = [r.behind.1, r.owed, r.number, u64::from(r.waiting)];
            let all = stamps.into_iter().chain(numbers);
            all.fold(of_arrival(&r.arrival), |all, one| all ^ one)
        };
        of_request(self.open.near())
            ^ of_arrival(self.arrivals.near())
            ^ of_arrival(&self.last_arrival)
            ^ self.turns.glance()
            ^ self.heard
            ^ self.count
    }

    /// Events were lost until `tsc`: what began before and is not replied to cannot be told. Gives how many requests.
    pub fn forget_before(&mut self, tsc: u64) -> u64 {
        if tsc <= self.forgotten {
            return 0;
        }
        self.forgotten = tsc;
        self.ended = Stamp::NONE;
        let all = self.open.len();
        self.open.retain(|r| r.replied() || r.start() > tsc);
        self.open.iter_mut().for_each(|r| r.waiting = 0);
        self.arrivals.retain(|a| a.first() > Some(tsc));
        self.has_last &= self.last_arrival.first() > Some(tsc);
        (all - self.open.len()) as u64
    }

    /// A segment with data came in.
    pub fn tcp_in(&mut self, tsc: u64, rx: Option<u64>, ring: u32, out: &mut impl FnMut(Request)) {
        self.has_segments = true;
        self.close_replied(out);
        self.arrive(Arrival {
            rx: rx.into(),
            tcp_in: tsc.into(),
            ring,
            ..Arrival::default()
        });
    }

    /// The segment that came in last had waited in a queue between threads since `tsc`.
    pub fn was_handed_over(&mut self, tsc: u64) {
        if let Some(arrival) = self.arrivals.back_mut() {
            arrival.handed = tsc.into();
        }
    }

    /// Data was made ready for the application; the thread did so for another frame at `before`.
    pub fn deliver(&mut self, tsc: u64, before: u64, ring: u32, out: &mut impl FnMut(Request)) {
        if let Some(arrival) = self.arrivals.iter_mut().find(|a| a.deliver.is_none()) {
            arrival.deliver = tsc.into();
            let began = arrival.tcp_in.get().unwrap_or(tsc);
            arrival.behind = before.min(tsc).saturating_sub(began);
            return;
        }
        if !self.has_segments {
            self.close_replied(out);
            self.arrive(Arrival {
                deliver: tsc.into(),
                ring,
                ..Arrival::default()
            });
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        if self.arrivals.len() == MOST {
            self.arrivals.pop_front();
            self.overrun += 1;
        }
        self.arrivals.push_back(arrival);
    }

    /// The application begins to handle a request; `wake` is when its thread last woke up, `thread` what that thread's
    /// application did until now.
    pub fn app_start(
        &mut self,
        flow: u32,
        tsc: u64,
        wake: Option<u64>,
        (ring, thread): (u32, &Turns),
        out: &mut impl FnMut(Request),
    ) {
        // The first request of several in a segment may be over, and its reply on its way.
        if !self.has_segments {
            self.close_replied(out);
        }
        self.tell_split();
        let waiting = self
            .arrivals
            .iter()
            .take_while(|a| a.first() <= Some(tsc))
            .count();
        let first = self.arrivals.pop_front().filter(|_| waiting > 0);
        let (arrival, pipelined) = match first {
            Some(arrival) => (arrival, false),
            None if self.has_last => (self.last_arrival, true),
            None => (Arrival::default(), false),
        };
        (self.last_arrival, self.has_last) = (arrival, true);
        if self.open.len() == MOST {
            self.open.pop_front();
            self.overrun += 1;
        }
        self.count += 1;
        let delivered = arrival.deliver.get();
        let wake = wake.filter(|w| delivered.is_some_and(|d| *w > d) && *w <= tsc);
        let mut request = Request {
            flow,
            arrival,
            wake: wake.into(),
            app_start: tsc,
            app_ring: ring,
            pipelined,
            acks: std::mem::take(&mut self.acks),
            number: self.count,
            ..Request::default()
        };
        let ready = request.ready();
        let of_flow = self.turns.within(ready, tsc);
        let of_thread = thread.within(ready, tsc).saturating_sub(of_flow);
        request.behind = (of_flow, of_thread);
        self.turns.began(tsc);
        if self.arrivals.is_empty() {
            self.turns.forget_before(request.start());
        }
        self.open.push_back(request);
    }

    /// The application is done with the request that it began last.
    pub fn app_end(&mut self, tsc: u64, bytes: u32, out: &mut impl FnMut(Request)) {
        let has_segments = self.has_segments;
        self.turns.ended(tsc);
        let Some(request) = self.open.iter_mut().rev().find(|r| r.app_end.is_none()) else {
            return;
        };
        request.app_end = tsc.into();
        request.owed = u64::from(bytes);
        if !has_segments {
            request.out = request.owed;
            self.close_replied(out);
        }
    }

    /// A segment with `len` bytes of data left TCP. Gives the first and the last request it is of, for the burst that will
    /// take it, if it `waits` for one.
    pub fn data_out(&mut self, tsc: u64, len: u32, ring: u32, waits: bool) -> Option<(u64, u64)> {
        self.has_segments = true;
        let owing = self.open.iter().position(|r| !r.replied());
        let at = owing.or(self.open.len().checked_sub(1))?;
        let following = self.open.len() - at - 1;
        let mut of_reply = self.open.iter_mut().skip(at);
        let request = of_reply.next()?;
        request.last_out = tsc.into();
        request.out_ring = Some(ring);
        (request.burst, request.tx) = (Stamp::NONE, Stamp::NONE);
        request.out += u64::from(len);
        request.segments += 1;
        request.waiting += u32::from(waits);
        let number = request.number;
        let mut last = number;
        // One segment may carry the end of one reply and the beginning of the next.
        let mut more = request.out.saturating_sub(request.owed);
        let told = !request.app_end.is_none();
        if told && more > 0 && following > 0 {
            request.out = request.owed;
            for next in of_reply {
                next.last_out = tsc.into();
                next.out_ring = Some(ring);
                next.segments += 1;
                (next.burst, next.tx) = (Stamp::NONE, Stamp::NONE);
                next.waiting += u32::from(waits);
                last = next.number;
                let takes = if next.app_end.is_none() {
                    more
                } else {
                    more.min(next.owed)
                };
                next.out += takes;
                more -= takes;
                if more == 0 {
                    break;
                }
            }
        }
        Some((number, last))
    }

    /// What came in before the last request began, and was not handled when more came in after it: parts of that request.
    fn tell_split(&mut self) {
        let Some(last) = self.open.back_mut().filter(|r| r.replied()) else {
            return;
        };
        let ended = last.app_end.get();
        if self.arrivals.iter().any(|a| a.first() > ended) {
            while self
                .arrivals
                .front()
                .is_some_and(|a| a.first() <= Some(last.app_start))
            {
                self.arrivals.pop_front();
                last.split = true;
            }
        }
    }

    /// A segment with nothing but an ACK left.
    pub fn ack_out(&mut self) {
        match self.open.back_mut().filter(|r| r.app_end.is_none()) {
            Some(request) => request.acks += 1,
            None => self.acks += 1,
        }
    }

    /// The device took a frame of requests `first` to `last` in a burst that began at `burst`, where that is known.
    pub fn taken(&mut self, (first, last): (u64, u64), burst: Option<u64>, tsc: u64) {
        let of = |r: &&mut Request| (first..=last).contains(&r.number);
        self.open.iter_mut().filter(of).for_each(|r| {
            (r.burst, r.tx) = (burst.into(), tsc.into());
            r.waiting = r.waiting.saturating_sub(1);
        });
    }

    /// All that was replied to is closed: the next request has come, so the reply is over. What came in before the last
    /// of them began and was not taken by another belongs to it: it was split.
    fn close_replied(&mut self, out: &mut impl FnMut(Request)) {
        while (self.open.front()).is_some_and(|r| r.replied() && r.waiting == 0) {
            let Some(mut request) = self.open.pop_front() else {
                return;
            };
            if self.open.is_empty() {
                while (self.arrivals.front()).is_some_and(|a| a.first() <= Some(request.app_start))
                {
                    self.arrivals.pop_front();
                    request.split = true;
                }
            }
            request.before = std::mem::replace(&mut self.ended, request.end().into());
            out(request);
        }
    }

    /// Whether nothing is on its way: what came in was handled, and replied to.
    pub fn is_quiet(&self) -> bool {
        let last = self.open.back().map(|r| r.app_start);
        let of_last = |a: &Arrival| last.is_some() && a.first() <= last;
        self.open.iter().all(|r| r.replied() && r.waiting == 0) && self.arrivals.iter().all(of_last)
    }

    /// The requests that were on their way when all was read.
    pub fn on_their_way(&self, flow: u32) -> impl Iterator<Item = OnItsWay> + '_ {
        let last = self.open.back().map(|r| r.app_start);
        // What came in before the last request began is part of it.
        let of_last = move |a: &Arrival| last.is_some() && a.first() <= last;
        let arrivals = self.arrivals.iter().filter(move |a| !of_last(a));
        let arrived = arrivals.filter_map(move |a| {
            let (stage, since) = match (a.deliver.get(), a.tcp_in.get()) {
                (Some(deliver), _) => (WAIT_APP, deliver),
                (None, Some(tcp_in)) => (TCP_IN, tcp_in),
                (None, None) => return None,
            };
            Some(OnItsWay {
                flow,
                stage,
                began: a.first().unwrap_or(since),
                since,
                ring: a.ring,
            })
        });
        let open = self.open.iter().filter_map(move |r| {
            let (stage, since, ring) = match r.app_end.get() {
                None => (APP, r.app_start, r.app_ring),
                Some(end) if !r.replied() => {
                    let since = r.last_out.get().unwrap_or(end).max(end);
                    (WAIT_SEND, since, r.out_ring.unwrap_or(r.app_ring))
                }
                Some(end) if r.waiting > 0 => {
                    let since = r.last_out.get().unwrap_or(end);
                    (WAIT_DRAIN, since, r.out_ring.unwrap_or(r.app_ring))
                }
                Some(_) => return None,
            };
            Some(OnItsWay {
                flow,
                stage,
                began: r.start(),
                since,
                ring,
            })
        });
        open.chain(arrived)
    }

    /// The recording is over: gives what is whole and counts what is not.
    pub fn finish(&mut self, out: &mut impl FnMut(Request)) -> u64 {
        self.open.iter_mut().for_each(|r| r.waiting = 0);
        self.close_replied(out);
        self.open.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> (FlowState, Vec<Request>) {
        (FlowState::default(), Vec::new())
    }

    /// One request after the other: each ends with the last segment before the next one comes.
    #[test]
    fn plain() {
        let (mut flow, mut done) = flow();
        for start in [100, 200] {
            flow.tcp_in(start, Some(start - 5), 0, &mut |r| done.push(r));
            flow.deliver(start + 3, 0, 0, &mut |r| done.push(r));
            flow.ack_out();
            flow.app_start(7, start + 10, None, (0, &Turns::default()), &mut |r| {
                done.push(r)
            });
            let number = flow.data_out(start + 15, 60, 0, true).unwrap();
            flow.taken(number, None, start + 16);
            flow.app_end(start + 20, 100, &mut |r| done.push(r));
            let number = flow.data_out(start + 25, 40, 0, true).unwrap();
            flow.taken(number, None, start + 30);
        }
        assert_eq!((done.len(), flow.finish(&mut |r| done.push(r))), (1, 0));
        assert_eq!(done.len(), 2);
        // What lies between them is told with the second.
        assert_eq!(
            [0, 1].map(|at| done[at].before),
            [None, Some(130)].map(Stamp::from)
        );
        let first = done[0];
        assert_eq!(
            (first.start(), first.app_start, first.last_out, first.tx),
            (95, 110, 125.into(), 130.into())
        );
        assert_eq!(
            (first.segments, first.acks, first.pipelined, first.split),
            (2, 1, false, false)
        );
    }

    /// Two requests in one segment share its arrival; each has its own part of the reply, even in one segment.
    #[test]
    fn pipelined() {
        let (mut flow, mut done) = flow();
        flow.tcp_in(100, None, 0, &mut |r| done.push(r));
        flow.deliver(101, 0, 0, &mut |r| done.push(r));
        for start in [110, 120] {
            flow.app_start(7, start, None, (0, &Turns::default()), &mut |r| {
                done.push(r)
            });
            flow.app_end(start + 5, 100, &mut |r| done.push(r));
        }
        let number = flow.data_out(130, 200, 0, true).unwrap();
        flow.taken(number, None, 140);
        flow.finish(&mut |r| done.push(r));
        let seen: Vec<_> = done
            .iter()
            .map(|r| (r.start(), r.pipelined, r.last_out.get(), r.tx.get()))
            .collect();
        assert_eq!(
            seen,
            [
                (100, false, Some(130), Some(140)),
                (100, true, Some(130), Some(140))
            ]
        );
    }

    /// A device takes the reply after the next request has come in, which was in the burst received just then: the first
    /// is not over before.
    #[test]
    fn drained_behind_the_next_arrival() {
        let (mut flow, mut done) = flow();
        let mut number = None;
        for start in [100, 200] {
            flow.tcp_in(start, None, 0, &mut |r| done.push(r));
            if let Some(number) = number {
                flow.taken(number, None, start + 1);
            }
            flow.app_start(7, start + 10, None, (0, &Turns::default()), &mut |r| {
                done.push(r)
            });
            flow.app_end(start + 15, 10, &mut |r| done.push(r));
            number = flow.data_out(start + 16, 10, 0, true);
        }
        assert_eq!(flow.finish(&mut |r| done.push(r)), 0);
        let seen: Vec<_> = done.iter().map(|r| (r.start(), r.tx.get())).collect();
        assert_eq!(seen, [(100, Some(201)), (200, None)]);
    }

    /// A request in two segments began with the first, and the second is not taken for another request.
    #[test]
    fn split() {
        let (mut flow, mut done) = flow();
        flow.tcp_in(100, None, 0, &mut |r| done.push(r));
        flow.tcp_in(104, None, 0, &mut |r| done.push(r));
        flow.app_start(7, 110, None, (0, &Turns::default()), &mut |r| done.push(r));
        flow.app_end(115, 10, &mut |r| done.push(r));
        flow.data_out(116, 10, 0, false);
        flow.tcp_in(200, None, 0, &mut |r| done.push(r));
        flow.app_start(7, 210, None, (0, &Turns::default()), &mut |r| done.push(r));
        flow.app_end(215, 10, &mut |r| done.push(r));
        assert_eq!(flow.finish(&mut |r| done.push(r)), 1);
        assert_eq!(done.len(), 1);
        assert!(done[0].split && done[0].start() == 100, "{done:?}");
        assert_eq!(flow.open.front().unwrap().start(), 200);
    }

    /// Without a stack that reports segments a request goes from its delivery to the application's end; the time until
    /// its thread woke up is told apart.
    #[test]
    fn sockets_of_the_kernel() {
        let (mut flow, mut done) = flow();
        flow.deliver(100, 0, 1, &mut |r| done.push(r));
        flow.app_start(7, 120, Some(110), (1, &Turns::default()), &mut |r| {
            done.push(r)
        });
        flow.app_end(130, 500, &mut |r| done.push(r));
        assert_eq!(done.len(), 1);
        assert_eq!(
            (done[0].start(), done[0].wake, done[0].app_end),
            (100, 110.into(), 130.into())
        );
    }
}
