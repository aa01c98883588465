//! Gives the shared library the name that it is installed under, so that programs ask for it by that name.
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    if is("CARGO_CFG_TARGET_OS", "linux") || is("CARGO_CFG_TARGET_OS", "android") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libattune.so");
    }
}
