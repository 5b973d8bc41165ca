//! `cargo fuzz run headers`: see `bypassprof_fuzz::headers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bypassprof_fuzz::headers(data));
