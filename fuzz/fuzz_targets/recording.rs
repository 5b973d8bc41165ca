//! `cargo fuzz run recording`: see `bypassprof_fuzz::recording`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bypassprof_fuzz::recording(data));
