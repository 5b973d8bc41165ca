//! The engine segment by segment: what a peer sends, what it gets, and when; one test per clause that matters.

mod acks;
mod blind;
mod close;
mod flood;
mod frame;
mod handshake;
mod idle;
mod loss;
mod marks;
mod neighbours;
mod offload;
mod path;
mod peer;
mod quiet;
mod stamps;
mod windows;
