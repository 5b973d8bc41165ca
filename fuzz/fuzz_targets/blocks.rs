//! `cargo fuzz run blocks`: see `bypassprof_fuzz::blocks`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bypassprof_fuzz::blocks(data));
