//! How many threads work.

use std::num::NonZero;
use std::thread;

/// Processors that this program may use; 1 where the system does not report them.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// The requested number of threads; for 0 one for each core.
pub fn or_cores(requested: usize) -> usize {
    if requested == 0 { cores() } else { requested }
}
