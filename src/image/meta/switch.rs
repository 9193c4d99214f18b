//! What is known while a change of the whole image is built aside.

use crate::format::header::HeaderField;
use crate::format::snapshot::SnapshotEntry;
use crate::format::{Geometry, HostCluster, HostOffset};

use super::bitmaps::Bitmaps;
use crate::image::order::regions::Regions;
use crate::image::order::root::RootTable;
use crate::image::run::ClusterRun;

/// A change that is being built aside.
pub(in crate::image) struct Switch {
    pub(in crate::image) before: Before,
    /// What the header gets.
    pub(in crate::image) fields: Vec<(HeaderField, u64)>,
    /// The bitmap directory that the header gets, if it gets one.
    pub(in crate::image) directory: Option<HostOffset>,
    /// What is freed only after the switch.
    pub(in crate::image) free_after: Vec<ClusterRun>,
    /// New places of refcount blocks, themselves not yet counted.
    pub(in crate::image) uncounted: Vec<ClusterRun>,
    /// The first cluster that the change frees.
    pub(in crate::image) freed_from: HostCluster,
    /// A refcount block as the file has it.
    pub(in crate::image) old_block: (HostOffset, Vec<u8>),
}

/// The image as the file has it.
pub(in crate::image) struct Before {
    pub(in crate::image) l1: RootTable,
    pub(in crate::image) reftable: RootTable,
    pub(in crate::image) regions: Regions,
    pub(in crate::image) geometry: Geometry,
    pub(in crate::image) snapshots: Vec<SnapshotEntry>,
    pub(in crate::image) bitmaps: Option<Bitmaps>,
    pub(in crate::image) search_start: HostCluster,
    pub(in crate::image) packed_end: Option<HostOffset>,
    pub(in crate::image) gives_back: bool,
    pub(in crate::image) file_bytes: u64,
}
