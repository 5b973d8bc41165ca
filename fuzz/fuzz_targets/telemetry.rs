//! `cargo fuzz run telemetry`: see `bypassprof_fuzz::telemetry`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bypassprof_fuzz::telemetry(data));
