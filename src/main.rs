//! The `qcheck` command line.

fn main() {}
