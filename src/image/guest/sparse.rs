//! Whether an image file has less space on the disk than its clusters take.

use crate::error::{Error, Result};
use crate::format::{ClusterCount, HostCluster, HostOffset};
use crate::image::Image;
use crate::image::run::ClusterRun;
use crate::storage::disk_usage;

/// Clusters whose refcounts are looked at together.
const PIECE: u64 = 1 << 16;

impl Image {
    /// Whether more clusters of the image file are in use than the file system keeps for it, by a
    /// tenth and at least two: then some of them were never written and are holes. `false` where
    /// that cannot be determined: the image is not a file, or was opened without its refcounts.
    pub(crate) fn is_sparse(&self) -> Result<bool> {
        let Some(file) = self.file.file() else { return Ok(false) };
        let stored = disk_usage(file).map_err(|e| Error::file("get the space in use", e))?;
        let stored = stored / self.geometry.cluster_bytes();
        let enough = (stored * 10 / 9).max(stored + 2);
        let length = self.file.len().map_err(|e| Error::file("get the length", e))?;
        let (_, all) = self.geometry.span(HostOffset::new(0), length);
        let mut meta = self.meta()?;
        let (mut used, mut first) = (0u64, 0);
        while first < all.get() && used < enough {
            let count = ClusterCount::new(PIECE.min(all.get() - first));
            let counts = meta.refcounts(ClusterRun::new(HostCluster::new(first), count))?;
            used += counts.iter().filter(|&&count| count > 0).count() as u64;
            first += count.get();
        }
        Ok(used >= enough)
    }
}
