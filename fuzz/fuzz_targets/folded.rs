//! `cargo fuzz run folded`: see `bypassprof_fuzz::folded`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bypassprof_fuzz::folded(data));
