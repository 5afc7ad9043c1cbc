//! The developer's entry.
fn main() {}
