//! The atomics that the ring is made of: the machine's, or loom's when its models drive the same code.

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU64, Ordering, fence};

#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicU64, Ordering, fence};
