//! What the fuzz targets do with their input. `fuzz/` runs these functions on inputs without end; `fuzz_seeds` runs
//! them on the seeds, and on every input that ever showed a fault.

pub mod check;
pub mod convert;
pub mod damage;
pub mod repair;
pub mod seeds;

use qcheck::check::CheckOptions;

/// Most bytes that an image may grow to while it is repaired or written.
const MOST_BYTES: usize = 64 << 20;

/// A target: its name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 3] =
    [("check", check::run), ("repair", repair::run), ("convert", convert::run)];

fn options() -> CheckOptions {
    CheckOptions::default().threads(1)
}
