//! How many iterations of a key's derivation take a time, on this machine.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::crypt::hash::Hash;
use crate::error::{Error, Result};

/// Processor time that a measurement takes at least.
const LONG_ENOUGH: Duration = Duration::from_millis(50);
/// Iterations that are tried first, and the fewest that a header has (QEMU's limit).
const FEWEST: u32 = 1000;

/// Iterations that derive a key of so many bytes in this processor time.
///
/// Fails with [`Error::Refused`], in QEMU's words, where they are more than a header can have.
pub(super) fn iterations(hash: Hash, key_bytes: usize, time: Duration) -> Result<u32> {
    let mut key = vec![0; key_bytes];
    let mut tried = FEWEST;
    let taken = loop {
        let start = now();
        hash.derive(b"", b"", tried, &mut key);
        let taken = now().saturating_sub(start);
        // Less time than what is requested is enough, too.
        if taken >= LONG_ENOUGH.min(time) || tried > u32::MAX / 4 {
            break taken;
        }
        tried *= 2;
    };
    let taken = taken.as_nanos().max(1);
    let count = u128::from(tried) * time.as_nanos() / taken;
    let count = u32::try_from(count).map_err(|_| {
        let most = u32::MAX;
        let why = "Numerical result out of range";
        Error::Refused(format!("PBKDF iterations {count} larger than {most}: {why}"))
    })?;
    Ok(count.max(FEWEST))
}

/// Processor time of this thread: what other programs use does not make keys weaker.
fn now() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}
