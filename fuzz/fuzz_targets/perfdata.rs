//! `cargo fuzz run perfdata`: see `bypassprof_fuzz::perfdata`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bypassprof_fuzz::perfdata(data));
