//! A limit on how many bytes a second are read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The longest sleep before looking whether the work goes on.
const NAP: Duration = Duration::from_millis(100);

/// Bytes a second, for all threads together.
#[derive(Debug)]
pub(crate) struct Rate {
    bytes_per_second: u64,
    /// When the next bytes may be read.
    free_at: Mutex<Instant>,
}

impl Rate {
    /// A limit of at least one byte a second.
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), free_at: Mutex::new(Instant::now()) }
    }

    /// Waits until `bytes` may be read.
    pub(crate) fn take(&self, bytes: u64, cancel: &AtomicBool) {
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let start = (*free_at).max(Instant::now());
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        *free_at = start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 2));
        drop(free_at);
        while let Some(left) = start.checked_duration_since(Instant::now()) {
            if left.is_zero() || cancel.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(left.min(NAP));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_over_the_rate_wait() {
        let rate = Rate::new(1 << 20);
        let begin = Instant::now();
        let go_on = AtomicBool::new(false);
        rate.take(1 << 17, &go_on);
        assert!(begin.elapsed() < Duration::from_millis(100));
        rate.take(1, &go_on);
        assert!(begin.elapsed() >= Duration::from_millis(120));
        rate.take(1 << 40, &AtomicBool::new(true));
        rate.take(1, &AtomicBool::new(true));
        assert!(begin.elapsed() < Duration::from_secs(10));
    }
}
