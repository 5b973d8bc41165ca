//! `cargo fuzz run ring`: see `bypassprof_fuzz::ring`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bypassprof_fuzz::ring(data));
