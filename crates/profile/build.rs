//! Has the crate rebuilt when an embedded component changes: the macro that
//! embeds them does not tell cargo.
#![allow(clippy::print_stdout)] // this is how build scripts speak to cargo

fn main() {
    println!("cargo::rerun-if-changed=components");
    println!("cargo::rerun-if-changed=roles.toml");
}
