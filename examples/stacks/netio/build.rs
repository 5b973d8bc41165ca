//! Builds the C side of DPDK devices where the feature `dpdk` is on and the library is there.
//!
//! Without the library everything else builds; opening such a device then says how to get it. DPDK's calls are inline
//! functions and macros of C headers, so that a few lines of C have to stand between.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(has_dpdk)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/dpdk/shim.c");
    println!("cargo::rerun-if-env-changed=PKG_CONFIG_PATH");
    #[cfg(feature = "dpdk")]
    dpdk();
}

#[cfg(feature = "dpdk")]
fn dpdk() {
    let library = pkg_config::Config::new()
        .atleast_version("22.11")
        .cargo_metadata(false)
        .probe("libdpdk");
    let library = match library {
        Ok(library) => library,
        Err(error) => {
            let error = error.to_string();
            let reason = error.lines().next().unwrap_or_default();
            println!(
                "cargo::warning=built without DPDK: {reason}; try: apt-get install libdpdk-dev"
            );
            return;
        }
    };
    let mut build = cc::Build::new();
    build
        .file("src/dpdk/shim.c")
        .includes(&library.include_paths);
    // The headers' inline code needs what the library was built for.
    for flag in [
        "-include",
        "rte_config.h",
        "-Wno-unused-parameter",
        "-msse4.2",
    ] {
        build.flag_if_supported(flag);
    }
    build
        .define("ALLOW_EXPERIMENTAL_API", None)
        .warnings(true)
        .compile("netio_dpdk");
    for path in &library.link_paths {
        println!("cargo::rustc-link-search=native={}", path.display());
    }
    // The drivers, and what they need, are loaded at run time.
    for name in ["rte_ethdev", "rte_mbuf", "rte_mempool", "rte_eal"] {
        println!("cargo::rustc-link-lib=dylib={name}");
    }
    println!("cargo::rustc-cfg=has_dpdk");
}
