//! Which clusters are in use and which are free, from the refcounts.

use std::ops::Range;

use crate::error::Result;
use crate::format::l2::Meaning;
use crate::format::refcount::counted;
use crate::format::{ClusterCount, HostCluster, ReftableIndex};

use super::references::{References, entries_of};
use crate::image::Image;
use crate::image::meta::Meta;
use crate::image::order::ordering::{Direction, Side};
use crate::image::run::ClusterRun;

/// Clusters at the end of the file that may move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    /// Where it begins: all clusters in use from here on are in it.
    pub(crate) first: HostCluster,
    /// The clusters, the last one first, each with its refcount. Those that are not moved one by
    /// one are left out: header, root tables, refcount blocks.
    pub(crate) clusters: Vec<(HostCluster, u64)>,
}

impl Image {
    /// The cluster after the last one in use.
    pub(crate) fn used_end(&self) -> Result<HostCluster> {
        self.meta()?.used_end()
    }

    /// How many clusters from `first` on are in use.
    pub(crate) fn used_from(&self, first: HostCluster) -> Result<ClusterCount> {
        let mut meta = self.meta()?;
        let mut used = ClusterCount::default();
        meta.each_used_block(|base, entries| {
            let inside = entries.iter().filter(|&&(n, _)| base + ClusterCount::new(n) >= first);
            used += ClusterCount::new(inside.count() as u64);
            true
        })?;
        Ok(used)
    }

    /// The last clusters in use before `end`, none before `first`: as many as have `most`
    /// references, at least one.
    pub(crate) fn window(&self, first: HostCluster, end: HostCluster, most: u64) -> Result<Window> {
        let mut meta = self.meta()?;
        let mut window = Window { first, clusters: Vec::new() };
        let mut references = 0;
        meta.each_used_block(|base, entries| {
            for &(n, count) in entries.iter().rev() {
                let cluster = base + ClusterCount::new(n);
                if cluster >= end {
                    continue;
                }
                if cluster < first {
                    return false;
                }
                window.clusters.push((cluster, count));
                references += count;
                if references >= most {
                    window.first = cluster;
                    return false;
                }
            }
            true
        })?;
        let regions = &meta.ordering.disk.regions;
        window.clusters.retain(|&(cluster, _)| !regions.is_fixed(cluster));
        Ok(window)
    }

    /// Up to `most` free clusters from `from` on and before `end`, in order. Each has a refcount
    /// block: one is added where that is missing.
    pub(crate) fn free_clusters(
        &self,
        from: HostCluster,
        end: HostCluster,
        most: usize,
    ) -> Result<Vec<HostCluster>> {
        let mut meta = self.meta()?;
        let mut found = Vec::new();
        let mut at = from;
        while found.len() < most && at < end {
            let (index, _) = meta.geometry.refcount_place(at);
            let next = meta.geometry.first_cluster_of_block(ReftableIndex::new(index.get() + 1));
            if meta.refblock(index)?.is_none() && !meta.describe_range(index, at, end)? {
                at = next;
                continue;
            }
            let run = ClusterRun::new(at, next.min(end) - at);
            let counts = meta.refcounts(run)?;
            let regions = &meta.ordering.disk.regions;
            let free = run.clusters().zip(counts).filter(|&(_, count)| count == 0);
            let free = free.map(|(cluster, _)| cluster).filter(|&c| !regions.is_owned(c));
            found.extend(free.take(most - found.len()));
            at = next;
        }
        Ok(found)
    }

    /// The refcount of a cluster.
    pub(crate) fn refcount_of(&self, cluster: HostCluster) -> Result<u64> {
        self.meta()?.refcount(cluster)
    }

    /// Whether nothing is in a cluster.
    pub(crate) fn is_free_cluster(&self, cluster: HostCluster) -> Result<bool> {
        self.meta()?.is_free(cluster)
    }

    /// Those of these clusters that no refcount block has taken meanwhile.
    pub(crate) fn still_free(&self, clusters: Vec<HostCluster>) -> Result<Vec<HostCluster>> {
        let mut meta = self.meta()?;
        let mut free = Vec::with_capacity(clusters.len());
        for cluster in clusters {
            if meta.is_free(cluster)? {
                free.push(cluster);
            }
        }
        Ok(free)
    }

    /// The clusters that some L2 tables refer to, in the order of the guest.
    pub(crate) fn data_clusters(
        &self,
        found: &References,
        tables: Range<usize>,
    ) -> Result<Vec<HostCluster>> {
        let meta = self.meta()?;
        let mut clusters = Vec::new();
        if meta.has_data_file() {
            return Ok(clusters);
        }
        for table in &found.tables[tables] {
            let bytes = meta.table_bytes(table.at)?;
            for entry in entries_of(&bytes, &self.geometry) {
                if let Meaning::Data(host) | Meaning::ZeroAllocated(host) =
                    entry.meaning(&self.geometry, false)
                {
                    clusters.push(self.geometry.cluster_floor(host));
                }
            }
        }
        Ok(clusters)
    }

    /// Hands out all runs of free clusters before `end`, in order.
    pub(crate) fn each_free_run(
        &self,
        end: HostCluster,
        mut take: impl FnMut(u64, u64) -> Result<()>,
    ) -> Result<()> {
        let mut at = HostCluster::new(0);
        let mut run = ClusterRun::new(at, ClusterCount::default());
        while at < end {
            let mut meta = self.meta()?;
            let (index, _) = meta.geometry.refcount_place(at);
            let next = meta.geometry.first_cluster_of_block(ReftableIndex::new(index.get() + 1));
            let piece = ClusterRun::new(at, next.min(end) - at);
            let counts = meta.refcounts(piece)?;
            let geometry = meta.geometry;
            let mut ended = Vec::new();
            for (cluster, count) in piece.clusters().zip(counts) {
                if count != 0 || meta.ordering.disk.regions.is_owned(cluster) {
                    continue;
                }
                if run.end() != cluster {
                    ended.push(std::mem::replace(&mut run, ClusterRun::one(cluster)));
                } else {
                    run.count += ClusterCount::new(1);
                }
            }
            drop(meta);
            for run in ended.into_iter().filter(|run| !run.is_empty()) {
                take(geometry.offset_of(run.first).get(), geometry.bytes_of(run.count))?;
            }
            at = next;
        }
        let geometry = self.geometry;
        if run.is_empty() {
            return Ok(());
        }
        take(geometry.offset_of(run.first).get(), geometry.bytes_of(run.count))
    }
}

impl Meta {
    /// Hands out the refcounts of each block that are not 0, with the first cluster that it
    /// describes, the last block first; until `take` returns `false`.
    fn each_used_block(
        &mut self,
        mut take: impl FnMut(HostCluster, &[(u64, u64)]) -> bool,
    ) -> Result<()> {
        let order = self.geometry.refcount_order();
        let blocks = self.ordering.root(Side::Refcounts).entries().len() as u64;
        let mut used = Vec::new();
        for index in (0..blocks).rev().map(ReftableIndex::new) {
            let Some(at) = self.refblock(index)? else { continue };
            let entries = 0..self.geometry.refblock_len();
            let block = self.ordering.glance(Side::Refcounts, at)?;
            used.clear();
            used.extend(counted(block, order, entries).map(|(n, count)| (n as u64, count)));
            if !take(self.geometry.first_cluster_of_block(index), &used) {
                break;
            }
        }
        Ok(())
    }

    /// Adds the refcount block of a range that has none, so that its clusters can be used; `false`
    /// where the block would leave none of them.
    fn describe_range(
        &mut self,
        index: ReftableIndex,
        from: HostCluster,
        end: HostCluster,
    ) -> Result<bool> {
        let first = self.geometry.first_cluster_of_block(index);
        let length = end.get().saturating_sub(first.max(from).get());
        if length < 2 || index.get() >= self.ordering.root(Side::Refcounts).entries().len() as u64 {
            return Ok(false);
        }
        self.announce_moves()?;
        self.prepare_refcounts()?;
        self.ordering.begin(Direction::RefcountsFirst)?;
        self.ensure_blocks(ClusterRun::one(first.next()))?;
        Ok(true)
    }
}
