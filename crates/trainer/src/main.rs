//! The binary `wikigpt`.
fn main() {}
