//! The `backstay` binary.
fn main() {}
