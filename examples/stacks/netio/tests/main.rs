//! The integration tests: one binary, a module per question. The last is no test but what these have in common.

mod devices;
mod dpdk;
mod offloads;
mod queues;
mod wrappers;

mod link;
