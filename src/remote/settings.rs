//! How servers are used.

use std::time::Duration;

/// How servers are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// How long a server has for one answer, and for each step of a connection: 30 seconds by
    /// default.
    pub timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30) }
    }
}

impl Settings {
    /// Settings with this time for an answer; 0 is taken as the shortest time that there is.
    pub fn with_timeout(timeout: Duration) -> Self {
        Self { timeout: timeout.max(Duration::from_millis(1)) }
    }
}
