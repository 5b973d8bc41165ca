//! `cargo fuzz run kallsyms`: see `bypassprof_fuzz::kallsyms`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bypassprof_fuzz::kallsyms(data));
