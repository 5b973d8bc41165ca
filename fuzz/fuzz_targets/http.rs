//! `cargo fuzz run http`: see `bypassprof_fuzz::http`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bypassprof_fuzz::http(data));
