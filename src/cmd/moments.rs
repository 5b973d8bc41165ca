//! The second pass over a recording: everything that happened, handed on to an export.
//!
//! Joins `trace` (the file), `analyse` (moments) and `present` (whoever takes them).

use super::part::Part;
use super::{Failure, load};
use crate::analyse::series::{self, Series};
use crate::analyse::tape::{Moment, Tape};
use crate::analyse::{Packs, Profile};
use crate::present::export::Moments;
use crate::trace::Record;
use std::io;
use std::path::Path;

/// Hands everything that happened in the part of a recording that `profile` is of to whoever `begin` makes.
pub fn hand_on<'a>(
    path: &Path,
    packs: &Packs,
    part: Part,
    profile: Profile,
    begin: impl FnOnce(&Profile, &[Series]) -> io::Result<Box<dyn Moments + 'a>>,
) -> Result<(), Failure> {
    let (reader, metas) = load::open(path)?;
    let lines = series::of(&metas, &profile);
    let mut taker = begin(&profile, &lines).map_err(Failure::output)?;
    let mut tape = Tape::new(&metas, packs, part.requests, profile);
    if let Some(stretches) = part.stretches {
        tape = tape.within(&stretches);
    }
    if taker.wants_all_events() {
        tape = tape.telling_all_events();
    }
    drop((metas, lines));
    let mut said = Ok(());
    load::each(path, &reader, |record| {
        let mut out = |moment: Moment, profile: &Profile| taker.moment(&moment, profile);
        if said.is_ok() {
            said = match record {
                Record::Sample(sample) => tape.sample(sample, &mut out),
                Record::Switch(switch) => tape.switch(switch, &mut out),
                Record::Slots(ring, block) => {
                    tape.slots(*ring, block.first, &block.slots, &mut out)
                }
            };
        }
    })?;
    let mut out = |moment: Moment, profile: &Profile| taker.moment(&moment, profile);
    let profile = said.and_then(|()| tape.finish(&mut out));
    let done = profile.and_then(|profile| taker.finish(&profile));
    done.map_err(Failure::output)
}
