//! The C interface: its generated header, and programs that use it.

mod header;
mod mixed;
mod session;
mod smoke;
