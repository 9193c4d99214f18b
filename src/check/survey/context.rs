//! What the passes share.

use std::ops::Range;
use std::sync::Arc;

use super::beyond::Beyond;
use super::data;
use super::extent::Extent;
use super::plausible::Plausible;
use super::refcount_map::RefcountMap;
use super::regions::{Region, RegionMap};
use crate::check::report::collector::Collector;
use crate::check::report::{Allocation, Finding, Kind, Place, RegionKind};
use crate::check::{Assume, CheckOptions, Hold, parallel};
use crate::format::{ClusterCount, Geometry, HostCluster, HostOffset};
use crate::progress::Progress;
use crate::storage::{ReadAt, is_zero};
use crate::tables::{HeaderArea, SnapshotTable};

/// Leaked clusters whose content is looked at, at most.
pub const MAX_LOOKED_AT: usize = 1 << 14;

/// The file under check and what is known of it so far.
pub struct Context<'a> {
    /// The file.
    pub source: &'a dyn ReadAt,
    /// Receives every byte that was processed.
    pub progress: &'a dyn Progress,
    /// Threads that read and count.
    pub threads: usize,
    /// Whether entries that point into the middle of a cluster count for nothing: a repair corrects
    /// or holds them.
    pub skips_unaligned: bool,
    /// Whether a repair that follows keeps what may be lost.
    pub hold: Hold,
    /// The header and its extensions.
    pub area: HeaderArea,
    /// The sizes that follow from the header.
    pub geometry: Geometry,
    /// The file's length in bytes.
    pub true_bytes: u64,
    /// The file's length up to the end of its last 512-byte sector: by this one QEMU decides what
    /// is past the end.
    pub file_bytes: u64,
    /// The in-memory refcount table.
    pub map: Arc<RefcountMap>,
    /// What pointers claim past the end of the file.
    pub beyond: Beyond,
    /// All metadata.
    pub regions: RegionMap,
    /// The snapshot table, of the extra data only what has a meaning.
    pub snapshots: SnapshotTable,
    /// How the active disk is mapped.
    pub allocation: Allocation,
    /// The findings so far.
    pub found: Collector,
}

impl<'a> Context<'a> {
    /// A check's beginning.
    pub fn new(
        source: &'a dyn ReadAt,
        area: HeaderArea,
        file_bytes: u64,
        options: &CheckOptions,
        progress: &'a dyn Progress,
    ) -> Self {
        Self {
            source,
            progress,
            threads: parallel::threads(options.threads),
            skips_unaligned: options.assume == Assume::AllRepaired,
            hold: options.hold,
            geometry: area.geometry,
            beyond: Beyond::new(&area.geometry, file_bytes),
            area,
            true_bytes: file_bytes,
            file_bytes: file_bytes.next_multiple_of(512),
            map: Arc::default(),
            regions: RegionMap::default(),
            snapshots: SnapshotTable::default(),
            allocation: Allocation::default(),
            found: Collector::new(options.keep),
        }
    }

    /// Takes a finding.
    pub fn find(&mut self, kind: Kind, place: Place) {
        self.found.push(Finding::new(kind, place));
    }

    /// [`ReadAt::is_hole`] of the image.
    pub fn is_hole(&self, offset: HostOffset, bytes: u64) -> bool {
        self.source.is_hole(offset.get(), bytes)
    }

    /// The clusters of a range that are not holes. Where that cannot be found out they count as
    /// data.
    pub fn data_clusters(&self, range: Range<HostCluster>) -> impl Iterator<Item = HostCluster> {
        let end = range.end;
        let or_all = move |(at, _)| self.geometry.cluster_floor(at)..end;
        let runs = data::runs(self.source, &self.geometry, range);
        runs.flat_map(move |run| {
            let Range { start, end } = run.unwrap_or_else(or_all);
            (start.get()..end.get()).map(HostCluster::new)
        })
    }

    /// Whether a cluster is not all zeroes, or cannot be read.
    pub fn has_data(&self, cluster: HostCluster) -> bool {
        let mut bytes = [0; 4096];
        let at = self.geometry.offset_of(cluster);
        let length = self.geometry.cluster_len();
        (0..length).step_by(bytes.len()).any(|from| {
            let part = &mut bytes[..(length - from).min(4096)];
            let at = at.saturating_add(from as u64).get();
            self.source.peek_at(at, part).is_err() || !is_zero(part)
        })
    }

    /// The clusters of the file, the last one perhaps in part.
    pub fn file_clusters(&self) -> ClusterCount {
        self.geometry.clusters_for(self.file_bytes)
    }

    /// Clusters from this one on have no refcount to compare: they are past the file's end and
    /// nothing references them.
    pub fn compare_end(&self) -> HostCluster {
        let file_end = HostCluster::new(self.file_clusters().get());
        self.map.last().map_or(file_end, |last| last.next().max(file_end))
    }

    /// Which refcounts clusters can have.
    pub fn plausible(&self) -> Plausible {
        let snapshots = self.snapshots.entries.len() as u64;
        Plausible::new(&self.geometry, snapshots, self.allocation.compressed > 0)
    }

    /// How many of a structure's last bytes the file does not have, where it goes past the end by
    /// less than a cluster; more is reported as QEMU reports it. QEMU reads zeroes there.
    pub fn missing(&self, offset: HostOffset, bytes: u64) -> Option<u64> {
        let end = offset.saturating_add(bytes).get();
        let is_beyond = Extent::of(&self.geometry, self.file_bytes, offset, bytes).is_beyond();
        let missing = end.saturating_sub(self.true_bytes);
        (bytes > 0 && !is_beyond && missing > 0).then_some(missing)
    }

    /// Counts a reference to a metadata structure and remembers whose clusters these are.
    pub fn claim(&mut self, kind: RegionKind, offset: HostOffset, bytes: u64, place: Place) {
        let extent = Extent::of(&self.geometry, self.file_bytes, offset, bytes);
        if extent.is_beyond() {
            self.find(Kind::BeyondEnd { offset, bytes }, place);
        }
        // Structures of whole clusters are looked at once all are known.
        if matches!(kind, RegionKind::BitmapTable(_) | RegionKind::CryptoHeader) {
            if let Some(bytes) = self.missing(offset, bytes) {
                self.find(Kind::CutOff { owner: kind, bytes }, place);
            }
        }
        self.map.add(extent.first, extent.count, 1);
        // Refcount structures past the end are lost, and rebuilt elsewhere.
        if !matches!(kind, RegionKind::Reftable | RegionKind::Refblock) {
            self.beyond.add(&extent, 1);
        }
        self.add_region(kind, extent, extent.is_beyond());
    }

    /// Counts a reference to an extent.
    pub fn count(&self, extent: &Extent) {
        self.map.add(extent.first, extent.count, 1);
        self.beyond.add(extent, 1);
    }

    /// Remembers whose clusters these are; `told`: whether the pointer is reported as wrong
    /// already.
    pub fn add_region(&mut self, kind: RegionKind, extent: Extent, told: bool) {
        let Extent { first, count, .. } = extent;
        self.regions.add(&Region { first, count, kind, pointers: 1, told });
    }
}
