//! What makes the pipeline slower, by name: each on its own, of known length.
//!
//! In: a name; out: what the program does besides.

use bypassprof_probe::{Flow, PollLoop};

/// What is planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// Nothing: the pipeline as it is.
    Nothing,
}

impl Planted {
    /// By its name.
    pub fn of(name: &str) -> Planted {
        match name {
            "nothing" => Planted::Nothing,
            _ => panic!("nobody plants {name}"),
        }
    }

    /// After TCP has taken a request in.
    pub fn after_tcp(self, _flow: Flow) {}

    /// At the end of the application's work.
    pub fn in_application(self, _flow: Flow) {}

    /// Before replies are given to the device.
    pub fn before_drain(self, _rounds: &mut PollLoop, _frame: u32) {}
}
