//! `cargo fuzz run core`: see `bypassprof_fuzz::core`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bypassprof_fuzz::core(data));
