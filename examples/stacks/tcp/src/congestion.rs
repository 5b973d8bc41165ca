//! How much may be in flight, and how fast: one trait, three ways to keep it.
//!
//! In: acknowledgements, losses, timeouts; out: a window in bytes, a rate. It refuses to know what was lost and to send.

mod cubic;
mod newreno;
mod rate;

use crate::config::{Congestion, Policy};
use crate::time::Time;
use cubic::Cubic;
use newreno::NewReno;
pub use rate::RateControl;
use rate::Rated;

/// No limit of ours.
const UNLIMITED: u32 = u32::MAX / 2;

/// What an acknowledgement of new data tells, outside recovery.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acked {
    /// Bytes acknowledged for the first time.
    pub bytes: u32,
    /// When it came.
    pub now: Time,
    /// Smoothed round-trip time in ns; 0 before the first measurement.
    pub rtt: u64,
    /// The window was made use of: one that was not does not grow (RFC 9438 5.8, RFC 7661's concern).
    pub limited: bool,
    /// The peer has seen congestion marked by the network (RFC 8257).
    pub marked: bool,
}

/// One connection's congestion control.
pub(crate) trait Control {
    /// Bytes that may be in flight.
    fn window(&self) -> u32;

    /// Bytes per second at which segments leave; 0: as fast as the window allows.
    fn rate(&self) -> u64 {
        0
    }

    /// New data was acknowledged.
    fn acknowledged(&mut self, acked: &Acked);

    /// Loss was found without a timeout, with `flight` bytes out.
    fn lost(&mut self, flight: u32);

    /// The retransmission timer went off with `flight` bytes out; `first` time for this data.
    fn timed_out(&mut self, flight: u32, first: bool);

    /// Full segments have another size from now on.
    fn segment_size(&mut self, mss: u32);
}

/// The control that a policy has chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Window {
    Unlimited,
    NewReno(NewReno),
    Cubic(Cubic),
    Rated(Rated),
}

impl Window {
    /// At the start of a connection whose first window has so many segments.
    pub fn new(policy: &Policy, mss: u32, segments: u32) -> Window {
        match policy.congestion {
            Congestion::None | Congestion::Rate { .. } => Window::Unlimited,
            Congestion::NewReno => Window::NewReno(NewReno::new(policy, mss, segments)),
            Congestion::Cubic => Window::Cubic(Cubic::new(policy, mss, segments)),
            Congestion::DctcpRate { initial, step } => Window::Rated(Rated::new(initial, step)),
        }
    }

    fn control(&mut self) -> Option<&mut dyn Control> {
        match self {
            Window::Unlimited => None,
            Window::NewReno(control) => Some(control),
            Window::Cubic(control) => Some(control),
            Window::Rated(control) => Some(control),
        }
    }

    /// Bytes that may be in flight.
    #[inline]
    pub fn bytes(&self) -> u32 {
        match self {
            Window::Unlimited => UNLIMITED,
            Window::NewReno(control) => control.window(),
            Window::Cubic(control) => control.window(),
            Window::Rated(control) => control.window(),
        }
    }

    /// Bytes per second; 0 is unlimited.
    #[inline]
    pub fn rate(&self) -> u64 {
        match self {
            Window::Rated(control) => control.rate(),
            _ => 0,
        }
    }

    /// See [`Control::acknowledged`].
    pub fn acknowledged(&mut self, acked: &Acked) {
        if let Some(control) = self.control() {
            control.acknowledged(acked);
        }
    }

    /// See [`Control::lost`].
    pub fn lost(&mut self, flight: u32) {
        if let Some(control) = self.control() {
            control.lost(flight);
        }
    }

    /// See [`Control::timed_out`].
    pub fn timed_out(&mut self, flight: u32, first: bool) {
        if let Some(control) = self.control() {
            control.timed_out(flight, first);
        }
    }

    /// See [`Control::segment_size`].
    pub fn segment_size(&mut self, mss: u32) {
        if let Some(control) = self.control() {
            control.segment_size(mss);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An acknowledgement of a window that was made use of.
    pub(super) fn acked(bytes: u32, ms: u64) -> Acked {
        Acked {
            bytes,
            now: Time::from_millis(ms),
            rtt: 1_000_000,
            limited: true,
            marked: false,
        }
    }
}
