//! Link options of the shared library.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Programs dlopen or link "libcuda.so.1"; the file name is cargo's.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcuda.so.1");
    // Its thread may be running when a program calls dlclose.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
