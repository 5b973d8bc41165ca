//! The shim's functions: `shim.h` in Rust. All of them belong to the one thread that has the stack.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};

/// One accepted connection, the shim's own.
#[repr(C)]
pub struct ShimConn {
    _opaque: [u8; 0],
}

/// Sends one frame; 0 when there is no room.
pub type Output = unsafe extern "C" fn(*mut c_void, *const u8, usize) -> c_int;

#[repr(C)]
pub struct Plan {
    pub mac: [u8; 6],
    pub mtu: u16,
    pub ip: [u8; 4],
    pub mask: [u8; 4],
    pub port: u16,
    pub seed: u32,
    pub device: *mut c_void,
    pub output: Output,
}

unsafe extern "C" {
    pub fn shim_start(plan: *const Plan) -> c_int;
    pub fn shim_input(frame: *const u8, length: usize, stamp: u64);
    pub fn shim_timers() -> u32;
    pub fn shim_half_open() -> u32;
    pub fn shim_give_way(most: u32) -> u32;
    pub fn shim_reuse(peer: u32, peer_port: u16, seq: u32);
    pub fn shim_next_ready() -> *mut ShimConn;
    pub fn shim_index(conn: *const ShimConn) -> u32;
    pub fn shim_set_index(conn: *mut ShimConn, index: u32);
    pub fn shim_flow(conn: *const ShimConn) -> u32;
    pub fn shim_has_ended(conn: *const ShimConn) -> c_int;
    pub fn shim_is_over(conn: *const ShimConn) -> c_int;
    pub fn shim_receive(conn: *mut ShimConn, bytes: *mut u8, length: usize) -> usize;
    pub fn shim_send(conn: *mut ShimConn, bytes: *const u8, length: usize) -> usize;
    pub fn shim_end(conn: *mut ShimConn);
    pub fn shim_release(conn: *mut ShimConn);
}
