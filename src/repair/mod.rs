//! Mending what a check found.

/// What may be mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepairMode {
    /// Only counts that are too high.
    Leaks,
    /// Everything that can be mended without losing data.
    All,
}
