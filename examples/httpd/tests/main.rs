//! The integration tests: one binary, a module per question. The last four are no tests but what these have in common.

mod crash;
mod devices;
mod dpdk;
mod every;
mod fstack;
mod hostile;
mod ix;
mod linux;
mod mtcp;
mod payload;
mod plain;
mod points;
mod properties;
mod reasons;
mod tas;
mod watched;

mod events;
mod server;
mod traced;
mod veth;
