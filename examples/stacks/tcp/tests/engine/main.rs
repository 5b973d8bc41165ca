//! What the engine does, seen from outside: from the wire and from the application.

mod handshake;
mod hostile;
mod link;
mod transfer;
