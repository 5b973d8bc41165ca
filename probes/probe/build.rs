//! Compiles the one C file: thread-local storage that C, Rust and loaded libraries share by name.

fn main() {
    #[cfg(feature = "enable")]
    {
        println!("cargo:rerun-if-changed=src/shared.c");
        cc::Build::new()
            .file("src/shared.c")
            .flag_if_supported("-fno-lto")
            .warnings(true)
            .warnings_into_errors(true)
            .compile("bypassprof_shared_v1");
    }
}
