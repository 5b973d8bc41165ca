//! `cargo fuzz run perfmap`: see `bypassprof_fuzz::perfmap`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bypassprof_fuzz::perfmap(data));
