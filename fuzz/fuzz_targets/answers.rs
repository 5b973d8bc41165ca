//! `cargo fuzz run answers`: see `bypassprof_fuzz::answers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bypassprof_fuzz::answers(data));
