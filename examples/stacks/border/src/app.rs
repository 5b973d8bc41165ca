//! What an application sees of a stack with plain calls: connections, and a turn on each that has news.
//!
//! In: the stack's connections; out: the application's calls on them. It refuses to know what is said on them.

use bypassprof_probe::Flow;

/// A connection in the application's turn.
pub trait Connection {
    /// A small number that no other connection has as long as this one lives.
    fn index(&self) -> usize;

    /// Whether this is its first turn.
    fn is_new(&self) -> bool;

    /// Its label in events.
    fn flow(&self) -> Flow;

    /// Copies received bytes out; 0 when there are none now.
    fn receive(&mut self, buffer: &mut [u8]) -> usize;

    /// Takes as many bytes as there is room for; `None` when nothing can be sent any more. Fewer than offered: a turn
    /// follows once there is room again.
    fn send(&mut self, bytes: &[u8]) -> Option<usize>;

    /// Nothing more will be sent: FIN after what was. Reading goes on.
    fn end(&mut self);

    /// The peer sends no more and all that it sent was read, or the connection is no more.
    fn has_ended(&self) -> bool;

    /// The application needs it no more; FIN follows what was sent. No turn comes after this one.
    fn finish(&mut self);
}

/// The application, called from inside the stack's loop.
pub trait App {
    /// A connection is new, has news, or is over. Nothing is received until this returns.
    fn turn(&mut self, conn: &mut impl Connection);
}
