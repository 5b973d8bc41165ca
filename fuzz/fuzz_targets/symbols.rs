//! `cargo fuzz run symbols`: see `bypassprof_fuzz::symbols`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bypassprof_fuzz::symbols(data));
