//! `cargo fuzz run device`: see `bypassprof_fuzz::device`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bypassprof_fuzz::device(data));
