//! `cargo fuzz run packs`: see `bypassprof_fuzz::packs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bypassprof_fuzz::packs(data));
