//! The `gridgate` command line.
fn main() {}
