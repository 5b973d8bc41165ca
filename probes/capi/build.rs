//! Tells dependent build scripts where the headers are.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:include={}/include", env!("CARGO_MANIFEST_DIR"));
}
