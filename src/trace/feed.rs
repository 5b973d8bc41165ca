//! A recorder's records handed on within the process, as they come.
//!
//! In: records; out: [`Piece`]s, in the order in which they came, to whoever holds the other end. It refuses to keep
//! what has been taken.

use super::record::{Meta, Sample, Switch};
use super::{RecordSink, RingSink, WriteError};
use bypassprof_wire::Slot;
use std::cell::RefCell;
use std::rc::Rc;

/// Records that came together.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// One of low rate.
    Meta(Box<Meta>),
    /// Samples.
    Samples(Vec<Sample>),
    /// Switches.
    Switches(Vec<Switch>),
    /// Slots of a ring, the first of them at this position of all it ever had.
    Slots(u32, u64, Vec<Slot>),
}

impl From<Meta> for Piece {
    fn from(meta: Meta) -> Piece {
        Piece::Meta(Box::new(meta))
    }
}

/// Both ends: one is given to the recorder, from the other records are taken.
#[derive(Clone, Debug, Default)]
pub struct Feed(Rc<RefCell<Vec<Piece>>>);

impl Feed {
    /// What has come in since.
    pub fn take(&self) -> Vec<Piece> {
        self.0.take()
    }

    fn put(&mut self, piece: Piece) -> Result<(), WriteError> {
        self.0.borrow_mut().push(piece);
        Ok(())
    }
}

impl RingSink for Feed {
    fn slots(&mut self, ring: u32, first: u64, slots: &[Slot]) -> Result<(), WriteError> {
        self.put(Piece::Slots(ring, first, slots.to_vec()))
    }

    fn meta(&mut self, meta: &Meta) -> Result<(), WriteError> {
        self.put(Piece::from(meta.clone()))
    }
}

impl RecordSink for Feed {
    fn samples(&mut self, samples: &[Sample]) -> Result<(), WriteError> {
        match samples {
            [] => Ok(()),
            samples => self.put(Piece::Samples(samples.to_vec())),
        }
    }

    fn switches(&mut self, switches: &[Switch]) -> Result<(), WriteError> {
        match switches {
            [] => Ok(()),
            switches => self.put(Piece::Switches(switches.to_vec())),
        }
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), WriteError> {
        Ok(())
    }
}
