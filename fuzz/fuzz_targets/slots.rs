//! `cargo fuzz run slots`: see `bypassprof_fuzz::slots`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bypassprof_fuzz::slots(data));
