//! `cargo fuzz run events`: see `bypassprof_fuzz::events`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bypassprof_fuzz::events(data));
