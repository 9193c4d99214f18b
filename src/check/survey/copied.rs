//! The COPIED flags of an L2 table in short.

use crate::format::{ClusterCount, HostCluster};

/// The COPIED flags of a table in short: 16 bytes, since an image has millions of tables.
#[derive(Debug, Clone, Copy, Default)]
pub struct CopiedSummary {
    /// Entries with the flag set, at most 2^18, with the two bits below.
    set: u32,
    /// Entries with the flag clear.
    pub clear: u32,
    /// The first run of clusters with the flag set; it ends where the next begins.
    first: HostCluster,
}

impl CopiedSummary {
    /// There is more than one run.
    const MANY_RUNS: u32 = 1 << 31;
    /// The entries have to be looked at one by one in any case.
    const LOOK_AGAIN: u32 = 1 << 30;

    pub fn add(&mut self, first: HostCluster, count: u32, copied: bool) {
        if !copied {
            self.clear += count;
            return;
        }
        if self.set() == 0 {
            self.first = first;
        } else if self.first + ClusterCount::new(u64::from(self.set())) != first {
            self.set |= Self::MANY_RUNS;
        }
        self.set += count;
    }

    /// The entries have to be looked at one by one in any case.
    pub const fn look_again(&mut self) {
        self.set |= Self::LOOK_AGAIN;
    }

    /// Entries with the flag set.
    pub const fn set(&self) -> u32 {
        self.set & !(Self::MANY_RUNS | Self::LOOK_AGAIN)
    }

    /// Whether the entries have to be looked at one by one in any case.
    pub const fn needs_look(&self) -> bool {
        self.set & Self::LOOK_AGAIN != 0
    }

    /// The clusters with the flag set, where they are one run.
    pub fn run(&self) -> Option<(HostCluster, ClusterCount)> {
        let is_one = self.set & Self::MANY_RUNS == 0;
        is_one.then(|| (self.first, ClusterCount::new(u64::from(self.set()))))
    }
}
