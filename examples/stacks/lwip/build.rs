//! Looks for lwIP; where it is, compiles the shim and says so with `has_lwip`. Where it is not, the crate is built without.
//!
//! `BYPASSPROF_LWIP=no` in the environment builds without it on a machine that has it.

use std::path::Path;

/// Where Debian's liblwip-dev and a `make install` put the headers.
const HEADERS: [&str; 2] = ["/usr/include/lwip", "/usr/local/include/lwip"];

/// Of the probes, from here.
const OUR_HEADERS: &str = "../../../probes/capi/include";

fn main() {
    println!("cargo:rustc-check-cfg=cfg(has_lwip)");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/shim.c");
    println!("cargo:rerun-if-changed=src/shim.h");
    println!("cargo:rerun-if-env-changed=BYPASSPROF_LWIP");
    let variable = |name| std::env::var(name).unwrap_or_default();
    if variable("BYPASSPROF_LWIP") == "no" || variable("HOST") != variable("TARGET") {
        return;
    }
    let has = |place: &&&str| Path::new(place).join("lwipopts.h").exists();
    let Some(headers) = HEADERS.iter().find(has) else {
        // A path that is not there would have everything built anew each time: whoever installs the library is told.
        return;
    };
    println!("cargo:rerun-if-changed={headers}/lwipopts.h");
    let mut shim = cc::Build::new();
    shim.file("src/shim.c")
        .include(headers)
        .warnings(true)
        .warnings_into_errors(true);
    match variable("CARGO_FEATURE_PROBES").is_empty() {
        false => shim.include(variable("DEP_BYPASSPROF_INCLUDE")),
        // Nobody tells where the headers are then.
        true => shim.include(OUR_HEADERS).define("BYPASSPROF_OFF", None),
    };
    if shim_links(&shim) {
        shim.compile("bypassprof_lwip_shim");
        println!("cargo:rustc-link-lib=dylib=lwip");
        println!("cargo:rustc-cfg=has_lwip");
    }
}

/// Whether the C compiler finds the library: it answers with a path, or with the bare name.
fn shim_links(shim: &cc::Build) -> bool {
    let mut compiler = shim.get_compiler().to_command();
    let answer = compiler.arg("-print-file-name=liblwip.so").output();
    answer.is_ok_and(|answer| answer.stdout.contains(&b'/'))
}
