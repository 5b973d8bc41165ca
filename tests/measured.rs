//! Tests of what is timed: programs that know how long their own parts took. A binary of their own, since Cargo runs one
//! after the other and whatever runs beside them takes time from what they time.

mod busy;
mod pipeline;
mod planted;
mod pollmix;
mod stages;
#[allow(
    dead_code,
    reason = "the other test binary uses what this one leaves out"
)]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

/// Measures one at a time, and again up to twice if the outcome is wrong: the rest of the machine disturbs, too, and an
/// error of ours shows every time.
fn in_peace(measure: impl Fn()) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..2 {
        if catch_unwind(AssertUnwindSafe(&measure)).is_ok() {
            return;
        }
    }
    measure();
}
