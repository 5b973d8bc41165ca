//! An application's context as one fast-path core serves it: news out by ARX, bumps in by ATX.
//!
//! In: news of flows; out: entries, and the application's doorbell. News that find the queue full are added up per flow
//! and wait, so that nothing is lost and no more waits than there are flows; TAS ends itself there.

use crate::entry::{Arx, Atx, Opaque};
use crate::shared::{ContextPart, queues};
use crate::shm::{Consumer, Corrupt, Producer};
use bypassprof_probe::{self as probe, Flow as Label, points};
use std::collections::HashMap;
use std::sync::Arc;

/// One context, on one core.
pub struct Context {
    /// What all threads know of it.
    pub part: Arc<ContextPart>,
    index: u8,
    arx: Producer<4>,
    atx: Consumer<2>,
    waiting: HashMap<Opaque, (Arx, Label)>,
    /// Entries were written since the doorbell was looked at.
    touched: bool,
}

impl Context {
    /// Context `index` on core `core`.
    pub fn new(index: u8, core: usize, part: Arc<ContextPart>) -> Context {
        let (region, layout) = (&part.region, part.layout);
        Context {
            arx: Producer::new(region.clone(), layout.arx(core)),
            atx: Consumer::new(region.clone(), layout.atx(core)),
            part,
            index,
            waiting: HashMap::new(),
            touched: false,
        }
    }

    /// Whether news wait for room.
    pub fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Tells news, or keeps them until there is room.
    pub fn tell(&mut self, news: Arx, label: Label) -> Result<(), Corrupt> {
        if !self.waiting.is_empty() || !self.write(news, label)? {
            self.keep(news, label);
        }
        Ok(())
    }

    fn keep(&mut self, news: Arx, label: Label) {
        let (sum, _) = self
            .waiting
            .entry(news.opaque)
            .or_insert((Arx::default(), label));
        *sum = Arx {
            rx_bump: sum.rx_bump.saturating_add(news.rx_bump),
            tx_bump: sum.tx_bump.saturating_add(news.tx_bump),
            fin: sum.fin | news.fin,
            ..news
        };
    }

    fn write(&mut self, mut news: Arx, label: Label) -> Result<bool, Corrupt> {
        let on = probe::enabled();
        news.written = if on { probe::now().raw() } else { 0 };
        if !self.arx.push(news.to_words(), 0)? {
            let capacity = self.arx.capacity() as u32;
            probe::emit_with(points::FULL, label, capacity, [2, 0, 0]);
            return Ok(false);
        }
        self.touched = true;
        if on {
            let queue = queues::ARX | u32::from(self.index);
            let age = age(news.written, news.received);
            let depth = self.arx.depth() as u32;
            probe::emit_with(points::HANDOFF, label, queue, [depth, age, 0]);
        }
        Ok(true)
    }

    /// Writes what waited, as far as there is room.
    pub fn catch_up(&mut self) -> Result<(), Corrupt> {
        while let Some((&opaque, &(news, label))) = self.waiting.iter().next() {
            if !self.write(news, label)? {
                break;
            }
            self.waiting.remove(&opaque);
        }
        Ok(())
    }

    /// Wakes the application if something was written and it sleeps.
    pub fn notify_appctx(&mut self) {
        if std::mem::take(&mut self.touched) {
            self.part.notify();
        }
    }

    /// The first of three looks at a context in every round: its cache line.
    #[inline(always)]
    pub fn prefetch(&self) -> u64 {
        self.atx.prefetch()
    }

    /// The second: whether bumps wait.
    #[inline(always)]
    pub fn fetch(&mut self) -> Result<bool, Corrupt> {
        Ok(self.atx.probe()? > 0)
    }

    /// The third: how far the application has read.
    #[inline(always)]
    pub fn probe_room(&mut self) -> Result<(), Corrupt> {
        self.arx.probe().map(|_| ())
    }

    /// The next bump and its stamp.
    pub fn next_bump(&mut self) -> Result<Option<(Option<Atx>, u64)>, Corrupt> {
        let entry = self.atx.pop()?;
        Ok(entry.map(|(words, stamp)| (Atx::from_words(words), stamp)))
    }

    /// Tells that a bump was taken, with its age.
    pub fn bump_taken(&self, label: Label, stamp: u64) {
        if probe::enabled() {
            let queue = queues::ATX | u32::from(self.index);
            let depth = self.atx.depth() as u32;
            let more = [depth, age(probe::now().raw(), stamp), 0];
            probe::emit_with(points::HANDOFF, label, queue, more);
        }
    }
}

/// Ticks between two readings of the counter, of which the earlier may be unknown or nonsense.
pub fn age(now: u64, then: u64) -> u32 {
    match then {
        0 => 0,
        _ => now.saturating_sub(then).min(u64::from(u32::MAX)) as u32,
    }
}
