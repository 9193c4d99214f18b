//! qcheck against qemu-img on the same images, as ratios.

fn main() {}
