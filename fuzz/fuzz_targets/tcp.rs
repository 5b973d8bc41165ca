//! `cargo fuzz run tcp`: see `bypassprof_fuzz::tcp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bypassprof_fuzz::tcp(data));
