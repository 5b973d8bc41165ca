//! Requests on their way through threads and processes, and where each of them spent its time.
//!
//! In: the records of low rate and every ring's slots, block by block; out: [`Spans`]: how many requests, how they were
//! whole, split, pipelined, torn or cut off, and histograms of each stage and of the whole way. Work is told from
//! waiting at every hand-over. What the parts of a way are is in `stages`, what is told of them in `answer`, and how
//! events become that in `pass`.

mod answer;
pub mod flow;
pub mod order;
mod pass;
mod preempted;
mod queue;
mod stages;
mod stamp;
pub mod turns;
pub mod way;

pub use answer::{Counts, EventTrust, Slice, Spans, Timeline};
pub use flow::OnItsWay;
pub use pass::{Pass, Threshold, WINDOW};
pub use preempted::Preempted;
pub use stages::{BEHIND, Kind, OUTSIDE, PARTS, STAGES, Stage, TCP_IN, WAIT_APP};
