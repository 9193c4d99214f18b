//! What the passes collect, and what a repair is planned from.

pub mod beyond;
pub mod context;
pub mod copied;
pub mod data;
pub mod extent;
pub mod mapping;
pub mod plausible;
pub mod refcount_map;
pub mod refcounts;
pub mod regions;
pub mod stored;
pub mod visits;

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use crate::check::report::CheckReport;
use crate::format::{HostCluster, HostOffset, L1Index, ReftableIndex};
use crate::tables::{HeaderArea, SnapshotTable};
use plausible::Plausible;
use refcount_map::RefcountMap;
use refcounts::Refcounts;
use regions::RegionMap;
use visits::Visits;

/// The result of a check with all that a repair is planned from.
pub struct Survey {
    /// What was found.
    pub report: CheckReport,
    /// The header and its extensions.
    pub area: HeaderArea,
    /// The snapshot table, of the extra data only what has a meaning.
    pub snapshots: SnapshotTable,
    /// The in-memory refcount table.
    pub map: Arc<RefcountMap>,
    /// References of tables that no L1 entry points to, and those that such tables make.
    pub claims: Arc<RefcountMap>,
    /// What such tables refer to past the end of the file, as far as it is kept.
    pub claims_beyond: Arc<RefcountMap>,
    /// References to clusters past the end of the file, as far as they are kept.
    pub beyond: Arc<RefcountMap>,
    /// References of the active disk to data clusters, each table's once.
    pub active: RefcountMap,
    /// References of compressed data, of all disks.
    pub compressed: RefcountMap,
    /// All metadata.
    pub regions: RegionMap,
    /// The refcount structures as they stand.
    pub refcounts: Refcounts,
    /// Refcount blocks with a refcount that is not as it should be, in order.
    pub differing: Vec<ReftableIndex>,
    /// Something is referenced where no refcount block is.
    pub missing_blocks: bool,
    /// A refcount is lower than the references require.
    pub too_low: bool,
    /// Clusters of the file without a refcount that can be relied on, in order.
    pub uncounted: Vec<Range<HostCluster>>,
    /// Refcount blocks of which most is lost: they were overwritten, or the refcount table points
    /// to something else.
    pub lost_blocks: Vec<ReftableIndex>,
    /// Whether refcounts that are too high stay as they are.
    pub held: bool,
    /// L2 tables in which most entries are damaged: something else was written there.
    pub garbage: HashSet<HostOffset>,
    /// Entries of the active L1 table whose COPIED flag is wrong, by their positions in `visits`.
    pub(super) wrong_l1_flags: Vec<u32>,
    /// Active L2 tables with a COPIED flag that is wrong.
    pub wrong_l2_flags: Vec<HostOffset>,
    /// The L1 entries that point to a table.
    pub visits: Visits,
    /// Which refcounts clusters can have.
    pub(crate) plausible: Plausible,
    /// The file's length in bytes.
    pub file_bytes: u64,
}

impl Survey {
    /// What was found alone: a survey of a large image takes much memory, and is dropped before the
    /// next one is made.
    pub fn into_report(self) -> CheckReport {
        self.report
    }

    /// The references, and those that lost tables would make; with `past_end`, those to clusters
    /// past the end of the file too.
    pub fn claimed(&self, past_end: bool) -> Arc<RefcountMap> {
        let past_end = if past_end { &[&self.beyond, &self.claims_beyond][..] } else { &[] };
        let mut all = Arc::clone(&self.map);
        let more = [&self.claims].into_iter().chain(past_end.iter().copied());
        for map in more.filter(|map| map.last().is_some()) {
            Arc::make_mut(&mut all).add_all(map);
        }
        all
    }

    /// Whether a cluster is in the file.
    pub fn has(&self, cluster: HostCluster) -> bool {
        self.area.geometry.offset_of(cluster).get() < self.file_bytes
    }

    /// Whether no refcount of this cluster can be relied on.
    pub fn is_uncounted(&self, cluster: HostCluster) -> bool {
        stored::is_within(&self.uncounted, cluster)
    }

    /// Active L1 entries whose COPIED flag is wrong, with their bits.
    pub fn wrong_l1_flags(&self) -> impl Iterator<Item = (L1Index, u64)> + '_ {
        let visits = self.wrong_l1_flags.iter().map(|&at| self.visits.get(at as usize));
        visits.map(|visit| (visit.index, visit.entry.0))
    }
}
