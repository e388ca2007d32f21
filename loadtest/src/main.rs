//! The `loadtest` command; everything is in the library.

fn main() {}
