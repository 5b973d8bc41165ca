//! Starting and stopping on the way: a delay, SIGUSR1 and SIGUSR2, a control file as perf has it.
//!
//! In: time, signals, lines of text; out: [`Order`]s. It refuses to know what is started.

use super::Failure;
use super::child::count_signal;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Events are to count from here on.
    Enable,
    /// They are to stop.
    Disable,
    /// It is over.
    Stop,
}

/// What gives orders.
pub struct Switch {
    begun: Instant,
    delay: Option<Duration>,
    /// Whether events wait for an order at the start.
    pub waits: bool,
    signals: [(Arc<AtomicUsize>, usize); 2],
    control: Option<Control>,
}

struct Control {
    orders: File,
    answers: Option<File>,
    line: Vec<u8>,
}

/// Longest line of a control file; what is longer is no order.
const LONGEST: usize = 256;

impl Switch {
    /// `delay` in milliseconds, -1 to wait for an order.
    pub fn new(delay: Option<i64>, control: Option<&str>) -> Result<Switch, Failure> {
        let signal = |number| {
            let count = Arc::new(AtomicUsize::new(0));
            let caught = count_signal(number, Arc::clone(&count));
            caught.map_err(|e| Failure::failed(format!("cannot catch signals: {e}")))?;
            Ok::<_, Failure>((count, 0))
        };
        Ok(Switch {
            begun: Instant::now(),
            delay: delay
                .and_then(|ms| u64::try_from(ms).ok())
                .map(Duration::from_millis),
            waits: delay.is_some_and(|ms| ms != 0),
            signals: [signal(libc::SIGUSR1)?, signal(libc::SIGUSR2)?],
            control: control.map(Control::open).transpose()?,
        })
    }

    /// The delay counts from here on.
    pub fn begin(&mut self) {
        self.begun = Instant::now();
    }

    /// What has been ordered since the last look. Orders of a control file are answered when they are taken.
    pub fn orders(&mut self) -> Vec<Order> {
        let mut orders = Vec::new();
        if self.delay.is_some_and(|d| self.begun.elapsed() >= d) {
            self.delay = None;
            orders.push(Order::Enable);
        }
        let meanings = [Order::Enable, Order::Disable];
        for ((count, seen), order) in self.signals.iter_mut().zip(meanings) {
            // Only a count: nothing is published with it.
            let now = count.load(Ordering::Relaxed);
            if now != *seen {
                *seen = now;
                orders.push(order);
            }
        }
        if let Some(control) = &mut self.control {
            control.orders(&mut orders);
        }
        orders
    }

    /// How long until the delay is over.
    pub fn due(&self) -> Option<Duration> {
        self.delay.map(|d| d.saturating_sub(self.begun.elapsed()))
    }

    /// Says on the control file that an order was carried out.
    pub fn done(&mut self) {
        if let Some(answers) = self.control.as_mut().and_then(|c| c.answers.as_mut()) {
            // Whoever does not listen any more needs no answer.
            let _ = answers.write_all(b"ack\n");
        }
    }
}

impl Control {
    fn open(text: &str) -> Result<Control, Failure> {
        let wrong = || {
            Failure::wrong_use(format!("--control {text} is no control file"))
                .hint("fd:CTL, fd:CTL,ACK, fifo:CTL or fifo:CTL,ACK")
        };
        let (kind, names) = text.split_once(':').ok_or_else(wrong)?;
        let (orders, answers) = match names.split_once(',') {
            Some((orders, answers)) => (orders, Some(answers)),
            None => (names, None),
        };
        let open = |name: &str| {
            let path = match kind {
                "fd" if name.parse::<u32>().is_ok() => format!("/proc/self/fd/{name}"),
                "fifo" if !name.is_empty() => name.to_owned(),
                _ => return Err(wrong()),
            };
            // For reading and writing, so that neither end has to be there first.
            let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let opened = rustix::fs::open(&path, flags, Mode::empty()).map(File::from);
            opened.map_err(|e| Failure::failed(format!("cannot open {path}: {e}")))
        };
        Ok(Control {
            orders: open(orders)?,
            answers: answers.map(open).transpose()?,
            line: Vec::new(),
        })
    }

    fn orders(&mut self, orders: &mut Vec<Order>) {
        let mut bytes = [0; LONGEST];
        // Nothing to read, or no one who writes: no orders.
        while let Ok(n @ 1..) = self.orders.read(&mut bytes) {
            for &byte in &bytes[..n] {
                if byte != b'\n' && byte != 0 {
                    if self.line.len() < LONGEST {
                        self.line.push(byte);
                    }
                    continue;
                }
                match self.line.as_slice() {
                    b"enable" => orders.push(Order::Enable),
                    b"disable" => orders.push(Order::Disable),
                    b"stop" => orders.push(Order::Stop),
                    b"ping" => {
                        if let Some(answers) = &mut self.answers {
                            // As above: no answer is needed without a listener.
                            let _ = answers.write_all(b"ack\n");
                        }
                    }
                    other => eprintln!(
                        "bypassprof: `{}` is no order; enable, disable, ping and stop are",
                        String::from_utf8_lossy(other).escape_debug()
                    ),
                }
                self.line.clear();
            }
        }
    }
}
