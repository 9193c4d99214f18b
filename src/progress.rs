//! How the library tells how far it has come; the command line decides whether to show it.

/// Receives progress of a long operation. Called from several threads.
pub trait Progress: Sync {
    /// A stage begins: what it does, and how many bytes of metadata it will go through (0: unknown).
    fn stage(&self, what: &str, total: u64);
    /// `bytes` more of the current stage are done.
    fn advance(&self, bytes: u64);
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&self, _what: &str, _total: u64) {}
    fn advance(&self, _bytes: u64) {}
}
