//! How the library reports how far it has come, and how its caller cancels it; the command line
//! decides whether to show anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Receives progress of a long operation. Called from several threads.
pub trait Progress: Sync {
    /// A stage begins: what it does, and how many bytes of metadata it will go through (0:
    /// unknown).
    fn stage(&self, what: &str, total: u64);
    /// `bytes` more of the current stage are done.
    fn advance(&self, bytes: u64);
    /// Whether the operation is to end early, with
    /// [`Error::Cancelled`](crate::error::Error::Cancelled). Asked often and from several threads:
    /// it should only read a flag. Once it has returned `true` it is not asked again. A writer that
    /// is cancelled leaves what a crash would leave.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Shows nothing and is never cancelled.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&self, _what: &str, _total: u64) {}
    fn advance(&self, _bytes: u64) {}
}

/// Between a progress and the storage of an operation that has no cancellation of its own: once the
/// progress is cancelled, the storage refuses every access, which ends the operation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cancellation(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    is_wanted: AtomicBool,
    has_refused: AtomicBool,
}

impl Cancellation {
    /// The progress, asked whenever something is reported to it.
    pub fn watch<'a>(&self, progress: &'a dyn Progress) -> Watch<'a> {
        let watch = Watch { progress, cancellation: self.clone() };
        watch.ask();
        watch
    }

    /// Whether an access is to be refused; if so, the operation counts as cancelled.
    pub fn refuses(&self) -> bool {
        let is_wanted = self.0.is_wanted.load(Ordering::Relaxed);
        if is_wanted {
            self.0.has_refused.store(true, Ordering::Relaxed);
        }
        is_wanted
    }

    /// Whether an access was refused, so that what came out is worth nothing.
    pub fn has_refused(&self) -> bool {
        self.0.has_refused.load(Ordering::Relaxed)
    }
}

/// A progress that is asked whether it is cancelled.
pub(crate) struct Watch<'a> {
    progress: &'a dyn Progress,
    cancellation: Cancellation,
}

impl Watch<'_> {
    fn ask(&self) {
        let is_wanted = &self.cancellation.0.is_wanted;
        if !is_wanted.load(Ordering::Relaxed) && self.progress.is_cancelled() {
            is_wanted.store(true, Ordering::Relaxed);
        }
    }
}

impl Progress for Watch<'_> {
    fn stage(&self, what: &str, total: u64) {
        self.progress.stage(what, total);
        self.ask();
    }

    fn advance(&self, bytes: u64) {
        self.progress.advance(bytes);
        self.ask();
    }

    fn is_cancelled(&self) -> bool {
        self.ask();
        self.cancellation.0.is_wanted.load(Ordering::Relaxed)
    }
}
