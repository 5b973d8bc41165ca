//! `cargo fuzz run perfscript`: see `bypassprof_fuzz::perfscript`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bypassprof_fuzz::perfscript(data));
